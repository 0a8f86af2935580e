//! Inference tables: one row per request, none lost past the last group commit, none doubled,
//! and every gap counted.
//!
//! Owns `{state}/rows`: the write-ahead log, the sealed Parquet segments and the account of them.
//! Must never: make the request path wait, take a lock that a writer holds, or touch the disk on
//! it; keep the process from starting; guess a count that it does not know.
//!
//! ```text
//! offer --> channel --> writer --> {rows}/wal/{boot}-{number}.wal      group commit, fdatasync
//!              |                        | sealed by age, size, day, close
//!              | full: counted          v
//!              +--> gap row         keeper --> {rows}/parquet/...      rows and gaps, sealed
//!                                       |      {rows}/account/{boot}   what has been sealed
//!                                       v
//!                                   landed(name), after the registry's receipt: deleted
//! ```
//!
//! Two threads, each the owner of its state: the *writer* numbers rows and commits them; the
//! *keeper* recovers earlier boots, compacts sealed segments, and knows which files are there.
//!
//! `sequence` counts from 1 for each (boot, table) in the order of the log; rows that had to be
//! dropped take their numbers when the gap that counts them is committed. So for each boot and
//! table, rows + counted gaps = last committed sequence. What a boot lost after its last commit
//! nobody knows: unless it ended cleanly, a gap of unknown length says so.

use std::path::PathBuf;
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_base::durable::SharedFs;
use edgeward_base::names::{BootId, DeviceId};
use edgeward_base::units::ByteCount;

mod record;
mod segment;

pub use record::Row;
pub use segment::{ParseSegmentDateError, SealedSegment, SegmentDate, SegmentKind, SegmentName};

/// How inference tables are kept.
#[derive(Debug, Clone)]
pub struct InferenceTableOptions {
    /// `{state}/rows`.
    pub directory: PathBuf,
    /// This box, as each row names it.
    pub device: DeviceId,
    /// This start of the process, as each row names it.
    pub boot: BootId,
    /// Bytes of rows that may wait for the writer; more are dropped and counted. 8 MiB by default.
    pub channel_bytes: ByteCount,
    /// The largest request or response that is kept; a larger one is null. 1 MiB by default.
    pub payload_cap: ByteCount,
    /// A commit starts when so much waits. 64 KiB by default.
    pub commit_bytes: ByteCount,
    /// A commit starts so long after the first row that waits: what a power cut may take.
    /// 1 s by default.
    pub commit_interval: Duration,
    /// A segment is sealed so long after its first row. 10 minutes by default.
    pub seal_after: Duration,
    /// A segment is sealed at this size in the write-ahead log. 8 MiB by default.
    pub seal_size: ByteCount,
    /// The clocks.
    pub clock: SharedClock,
    /// The file system.
    pub fs: SharedFs,
}

impl InferenceTableOptions {
    /// The defaults of every limit.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        device: DeviceId,
        boot: BootId,
        clock: SharedClock,
        fs: SharedFs,
    ) -> Self {
        Self {
            directory,
            device,
            boot,
            channel_bytes: ByteCount::mib(8),
            payload_cap: ByteCount::mib(1),
            commit_bytes: ByteCount::kib(64),
            commit_interval: Duration::from_secs(1),
            seal_after: Duration::from_secs(600),
            seal_size: ByteCount::mib(8),
            clock,
            fs,
        }
    }
}
