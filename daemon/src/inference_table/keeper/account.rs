//! The account of a boot: what of its log has been sealed, what has landed, and how it ended.
//!
//! Owns `{rows}/account/{boot}.json`, replaced atomically. It is the commit point of everything
//! the keeper does: a Parquet file that no account names is a leftover, a segment of the log up to
//! `compacted` is spent, and a sequence counts as landed once it stands in the sums.
//!
//! Version 1: one line `EDGEWARD ACCOUNT 1 {crc}`, the CRC-32 of all the rest in eight hexadecimal
//! digits, then the [`Account`] as JSON; a segment without `offered` or `keep` has neither mark. Version 0
//! lacks `ordinal`, `runs` and both marks, and its CRC is of the JSON alone; it is read, and written
//! as version 1 with the next change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, write_atomic};
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentKind, SegmentName};
use serde::{Deserialize, Serialize};

use super::super::segment::SealedSegment;
use super::super::wal::Position;

#[cfg(test)]
mod tests;

/// How an account starts; the version and the CRC follow.
const MAGIC: &str = "EDGEWARD ACCOUNT ";
/// The version that is written.
const VERSION: u32 = 1;

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
    /// Which boot of this box it is, from 1: orders boots, whatever their clocks said. Version 0
    /// counted none: those are 0, and come before the others.
    #[serde(default)]
    pub(in super::super) ordinal: u32,
    /// When the account was opened, microseconds since the Unix epoch, for people.
    pub(in super::super) opened_us: i64,
    pub(in super::super) end: BootEnd,
    /// Number of the last segment of the log that is sealed.
    pub(in super::super) compacted: u32,
    pub(in super::super) tables: BTreeMap<TableName, TableAccount>,
    /// Sealed segments that have not landed.
    pub(in super::super) segments: Vec<SealedSegment>,
}

impl Account {
    pub(in super::super) fn open(boot: BootId, ordinal: u32, opened_us: i64) -> Self {
        Self {
            boot,
            ordinal,
            opened_us,
            end: BootEnd::Running,
            compacted: 0,
            tables: BTreeMap::new(),
            segments: Vec::new(),
        }
    }

    /// Sorts accounts oldest first. The clock decides only between boots that were not counted.
    pub(in super::super) fn age(&self) -> (u32, i64, BootId) {
        (self.ordinal, self.opened_us, self.boot)
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

    /// Notes that a segment is about to be sent in full: from here on it may have landed, whether
    /// or not its receipt comes. Answers whether that is new; `None` when it is not there.
    pub(in super::super) fn mark_offered(&mut self, name: &SegmentName) -> Option<bool> {
        let segment = self
            .segments
            .iter_mut()
            .find(|segment| segment.name == *name);
        segment.map(|segment| !std::mem::replace(&mut segment.offered, true))
    }

    /// Takes a segment out, without counting it as landed.
    pub(in super::super) fn take(&mut self, name: &SegmentName) -> Option<SealedSegment> {
        let place = self
            .segments
            .iter()
            .position(|segment| segment.name == *name)?;
        Some(self.segments.remove(place))
    }

    /// Moves a segment to the sums of what has landed.
    pub(in super::super) fn land(&mut self, name: &SegmentName) -> Option<SealedSegment> {
        let segment = self.take(name)?;
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
        let crc = crc_of(&VERSION.to_string(), &json);
        let text = format!("{MAGIC}{VERSION} {crc:08x}\n{json}");
        write_atomic(fs, &Self::path(directory, self.boot), text.as_bytes())
    }

    /// Reads an account of `boot`.
    ///
    /// # Errors
    /// [`ParseAccountError`]; only a damaged one may be touched.
    pub(in super::super) fn parse(boot: BootId, bytes: &[u8]) -> Result<Self, ParseAccountError> {
        let damaged = ParseAccountError::Damaged;
        let text = std::str::from_utf8(bytes).map_err(|_| damaged)?;
        let (head, json) = text.split_once('\n').ok_or(damaged)?;
        let (version, crc) = head
            .strip_prefix(MAGIC)
            .and_then(|head| head.split_once(' '))
            .ok_or(damaged)?;
        let crc = u32::from_str_radix(crc, 16).map_err(|_| damaged)?;
        if crc != crc_of(version, json) {
            return Err(damaged);
        }
        match version.parse::<u32>() {
            Ok(0..=VERSION) => {}
            Ok(_) => return Err(ParseAccountError::Newer),
            Err(_) => return Err(damaged),
        }
        let account: Self = serde_json::from_str(json).map_err(|_| damaged)?;
        (account.boot == boot).then_some(account).ok_or(damaged)
    }
}

/// From version 1 on, the CRC covers the version too: a flipped bit makes no other version.
fn crc_of(version: &str, json: &str) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    if version != "0" {
        crc.update(MAGIC.as_bytes());
        crc.update(version.as_bytes());
    }
    crc.update(json.as_bytes());
    crc.finalize()
}

/// Why an account cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ParseAccountError {
    /// Its bytes are not what was written.
    Damaged,
    /// A version of this program that comes after this one wrote it, and is to read it again.
    Newer,
}
