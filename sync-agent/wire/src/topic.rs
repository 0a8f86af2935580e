//! Every topic of the protocol, built and parsed in one place.
//!
//! Owns: the names below `edgeward/v1/{fleet}/` and the filters each agent subscribes to.
//! Must never: let a name that came from outside reach code unparsed.
//!
//! | topic | direction | retained | payload |
//! |---|---|---|---|
//! | `desired/dev/{id}/{kind}` | down | yes | signed desired document |
//! | `dev/{id}/reported/{kind}` | up | yes | report: what runs |
//! | `dev/{id}/ack` | up | no | report: what became of a document |
//! | `dev/{id}/presence` | up, and the will | yes | presence |
//! | `dev/{id}/confirm` | down | no | confirm of a report |
//! | `bulk/{id}/logs/{table}/m`, `/c`, `/end` | up | no | segment offer, chunk, end |
//! | `bulk/{id}/logs/ack` | down | no | segment answer |
//! | `bulk/{id}/blob/{digest}/req` | up | no | blob request |
//! | `bulk/{id}/blob/{digest}/c`, `/missing` | down | no | blob chunk, blob missing |
//!
//! Everything is `QoS` 1. The `bulk` tree belongs to the bulk connection, which may have an identity
//! of its own.

use std::str::FromStr;

use edgeward_base::{
    digest::Digest,
    names::{DeviceId, FleetId, TableName},
};

use crate::ordering::Kind;

const ROOT: &str = "edgeward/v1";

/// One topic of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A desired document for one device.
    Desired {
        /// For whom.
        device: DeviceId,
        /// Of which kind.
        kind: Kind,
    },
    /// What a device runs.
    Reported {
        /// Who says it.
        device: DeviceId,
        /// Of which kind.
        kind: Kind,
    },
    /// What became of a desired document.
    Ack {
        /// Who says it.
        device: DeviceId,
    },
    /// Whether a device is connected.
    Presence {
        /// Which device.
        device: DeviceId,
    },
    /// A report has been recorded.
    Confirm {
        /// Whose report.
        device: DeviceId,
    },
    /// A sealed segment is offered.
    SegmentOffer {
        /// By whom.
        device: DeviceId,
        /// Of which table.
        table: TableName,
    },
    /// A chunk of a segment.
    SegmentChunk {
        /// From whom.
        device: DeviceId,
        /// Of which table.
        table: TableName,
    },
    /// Every chunk that was wanted has been sent.
    SegmentEnd {
        /// By whom.
        device: DeviceId,
        /// Of which table.
        table: TableName,
    },
    /// The registry's answer to an offer or an end.
    SegmentAnswer {
        /// For whom.
        device: DeviceId,
    },
    /// A device asks for chunks of a blob.
    BlobRequest {
        /// Who asks.
        device: DeviceId,
        /// For which blob.
        digest: Digest,
    },
    /// A chunk of a blob.
    BlobChunk {
        /// For whom.
        device: DeviceId,
        /// Of which blob.
        digest: Digest,
    },
    /// The registry has no such blob.
    BlobMissing {
        /// For whom.
        device: DeviceId,
        /// Which blob.
        digest: Digest,
    },
}

/// A topic that is none of the protocol's, or of another fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no topic of this fleet")]
pub struct ParseTopicError(pub String);

impl Topic {
    /// The full name in `fleet`.
    #[must_use]
    pub fn name(&self, fleet: &FleetId) -> String {
        let rest = match self {
            Self::Desired { device, kind } => format!("desired/dev/{device}/{kind}"),
            Self::Reported { device, kind } => format!("dev/{device}/reported/{kind}"),
            Self::Ack { device } => format!("dev/{device}/ack"),
            Self::Presence { device } => format!("dev/{device}/presence"),
            Self::Confirm { device } => format!("dev/{device}/confirm"),
            Self::SegmentOffer { device, table } => format!("bulk/{device}/logs/{table}/m"),
            Self::SegmentChunk { device, table } => format!("bulk/{device}/logs/{table}/c"),
            Self::SegmentEnd { device, table } => format!("bulk/{device}/logs/{table}/end"),
            Self::SegmentAnswer { device } => format!("bulk/{device}/logs/ack"),
            Self::BlobRequest { device, digest } => format!("bulk/{device}/blob/{digest}/req"),
            Self::BlobChunk { device, digest } => format!("bulk/{device}/blob/{digest}/c"),
            Self::BlobMissing { device, digest } => format!("bulk/{device}/blob/{digest}/missing"),
        };
        format!("{ROOT}/{fleet}/{rest}")
    }

