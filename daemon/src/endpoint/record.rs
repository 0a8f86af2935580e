//! What the store keeps of endpoints: one record each, and one for the fleet's last word on all.
//!
//! Written by the owner alone. States are not stored: they follow from what is (see
//! [`EndpointRecord`]'s fields) when the process starts again.

use std::collections::BTreeMap;
use std::fmt;

use edgeward_base::digest::{Digest, DigestHasher};
use edgeward_base::names::{EndpointName, ModelRef, Principal, ServedEntityName};
use edgeward_wire::ack::Rejection;
use edgeward_wire::ordering::Generation;
use serde::{Deserialize, Serialize};

use crate::endpoint::about::About;
use crate::endpoint::config::EndpointConfig;
use crate::store::{DecodeRecordError, Record};

/// One serving endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The key: names are unique on a box.
    pub name: EndpointName,
    /// Stays for the endpoint's life, whatever is changed.
    pub id: EndpointId,
    /// Who created it.
    pub creator: Creator,
    /// Milliseconds since 1970, UTC.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970, UTC: the last change that was accepted.
    pub last_updated_timestamp: i64,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Whether a local edit stands over what the registry wants.
    pub drift: bool,
    /// What serves, or is to serve again after a restart.
    pub applied: Option<AppliedConfig>,
    /// The last change, where it is not applied.
    pub change: Option<UnappliedChange>,
    /// What people say of it.
    pub about: About,
}

impl Record for EndpointRecord {
    const TABLE: &'static str = "endpoints";
    const SCHEMA: u16 = 2;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn decode(schema: u16, payload: &[u8]) -> Result<Self, DecodeRecordError> {
        match schema {
            1 => postcard::from_bytes::<EndpointRecord1>(payload)
                .map(Self::from)
                .map_err(DecodeRecordError::Payload),
            Self::SCHEMA => postcard::from_bytes(payload).map_err(DecodeRecordError::Payload),
            found => Err(DecodeRecordError::Schema {
                found,
                known: Self::SCHEMA,
            }),
        }
    }
}

/// Layout 1: nothing was said of endpoints.
#[derive(Deserialize)]
struct EndpointRecord1 {
    name: EndpointName,
    id: EndpointId,
    creator: Creator,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    managed_by: ManagedBy,
    drift: bool,
    applied: Option<AppliedConfig>,
    change: Option<UnappliedChange>,
}

impl From<EndpointRecord1> for EndpointRecord {
    fn from(old: EndpointRecord1) -> Self {
        Self {
            name: old.name,
            id: old.id,
            creator: old.creator,
            creation_timestamp: old.creation_timestamp,
            last_updated_timestamp: old.last_updated_timestamp,
            managed_by: old.managed_by,
            drift: old.drift,
            applied: old.applied,
            change: old.change,
            about: About::default(),
        }
    }
}

/// A configuration that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedConfig {
    /// Counts the configurations that were applied, from 1.
    pub version: u64,
    /// Milliseconds since 1970, UTC.
    pub applied_timestamp: i64,
    /// The configuration.
    pub config: EndpointConfig,
}

/// A change that is not applied: accepted and still to be staged, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnappliedChange {
    /// What was asked for.
    pub config: EndpointConfig,
    /// Milliseconds since 1970, UTC.
    pub start_time: i64,
    /// Why it failed, by served entity; empty while it is still to be staged.
    pub failures: BTreeMap<ServedEntityName, Rejection>,
}

/// Who created an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Creator {
    /// A person with a token of this box.
    Principal(Principal),
    /// The fleet's registry.
    Registry,
    /// A program with a token of this box.
    ServicePrincipal(Principal),
}

impl Creator {
    /// Whoever holds a token.
    #[must_use]
    pub fn of(principal: Principal, is_program: bool) -> Self {
        if is_program {
            Self::ServicePrincipal(principal)
        } else {
            Self::Principal(principal)
        }
    }
}

impl fmt::Display for Creator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(principal) | Self::ServicePrincipal(principal) => principal.fmt(f),
            Self::Registry => f.write_str("registry"),
        }
    }
}

/// Who may change an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManagedBy {
    /// Whoever has the right on this box.
    Local,
    /// The fleet's registry.
    Registry(Generation),
}

/// The desired set of endpoints that was last applied as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedDesired {
    /// Which one it was.
    pub generation: Generation,
    /// Digest over names and effective hashes of the whole set.
    pub digest: Digest,
}

impl AppliedDesired {
    /// The key of the only record of this kind.
    pub const KEY: &'static str = "endpoints";
}

impl Record for AppliedDesired {
    const TABLE: &'static str = "applied_desired";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::KEY.to_owned()
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The 32 digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The 32 digits, shared.
            #[must_use]
            pub fn to_shared(&self) -> std::sync::Arc<str> {
                std::sync::Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

hex_id!(
    /// An endpoint's id: 32 hexadecimal digits, random when it is created.
    EndpointId
);

hex_id!(
    /// A served entity's id: 32 hexadecimal digits that follow from the endpoint's id, the
    /// entity's name and its model version.
    ServedEntityId
);

impl EndpointId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }
}

impl ServedEntityId {
    /// The id of an entity.
    #[must_use]
    pub fn of(endpoint: &EndpointId, name: &ServedEntityName, model: &ModelRef) -> Self {
        let mut hasher = DigestHasher::new();
        hasher.update(format!("{endpoint}\n{name}\n{model}").as_bytes());
        let digest = hasher.finish().to_string();
        Self(digest.chars().take(32).collect::<String>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_layout_1_are_read() {
        let record = EndpointRecord {
            name: "fraud".parse().unwrap(),
            id: EndpointId::random(),
            creator: Creator::Registry,
            creation_timestamp: 1,
            last_updated_timestamp: 2,
            managed_by: ManagedBy::Local,
            drift: true,
            applied: None,
            change: None,
            about: About::default(),
        };
        let newer = postcard::to_stdvec(&record).unwrap();
        // Nothing said is two bytes at the end: no description, no tags.
        let (older, said) = newer.split_at(newer.len() - 2);
        assert_eq!(said, [0, 0]);
        assert_eq!(EndpointRecord::decode(1, older).unwrap(), record);
        assert_eq!(EndpointRecord::decode(2, &newer).unwrap(), record);
        assert!(EndpointRecord::decode(3, &newer).is_err());
    }
}
