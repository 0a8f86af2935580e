//! Limits: how many calls and tokens an endpoint takes in a minute, and of whom.
//!
//! A minute is one of the process's own, counted from its start: when it ends, all counts begin again. A
//! call is counted when it is let through; its tokens are counted when they are known, so that the call
//! that crosses a limit of tokens is answered and the next ones are not. A limit of the endpoint holds
//! for all calls together. Of the others, the most particular one that means the caller decides: the one
//! of its own name, else those of its groups (it is enough that one of them has room), else the one that
//! each caller has for itself.
//!
//! Read and counted without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use edgeward_base::names::Principal;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, PrincipalKind};

/// The renewal period, which is the only one.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// What a limit is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKey {
    /// All calls of the endpoint together.
    Endpoint,
    /// The calls of each caller by itself.
    EachUser,
    /// The calls of this person.
    User(Principal),
    /// The calls of all members of this group together.
    Group(Principal),
    /// The calls of this program.
    ServicePrincipal(Principal),
}

/// One limit. At least one of its two numbers is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// What it is of.
    pub key: LimitKey,
    /// Calls in a minute.
    pub calls: Option<u64>,
    /// Tokens in a minute.
    pub tokens: Option<u64>,
}

/// A call that is over a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose} limit of {most} {what} a minute is reached: come again in {after_seconds} s")]
pub struct OverLimit {
    /// Whose limit.
    pub whose: String,
    /// The limit.
    pub most: u64,
    /// `calls` or `tokens`.
    pub what: &'static str,
    /// When the minute is over.
    pub after_seconds: u32,
}

/// What was counted in one minute: the number of the minute in the upper 24 bits, which are 31 years, the
/// count below.
#[derive(Debug, Default)]
pub(super) struct Minute(AtomicU64);

const COUNT_BITS: u32 = 40;
const MOST: u64 = (1 << COUNT_BITS) - 1;

impl Minute {
    /// What was counted in `minute` so far. Who comes late to a minute that is over counts in the next.
    fn count(&self, minute: u64) -> u64 {
        let packed = self.0.load(Ordering::Relaxed);
        if packed >> COUNT_BITS >= minute {
            packed & MOST
        } else {
            0
        }
    }

    /// Counts `more`, if `most` allows; unless it does, nothing is counted.
    pub(super) fn take(&self, minute: u64, more: u64, most: u64) -> bool {
        let counted = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                let stored = packed >> COUNT_BITS;
                let count = if stored >= minute { packed & MOST } else { 0 };
                let count = count.checked_add(more).filter(|count| *count <= most)?;
                Some(stored.max(minute) << COUNT_BITS | count.min(MOST))
            });
        counted.is_ok()
    }
}

/// The counts of one limit, or of one caller under [`LimitKey::EachUser`].
#[derive(Debug, Default)]
struct Counts {
    calls: Minute,
    tokens: Minute,
}

/// Counts by caller.
type ByCaller = HashMap<(PrincipalKind, Principal), Arc<Counts>>;

/// One limit with its counts.
#[derive(Debug)]
struct Counted {
    limit: RateLimit,
    shared: Arc<Counts>,
    each: Arc<ArcSwap<ByCaller>>,
}

impl Counted {
    fn counts(&self, caller: &Caller) -> Arc<Counts> {
        if self.limit.key != LimitKey::EachUser {
            return Arc::clone(&self.shared);
        }
        let key = (caller.kind, caller.principal.clone());
        if let Some(known) = self.each.load().get(&key) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(Counts::default());
        self.each.rcu(|all| {
            let mut all = ByCaller::clone(all);
            all.entry(key.clone()).or_insert_with(|| Arc::clone(&fresh));
            all
        });
        self.each.load().get(&key).map_or(fresh, Arc::clone)
    }

    /// Why the call is over this limit; it is counted when it is not.
    fn take(&self, caller: &Caller, now: Duration) -> Result<(), OverLimit> {
        let minute = now.as_secs() / PERIOD.as_secs();
        let counts = self.counts(caller);
        let over = |what, most| OverLimit {
            whose: self.whose(),
            most,
            what,
            after_seconds: after(now),
        };
        if let Some(most) = self
            .limit
            .tokens
            .filter(|most| counts.tokens.count(minute) >= *most)
        {
            return Err(over("tokens", most));
        }
        match self.limit.calls {
            Some(most) if !counts.calls.take(minute, 1, most) => Err(over("calls", most)),
            _ => Ok(()),
        }
    }

    fn whose(&self) -> String {
        match &self.limit.key {
            LimitKey::Endpoint => "the endpoint's".to_owned(),
            LimitKey::EachUser => "each caller's".to_owned(),
            LimitKey::User(name) => format!("user {name}'s"),
            LimitKey::Group(name) => format!("group {name}'s"),
            LimitKey::ServicePrincipal(name) => format!("service principal {name}'s"),
        }
    }
}

/// Whole seconds until the minute is over.
pub(super) fn after(now: Duration) -> u32 {
    let left = PERIOD.as_secs() - now.as_secs() % PERIOD.as_secs();
    u32::try_from(left).unwrap_or(1).max(1)
}

