//! Gaps: sequences that have no row, and why.
//!
//! Owns the causes and the three forms of a gap: [`Losses`] counts rows that never reached the
//! log until they can be committed, [`StoredGap`] is what the log holds of them, and [`Gap`] is
//! the row of the `{prefix}_gaps` table, with its sequences.

use std::collections::BTreeMap;

use edgeward_base::names::{EndpointName, TableName};
use serde::{Deserialize, Serialize};

/// Why sequences have no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The channel to the writer was full.
    ChannelFull,
    /// The disk was full.
    Enospc,
    /// The disk answered with another error.
    WriteFailed,
    /// The rows were committed and damaged afterwards; what is left is in quarantine.
    CorruptTail,
    /// The boot ended without a close: what it had not committed is lost, and nobody counted it.
    PowerLoss,
    /// Removed, or not written, to stay within the disk budget.
    DiskBudget,
    /// Left out by sampling; the rows that were kept say with which fraction.
    Sampled,
    /// The row alone is larger than the channel may be.
    Oversize,
}

impl GapCause {
    /// The word in the column `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChannelFull => "channel_full",
            Self::Enospc => "enospc",
            Self::WriteFailed => "write_failed",
            Self::CorruptTail => "corrupt_tail",
            Self::PowerLoss => "power_loss",
            Self::DiskBudget => "disk_budget",
            Self::Sampled => "sampled",
            Self::Oversize => "oversize",
        }
    }

    /// The cause of that word in the column `cause`.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::ChannelFull,
            Self::Enospc,
            Self::WriteFailed,
            Self::CorruptTail,
            Self::PowerLoss,
            Self::DiskBudget,
            Self::Sampled,
            Self::Oversize,
        ];
        all.into_iter().find(|cause| cause.as_str() == word)
    }

    /// The cause that a failed write stands for.
    pub(super) fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Enospc,
            _ => Self::WriteFailed,
        }
    }
}

/// How much was lost, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// When the first and the last of them were lost, microseconds since the Unix epoch.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

/// Whose rows were lost, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LossKey {
    pub(super) table: TableName,
    pub(super) endpoint: Option<EndpointName>,
    pub(super) cause: GapCause,
}

/// Rows that were lost and wait for a commit that counts them.
///
/// One entry for each table, endpoint and cause, however many rows: bounded by what is configured.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<LossKey, Lost>);

impl Losses {
    pub(super) fn add(&mut self, key: LossKey, lost: Lost) {
        if lost.rows == 0 {
            return;
        }
        self.0
            .entry(key)
            .and_modify(|sum| {
                sum.rows += lost.rows;
                sum.bytes += lost.bytes;
                sum.first_us = sum.first_us.min(lost.first_us);
                sum.last_us = sum.last_us.max(lost.last_us);
            })
            .or_insert(lost);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LossKey, &Lost)> {
        self.0.iter()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A gap as the log holds it; its sequences follow from its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredGap<'a> {
    pub(super) endpoint: Option<&'a str>,
    pub(super) cause: GapCause,
    pub(super) lost: Lost,
}

/// A row of the `{prefix}_gaps` table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gap<'a> {
    pub(super) endpoint: Option<&'a str>,
    pub(super) cause: GapCause,
    pub(super) first: u64,
    /// Null when nobody knows how far the gap goes.
    pub(super) last: Option<u64>,
    /// The rows that are missing; null when nobody knows.
    pub(super) rows: Option<u64>,
    pub(super) bytes: Option<u64>,
    /// First and last time, where known.
    pub(super) times_us: Option<(i64, i64)>,
}
