//! Presence: whether a device is connected, and which of two such statements is the newer.
//!
//! Owns: the retained presence document, which is also the device's will.
//! Must never: be treated as a queue of events; it is a state, compared and set.
//!
//! A broker may publish the will of an **old** connection after the birth of the new one. Each
//! connection therefore has a number, and an `offline` speaks only for its own.

use edgeward_base::names::BootId;
use serde::{Deserialize, Serialize};

/// A device's retained presence document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether the connection `session` is open.
    pub online: bool,
    /// Which start of the device's process.
    pub boot: BootId,
    /// The connection's number within that start, from 1.
    pub session: u64,
    /// Version of the device's software.
    pub version: String,
}

impl Presence {
    /// Whether this statement replaces `recorded`.
    ///
    /// An `offline` replaces only the `online` of its own connection; an `online` replaces
    /// everything but a later connection of its own boot.
    #[must_use]
    pub const fn replaces(&self, recorded: Option<&Self>) -> bool {
        let Some(recorded) = recorded else {
            return true;
        };
        let same_boot = self.boot.0 == recorded.boot.0;
        if self.online {
            !same_boot || self.session >= recorded.session
        } else {
            same_boot && self.session == recorded.session
        }
    }
}

#[cfg(test)]
mod tests;