    /// Reads the name of a topic of `fleet`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(fleet: &FleetId, name: &str) -> Result<Self, ParseTopicError> {
        name.strip_prefix(ROOT)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(fleet.as_str()))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(parse_rest)
            .ok_or_else(|| ParseTopicError(name.chars().take(200).collect()))
    }

    /// The device that speaks or is spoken to.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        match self {
            Self::Desired { device, .. }
            | Self::Reported { device, .. }
            | Self::Ack { device }
            | Self::Presence { device }
            | Self::Confirm { device }
            | Self::SegmentOffer { device, .. }
            | Self::SegmentChunk { device, .. }
            | Self::SegmentEnd { device, .. }
            | Self::SegmentAnswer { device }
            | Self::BlobRequest { device, .. }
            | Self::BlobChunk { device, .. }
            | Self::BlobMissing { device, .. } => device,
        }
    }
}

fn parse_rest(rest: &str) -> Option<Topic> {
    fn word<T: FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    let levels: Vec<&str> = rest.splitn(6, '/').collect();
    Some(match levels.as_slice() {
        ["desired", "dev", device, kind] => Topic::Desired {
            device: word(device)?,
            kind: word(kind)?,
        },
        ["dev", device, "reported", kind] => Topic::Reported {
            device: word(device)?,
            kind: word(kind)?,
        },
        ["dev", device, "ack"] => Topic::Ack {
            device: word(device)?,
        },
        ["dev", device, "presence"] => Topic::Presence {
            device: word(device)?,
        },
        ["dev", device, "confirm"] => Topic::Confirm {
            device: word(device)?,
        },
        ["bulk", device, "logs", "ack"] => Topic::SegmentAnswer {
            device: word(device)?,
        },
        ["bulk", device, "logs", table, "m"] => Topic::SegmentOffer {
            device: word(device)?,
            table: word(table)?,
        },
        ["bulk", device, "logs", table, "c"] => Topic::SegmentChunk {
            device: word(device)?,
            table: word(table)?,
        },
        ["bulk", device, "logs", table, "end"] => Topic::SegmentEnd {
            device: word(device)?,
            table: word(table)?,
        },
        ["bulk", device, "blob", digest, "req"] => Topic::BlobRequest {
            device: word(device)?,
            digest: word(digest)?,
        },
        ["bulk", device, "blob", digest, "c"] => Topic::BlobChunk {
            device: word(device)?,
            digest: word(digest)?,
        },
        ["bulk", device, "blob", digest, "missing"] => Topic::BlobMissing {
            device: word(device)?,
            digest: word(digest)?,
        },
        _ => return None,
    })
}

/// What a device subscribes to on its control connection.
#[must_use]
pub fn device_control_filters(fleet: &FleetId, device: &DeviceId) -> Vec<String> {
    vec![
        format!("{ROOT}/{fleet}/desired/dev/{device}/+"),
        format!("{ROOT}/{fleet}/dev/{device}/confirm"),
    ]
}

/// What a device subscribes to on its bulk connection.
#[must_use]
pub fn device_bulk_filters(fleet: &FleetId, device: &DeviceId) -> Vec<String> {
    vec![
        format!("{ROOT}/{fleet}/bulk/{device}/logs/ack"),
        format!("{ROOT}/{fleet}/bulk/{device}/blob/+/c"),
        format!("{ROOT}/{fleet}/bulk/{device}/blob/+/missing"),
    ]
}

/// What a registry subscribes to on its control connection.
#[must_use]
pub fn registry_control_filters(fleet: &FleetId) -> Vec<String> {
    vec![
        format!("{ROOT}/{fleet}/dev/+/ack"),
        format!("{ROOT}/{fleet}/dev/+/reported/+"),
        format!("{ROOT}/{fleet}/dev/+/presence"),
    ]
}

/// What a registry subscribes to on its bulk connection.
#[must_use]
pub fn registry_bulk_filters(fleet: &FleetId) -> Vec<String> {
    vec![
        format!("{ROOT}/{fleet}/bulk/+/logs/+/m"),
        format!("{ROOT}/{fleet}/bulk/+/logs/+/c"),
        format!("{ROOT}/{fleet}/bulk/+/logs/+/end"),
        format!("{ROOT}/{fleet}/bulk/+/blob/+/req"),
    ]
}

#[cfg(test)]
mod tests;
