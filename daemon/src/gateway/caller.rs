//! Caller: who sent a request, and what a principal may do with an endpoint.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use edgeward_base::names::Principal;
use serde::{Deserialize, Serialize};

/// Members may do everything with every endpoint, and make new ones.
pub const ADMINS: &str = "admins";

/// Everybody who has a token is a member.
pub const USERS: &str = "users";

/// What a principal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    #[default]
    User,
    /// A program.
    ServicePrincipal,
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's principal.
    pub principal: Principal,
    /// What it is.
    pub kind: PrincipalKind,
    /// The groups that it is a member of; every caller is one of [`USERS`] too.
    pub groups: Arc<[Principal]>,
}

impl Caller {
    /// Whether the caller is a member of `group`.
    #[must_use]
    pub fn is_in(&self, group: &Principal) -> bool {
        group.as_str() == USERS || self.groups.contains(group)
    }

    /// Whether the caller may do everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group.as_str() == ADMINS)
    }
}

/// What may be done with an endpoint. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PermissionLevel {
    /// See it and what it has done.
    View,
    /// Ask it.
    Query,
    /// Change and delete it.
    Manage,
}

impl PermissionLevel {
    /// All levels, the least first.
    pub const ALL: [Self; 3] = [Self::View, Self::Query, Self::Manage];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "CAN_VIEW",
            Self::Query => "CAN_QUERY",
            Self::Manage => "CAN_MANAGE",
        }
    }
}

impl fmt::Display for PermissionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PermissionLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|level| level.as_str() == text).ok_or(())
    }
}

/// To whom something is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grantee {
    /// A person.
    User(Principal),
    /// All members of a group.
    Group(Principal),
    /// A program.
    ServicePrincipal(Principal),
}

impl Grantee {
    /// Whether the caller is meant.
    #[must_use]
    pub fn means(&self, caller: &Caller) -> bool {
        match self {
            Self::User(name) => caller.kind == PrincipalKind::User && *name == caller.principal,
            Self::ServicePrincipal(name) => {
                caller.kind == PrincipalKind::ServicePrincipal && *name == caller.principal
            }
            Self::Group(name) => caller.is_in(name),
        }
    }
}

/// What somebody may do with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who.
    pub to: Grantee,
    /// What.
    pub level: PermissionLevel,
}

/// The most that these grants allow the caller, beside what administrators may.
#[must_use]
pub fn granted(caller: &Caller, grants: &[Grant]) -> Option<PermissionLevel> {
    if caller.is_admin() {
        return Some(PermissionLevel::Manage);
    }
    let own = grants.iter().filter(|grant| grant.to.means(caller));
    own.map(|grant| grant.level).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str, kind: PrincipalKind, groups: &[&str]) -> Caller {
        Caller {
            principal: name.parse().unwrap(),
            kind,
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_most_that_is_granted_counts() {
        use PermissionLevel::{Manage, Query, View};
        use PrincipalKind::{ServicePrincipal, User};
        let name = |text: &str| text.parse::<Principal>().unwrap();
        let grants = [
            (Grantee::Group(name(USERS)), View),
            (Grantee::User(name("ann")), Query),
            (Grantee::ServicePrincipal(name("bot")), Query),
            (Grantee::Group(name("ops")), Manage),
        ]
        .map(|(to, level)| Grant { to, level });
        for (caller, level) in [
            (caller("ann", User, &[]), Query),
            (caller("ann", ServicePrincipal, &[]), View),
            (caller("bot", ServicePrincipal, &[]), Query),
            (caller("bot", User, &["ops"]), Manage),
            (caller("eve", User, &["other"]), View),
            (caller("eve", User, &[ADMINS]), Manage),
        ] {
            assert_eq!(granted(&caller, &grants), Some(level), "{caller:?}");
        }
        assert_eq!(granted(&caller("ann", User, &[]), &[]), None);
        assert_eq!(granted(&caller("ann", User, &[ADMINS]), &[]), Some(Manage));
    }

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in PermissionLevel::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("can_view".parse::<PermissionLevel>().is_err());
    }
}
