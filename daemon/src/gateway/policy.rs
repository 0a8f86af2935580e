//! Policies: who may do what with an endpoint, and how often.
//!
//! One record for each endpoint whose policy somebody set; any other has the one that
//! [`Policy::default`] describes. Kept by the endpoint's id, which no other endpoint ever has: a policy may
//! be written before its endpoint is made and taken away after it is gone, and an endpoint that gets a name
//! again gets nothing with it. The request path reads an immutable map by an atomic pointer: no lock, no disk.
//!
//! A change runs in a task of its own, so that it comes to its end also when whoever asked has gone: what is
//! durable is in force.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::caller::{Grant, Grantee, PermissionLevel, USERS};
use super::limit::{Limits, RateLimit};
use crate::store::{Change, ChangeError, CommitStoreError, ReadStoreError, Record, Store};
use crate::tasks::{JoinTaskError, Tasks};

#[cfg(test)]
mod tests;

/// The most grants of an endpoint: every request looks at all of them.
pub const MOST_GRANTS: usize = 100;

/// What the store keeps of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The key: the endpoint's id.
    pub endpoint: Arc<str>,
    /// Who may do what; `None` as long as nobody said.
    pub grants: Option<Vec<Grant>>,
    /// How often it may be asked.
    pub limits: Vec<RateLimit>,
}

impl Record for PolicyRecord {
    const TABLE: &'static str = "policies";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.endpoint.to_string()
    }
}

/// The policy of one endpoint.
#[derive(Debug)]
pub struct Policy {
    /// Who may do what, beside administrators and whoever made the endpoint.
    pub grants: Vec<Grant>,
    /// Whether somebody set the grants.
    set: bool,
    /// How often it may be asked.
    pub limits: Limits,
}

impl Default for Policy {
    /// Whoever has a token may ask the endpoint, without limits.
    fn default() -> Self {
        Self {
            grants: everybody_asks(),
            set: false,
            limits: Limits::default(),
        }
    }
}

fn everybody_asks() -> Vec<Grant> {
    // `users` is a valid name.
    let users = USERS.parse().ok().map(|users| Grant {
        to: Grantee::Group(users),
        level: PermissionLevel::Query,
    });
    users.into_iter().collect()
}

impl Policy {
    fn of(record: &PolicyRecord, before: Option<&Self>) -> Self {
        Self {
            set: record.grants.is_some(),
            grants: record.grants.clone().unwrap_or_else(everybody_asks),
            limits: Limits::renewed(&record.limits, before.map(|before| &before.limits)),
        }
    }

    fn record(&self, endpoint: &str) -> PolicyRecord {
        PolicyRecord {
            endpoint: endpoint.into(),
            grants: self.set.then(|| self.grants.clone()),
            limits: self.limits.iter().cloned().collect(),
        }
    }
}

