//! What a device says of itself, numbered, and the registry's confirmation of having recorded it.
//!
//! Owns: [`Report`], its sequence, and [`Confirm`].
//! Must never: let a report leave the device's outbox for any reason but a confirm.
//!
//! `sequence` rises over the whole life of the device, across boots. The registry keeps, for each
//! subject (message and kind), the report with the highest sequence. A device that lost its
//! counters learns the registry's newest sequence from the confirm, and numbers on from there.

use edgeward_base::names::{BootId, DeviceId};
use serde::{Deserialize, Serialize};

use crate::{ack::Ack, ordering::Kind, reported::Reported, topic::Topic};

/// One numbered statement of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<T> {
    /// Who says it.
    pub device: DeviceId,
    /// In which start of the process it was said.
    pub boot: BootId,
    /// Its number: greater than that of every earlier report of this device.
    pub sequence: u64,
    /// What is said.
    #[serde(flatten)]
    pub message: T,
}

/// Everything a device reports through its outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum ReportMessage {
    /// What became of a desired document.
    Ack(Ack),
    /// What the device runs.
    Reported(Reported),
}

impl ReportMessage {
    /// The kind of document it speaks of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ack(ack) => ack.kind,
            Self::Reported(reported) => reported.kind(),
        }
    }

    /// Where `device` publishes it.
    #[must_use]
    pub fn topic(&self, device: DeviceId) -> Topic {
        match self {
            Self::Ack(_) => Topic::Ack { device },
            Self::Reported(reported) => Topic::Reported {
                device,
                kind: reported.kind(),
            },
        }
    }

    /// Whether the broker keeps it for those who subscribe later.
    #[must_use]
    pub const fn is_retained(&self) -> bool {
        matches!(self, Self::Reported(_))
    }
}

/// The registry has recorded a report: the device may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The report that is recorded, or that a newer one made needless.
    pub sequence: u64,
    /// The highest sequence that the registry has of this device.
    pub newest: u64,
}