/// The limits of one endpoint with their counts.
#[derive(Debug, Default)]
pub struct Limits(Vec<Counted>);

impl Limits {
    /// New limits. What was counted under the same key before stays counted.
    #[must_use]
    pub(super) fn renewed(limits: &[RateLimit], before: Option<&Self>) -> Self {
        let counted = limits.iter().map(|limit| {
            let same = before.and_then(|before| {
                let mut all = before.0.iter();
                all.find(|counted| counted.limit.key == limit.key)
            });
            Counted {
                limit: limit.clone(),
                shared: same.map_or_else(Arc::default, |same| Arc::clone(&same.shared)),
                each: same.map_or_else(Arc::default, |same| Arc::clone(&same.each)),
            }
        });
        Self(counted.collect())
    }

    /// Whether every call is let through: then nobody needs to know the time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The limits themselves.
    pub fn iter(&self) -> impl Iterator<Item = &RateLimit> {
        self.0.iter().map(|counted| &counted.limit)
    }

    /// Counts a call at `now`, on the process's own clock.
    ///
    /// # Errors
    /// [`OverLimit`]; the call may be counted under another limit all the same, which errs on the side
    /// of fewer calls.
    pub fn take(&self, caller: &Caller, now: Duration) -> Result<(), OverLimit> {
        match self.deciding(caller) {
            Some(Deciding::All(mut limits)) => {
                limits.try_for_each(|limit| limit.take(caller, now))?;
            }
            Some(Deciding::Any(groups)) => any_has_room(groups, caller, now)?,
            None => {}
        }
        let mut whole = self
            .0
            .iter()
            .filter(|one| one.limit.key == LimitKey::Endpoint);
        whole.try_for_each(|limit| limit.take(caller, now))
    }

    /// Counts the tokens of a call that was let through.
    pub fn spend(&self, caller: &Caller, tokens: u64, now: Duration) {
        let minute = now.as_secs() / PERIOD.as_secs();
        let spend = |one: &Counted| {
            if one.limit.tokens.is_some() {
                one.counts(caller).tokens.take(minute, tokens, u64::MAX);
            }
        };
        match self.deciding(caller) {
            Some(Deciding::All(limits)) => limits.for_each(spend),
            Some(Deciding::Any(groups)) => {
                // Those of the group that has room, as its calls are.
                let groups: Vec<&Counted> = groups.collect();
                let room = |one: &&&Counted| {
                    let count = one.counts(caller).tokens.count(minute);
                    one.limit.tokens.is_none_or(|most| count < most)
                };
                let charged = groups.iter().find(room).or_else(|| groups.first());
                charged.copied().into_iter().for_each(spend);
            }
            None => {}
        }
        let whole = self
            .0
            .iter()
            .filter(|one| one.limit.key == LimitKey::Endpoint);
        whole.for_each(spend);
    }

    /// The limits that decide about the caller, beside the endpoint's own.
    fn deciding<'l>(&'l self, caller: &'l Caller) -> Option<Deciding<'l>> {
        let of = |wanted: fn(&LimitKey, &Caller) -> bool| {
            let meant = move |one: &&Counted| wanted(&one.limit.key, caller);
            let found = self.0.iter().filter(meant);
            let there = found.clone().next().is_some();
            there.then(|| Box::new(found) as Box<dyn Iterator<Item = &'l Counted> + 'l>)
        };
        of(is_own)
            .map(Deciding::All)
            .or_else(|| of(is_of_group).map(Deciding::Any))
            .or_else(|| of(|key, _| *key == LimitKey::EachUser).map(Deciding::All))
    }
}

/// Limits that decide about a caller.
enum Deciding<'l> {
    /// All of them must have room.
    All(Box<dyn Iterator<Item = &'l Counted> + 'l>),
    /// One of them must.
    Any(Box<dyn Iterator<Item = &'l Counted> + 'l>),
}

/// Lets a call through if one of these limits has room for it.
fn any_has_room<'l>(
    limits: impl Iterator<Item = &'l Counted>,
    caller: &Caller,
    now: Duration,
) -> Result<(), OverLimit> {
    let mut full = None;
    for limit in limits {
        match limit.take(caller, now) {
            Ok(()) => return Ok(()),
            Err(over) => full = Some(over),
        }
    }
    full.map_or(Ok(()), Err)
}

fn is_own(key: &LimitKey, caller: &Caller) -> bool {
    match key {
        LimitKey::User(name) => caller.kind == PrincipalKind::User && *name == caller.principal,
        LimitKey::ServicePrincipal(name) => {
            caller.kind == PrincipalKind::ServicePrincipal && *name == caller.principal
        }
        LimitKey::Endpoint | LimitKey::EachUser | LimitKey::Group(_) => false,
    }
}

fn is_of_group(key: &LimitKey, caller: &Caller) -> bool {
    matches!(key, LimitKey::Group(name) if caller.is_in(name))
}

#[cfg(test)]
mod tests;