/// Why the stored policies could not be read at start.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the stored policies of endpoints")]
pub struct LoadPoliciesError(#[source] ReadStoreError);

/// Why a policy could not be changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangePolicyError {
    /// It cannot be written as a record.
    #[error("the policy cannot be stored")]
    Record(#[from] ChangeError),
    /// The store did not take it.
    #[error("the policy was not stored")]
    Store(#[source] CommitStoreError),
    /// The endpoint would have more grants than requests should look at.
    #[error("an endpoint has at most {MOST_GRANTS} grants")]
    TooMany,
    /// The process is shutting down.
    #[error("the change of the policy was given up")]
    Task(#[from] JoinTaskError),
}

/// The policies of all endpoints. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    tasks: Tasks,
    known: ArcSwap<Known>,
    default: Arc<Policy>,
    /// One change at a time, so that the map is what the store holds.
    changing: Mutex<()>,
}

/// Policies by the ids of their endpoints.
type Known = HashMap<Arc<str>, Arc<Policy>>;

impl Policies {
    /// Reads the policies from the store. Changes run on `tasks`.
    ///
    /// # Errors
    /// [`LoadPoliciesError`].
    pub fn load(store: Store, tasks: &Tasks) -> Result<Self, LoadPoliciesError> {
        let records: Vec<PolicyRecord> = store.list().map_err(LoadPoliciesError)?;
        let known = records.iter().map(|record| {
            (
                Arc::clone(&record.endpoint),
                Arc::new(Policy::of(record, None)),
            )
        });
        Ok(Self(Arc::new(Inner {
            known: ArcSwap::from_pointee(known.collect()),
            default: Arc::default(),
            changing: Mutex::new(()),
            tasks: tasks.clone(),
            store,
        })))
    }

    /// The policy of the endpoint with that id. Takes no lock.
    #[must_use]
    pub fn of(&self, endpoint: &str) -> Arc<Policy> {
        let known = self.0.known.load();
        known.get(endpoint).unwrap_or(&self.0.default).clone()
    }

    /// Says who may do what with an endpoint.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn set_grants(
        &self,
        endpoint: &str,
        grants: Vec<Grant>,
    ) -> Result<(), ChangePolicyError> {
        let edit = |record: &mut PolicyRecord| record.grants = Some(grants);
        self.change(endpoint, edit).await
    }

    /// Puts these grants in the place of those to the same grantees.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn merge_grants(
        &self,
        endpoint: &str,
        changed: Vec<Grant>,
    ) -> Result<(), ChangePolicyError> {
        let edit = |record: &mut PolicyRecord| {
            let mut grants = record.grants.take().unwrap_or_else(everybody_asks);
            grants.retain(|grant| changed.iter().all(|new| new.to != grant.to));
            grants.extend(changed);
            record.grants = Some(grants);
        };
        self.change(endpoint, edit).await
    }

    /// Says how often an endpoint may be asked; from the next request on.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn set_limits(
        &self,
        endpoint: &str,
        limits: Vec<RateLimit>,
    ) -> Result<(), ChangePolicyError> {
        let edit = |record: &mut PolicyRecord| record.limits = limits;
        self.change(endpoint, edit).await
    }

    /// Forgets the policies of endpoints that `exists` does not know: those that were deleted, and those
    /// that were never made.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn retain(
        &self,
        exists: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), ChangePolicyError> {
        let inner = Arc::clone(&self.0);
        let task = async move { inner.retain(exists).await };
        self.0.tasks.spawn("policies", task).join().await?
    }

    /// Forgets the policy of an endpoint.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn forget(&self, endpoint: &str) -> Result<(), ChangePolicyError> {
        let gone = endpoint.to_owned();
        self.retain(move |known| known != gone).await
    }

    async fn change(
        &self,
        endpoint: &str,
        edit: impl FnOnce(&mut PolicyRecord) + Send + 'static,
    ) -> Result<(), ChangePolicyError> {
        let (inner, endpoint) = (Arc::clone(&self.0), Arc::from(endpoint));
        let task = async move { inner.change(endpoint, edit).await };
        self.0.tasks.spawn("policies", task).join().await?
    }
}

impl Inner {
    async fn retain(&self, exists: impl Fn(&str) -> bool) -> Result<(), ChangePolicyError> {
        let _changing = self.changing.lock().await;
        let mut known = Known::clone(&self.known.load());
        let mut change = Change::new();
        known.retain(|endpoint, _| {
            let kept = exists(endpoint);
            if !kept {
                change = std::mem::take(&mut change).delete::<PolicyRecord>(endpoint);
            }
            kept
        });
        if change.is_empty() {
            return Ok(());
        }
        self.commit(change).await?;
        self.known.store(Arc::new(known));
        Ok(())
    }

    async fn change(
        &self,
        endpoint: Arc<str>,
        edit: impl FnOnce(&mut PolicyRecord),
    ) -> Result<(), ChangePolicyError> {
        let _changing = self.changing.lock().await;
        let mut known = Known::clone(&self.known.load());
        let before = known.get(&endpoint).unwrap_or(&self.default);
        let mut record = before.record(&endpoint);
        edit(&mut record);
        if record
            .grants
            .as_ref()
            .is_some_and(|grants| grants.len() > MOST_GRANTS)
        {
            return Err(ChangePolicyError::TooMany);
        }
        let policy = Arc::new(Policy::of(&record, Some(before)));
        self.commit(Change::new().put(&record)?).await?;
        known.insert(endpoint, policy);
        self.known.store(Arc::new(known));
        Ok(())
    }

    async fn commit(&self, change: Change) -> Result<(), ChangePolicyError> {
        let committed = self.store.commit(change).await;
        committed.map(drop).map_err(ChangePolicyError::Store)
    }
}
