//! The account of a boot: what of its log has been sealed, what has landed, and how it ended.
//!
//! Owns `{rows}/account/{boot}.json`, replaced atomically. It is the commit point of everything
//! the keeper does: a Parquet file that no account names is a leftover, a segment of the log up to
//! `compacted` is spent, and a sequence counts as landed once it stands in the sums.
//!
//! Version 0: one line `EDGEWARD ACCOUNT 0 {crc}`, the CRC-32 of the rest in eight hexadecimal
//! digits, then the [`Account`] as JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, write_atomic};
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentKind, SegmentName};
use serde::{Deserialize, Serialize};

use super::super::segment::SealedSegment;
use super::super::wal::Position;

const MAGIC: &str = "EDGEWARD ACCOUNT 0 ";

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootEnd {
    /// It has not ended, or nobody has looked yet.
    Running,
    /// With a close: nothing was lost after the last sequence.
    Clean,
    /// Without a close: how much was lost after the last sequence nobody knows.
    PowerLoss,
}

/// What is known of one table in one boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct TableAccount {
    /// Highest sequence that is sealed.
    pub(in super::super) last: u64,
    /// Rows that have landed and are not kept here any more.
    pub(in super::super) landed_rows: u64,
    /// Rows that landed gaps count.
    pub(in super::super) landed_gaps: u64,
}

/// The account of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Account {
    pub(in super::super) boot: BootId,
    /// When the account was opened, microseconds since the Unix epoch: orders boots for people.
    pub(in super::super) opened_us: i64,
    pub(in super::super) end: BootEnd,
    /// Number of the last segment of the log that is sealed.
    pub(in super::super) compacted: u32,
    pub(in super::super) tables: BTreeMap<TableName, TableAccount>,
    /// Sealed segments that have not landed.
    pub(in super::super) segments: Vec<SealedSegment>,
}

impl Account {
    pub(in super::super) fn open(boot: BootId, opened_us: i64) -> Self {
        Self {
            boot,
            opened_us,
            end: BootEnd::Running,
            compacted: 0,
            tables: BTreeMap::new(),
            segments: Vec::new(),
        }
    }

    /// Where reading the log goes on.
    pub(in super::super) fn position(&self) -> Position {
        self.tables
            .iter()
            .map(|(table, account)| (table.clone(), account.last + 1))
            .collect()
    }

    /// Enters new sealed segments, and where the log was read to.
    pub(in super::super) fn enter(&mut self, sealed: Vec<SealedSegment>, position: &Position) {
        self.segments
            .retain(|old| sealed.iter().all(|new| new.name != old.name));
        self.segments.extend(sealed);
        for (table, next) in position.iter() {
            let account = self.tables.entry(table.clone()).or_default();
            account.last = account.last.max(next.saturating_sub(1));
        }
    }

    /// Moves a segment to the sums of what has landed.
    pub(in super::super) fn land(&mut self, name: &SegmentName) -> Option<SealedSegment> {
        let place = self
            .segments
            .iter()
            .position(|segment| segment.name == *name)?;
        let segment = self.segments.remove(place);
        let table = self.tables.entry(name.table.clone()).or_default();
        match name.kind {
            SegmentKind::Rows => table.landed_rows += segment.sequences,
            SegmentKind::Gaps => table.landed_gaps += segment.sequences,
        }
        Some(segment)
    }

    /// The account's file in `directory`.
    pub(in super::super) fn path(directory: &Path, boot: BootId) -> PathBuf {
        directory.join(format!("{boot}.json"))
    }

    /// The boot whose account this file holds.
    pub(in super::super) fn boot_of(path: &Path) -> Option<BootId> {
        path.file_name()?
            .to_str()?
            .strip_suffix(".json")?
            .parse()
            .ok()
    }

    /// Writes the account.
    pub(in super::super) fn write(
        &self,
        fs: &dyn DurableFs,
        directory: &Path,
    ) -> std::io::Result<()> {
        let json = serde_json::to_string(self)?;
        let text = format!("{MAGIC}{:08x}\n{json}", crc32fast::hash(json.as_bytes()));
        write_atomic(fs, &Self::path(directory, self.boot), text.as_bytes())
    }

    /// Reads an account of `boot`; `None` when it is damaged.
    pub(in super::super) fn parse(boot: BootId, bytes: &[u8]) -> Option<Self> {
        let (head, json) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let crc = u32::from_str_radix(head.strip_prefix(MAGIC)?, 16).ok()?;
        let account: Self = serde_json::from_str(json)
            .ok()
            .filter(|_| crc == crc32fast::hash(json.as_bytes()))?;
        (account.boot == boot).then_some(account)
    }
}
