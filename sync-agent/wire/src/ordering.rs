//! The order of desired documents: (epoch, generation), and what to do with one that arrives.
//!
//! Owns: [`Kind`], [`Generation`], and the decision accept, duplicate, stale or conflict.
//! Must never: look at a wall clock; order needs none.

use std::{fmt, str::FromStr};

use edgeward_base::digest::Digest;
use serde::{Deserialize, Serialize};

/// What a desired document speaks of. Each kind has its own generations and acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The catalogue of model versions the device shall hold.
    Models,
    /// The serving endpoints the device shall run.
    Endpoints,
}

impl Kind {
    /// Every kind, in the order in which they are published.
    pub const ALL: [Self; 2] = [Self::Models, Self::Endpoints];

    /// The word in topics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Endpoints => "endpoints",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A word that names no [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kind `{0}` is not supported: models, endpoints")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// The place of a document in the order of its kind: first by epoch, then by generation.
///
/// The registry counts the generation up by one for each document; a registry that was rebuilt
/// without its counters starts a new epoch. Shown as `epoch.generation`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation {
    /// Which life of the registry counted.
    pub epoch: u64,
    /// The count within the epoch, from 1.
    pub generation: u64,
}

impl Generation {
    /// The `generation`-th document of `epoch`.
    #[must_use]
    pub const fn new(epoch: u64, generation: u64) -> Self {
        Self { epoch, generation }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.epoch, self.generation)
    }
}

/// What identifies one document of a kind: its place, and the digest of its signed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentIdentity {
    /// Its place in the order.
    pub generation: Generation,
    /// BLAKE3 of the exact signed body bytes.
    pub body: Digest,
}

/// What to do with a verified document that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is newer than everything held: hold it durably, then act.
    Accept,
    /// It is the one held: acknowledge again, do nothing.
    Duplicate,
    /// It is older than the one held: refuse it.
    Stale,
    /// It claims the generation held with another body: refuse it and raise an alarm.
    Conflict,
}

/// Decides what to do with `incoming` when `held` is the newest document ever accepted.
#[must_use]
pub fn decide(held: Option<&DocumentIdentity>, incoming: &DocumentIdentity) -> Decision {
    let Some(held) = held else {
        return Decision::Accept;
    };
    match incoming.generation.cmp(&held.generation) {
        std::cmp::Ordering::Greater => Decision::Accept,
        std::cmp::Ordering::Less => Decision::Stale,
        std::cmp::Ordering::Equal if incoming.body == held.body => Decision::Duplicate,
        std::cmp::Ordering::Equal => Decision::Conflict,
    }
}

#[cfg(test)]
mod tests;
