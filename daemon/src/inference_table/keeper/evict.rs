//! Giving up sealed rows to stay within the disk budget.
//!
//! A file goes in the order of everything that is deleted: its gaps are written and made durable,
//! then the account that names them instead of the file, then the file is removed. What was sent
//! and may have landed never goes: only its receipt may delete it, or its rows would be counted
//! as missing and be in the landing folder. Nor do rows of a table that asked to stop instead, even
//! once nobody asks that any more.

use std::fs::File;
use std::io;
use std::path::Path;

use edgeward_base::names::TableName;
use edgeward_wire::segment::{SegmentKind, SegmentName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::statistics::Statistics;

use super::super::budget::{TableBudget, Usage};
use super::super::gap::{Gap, GapCause};
use super::super::segment::SealedSegment;
use super::super::wal::Replay as _;
use super::account::Account;
use super::ballast::is_full;
use super::holes::holes_of;
use super::ledger::{KeepSegmentsError, Ledger};
use super::room::disk_of;
use crate::config::{Retain, RetentionConfig};

#[cfg(test)]
mod tests;

/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Evicted {
    pub(in super::super) rows: u64,
    pub(in super::super) files: u64,
}

impl Ledger {
    /// What lies on the disk.
    pub(in super::super) fn usage(&self) -> Usage {
        let folders = &self.folders;
        let mut usage = Usage {
            kept: self.bytes_in(&folders.wal) + self.bytes_in(&folders.account) + self.foreign,
            quarantine: self.bytes_in(&folders.quarantine),
            space: disk_of(self.fs.as_ref(), &folders.account),
            ..Usage::default()
        };
        let accounts = self.accounts.values();
        for segment in accounts.flat_map(|account| &account.segments) {
            let bytes = segment.size.next_multiple_of(BLOCK);
            match segment.name.kind {
                SegmentKind::Gaps => usage.kept += bytes,
                SegmentKind::Rows => {
                    let table = segment.name.table.clone();
                    let table = usage.sealed.entry(table).or_default();
                    table.bytes += bytes;
                    table.evictable |= !segment.offered && !segment.keep;
                }
            }
        }
        usage
    }

    fn bytes_in(&self, folder: &Path) -> u64 {
        let paths = self.fs.list(folder).unwrap_or_default();
        let sizes = paths.iter().filter_map(|path| self.fs.size(path).ok());
        sizes.map(|size| size.0).sum()
    }

    /// The rows that go next: the oldest of the lowest priority, of one table or of all that let
    /// rows go.
    pub(in super::super) fn next_to_evict(
        &self,
        only: Option<&TableName>,
        budgets: &[TableBudget],
    ) -> Option<SegmentName> {
        let budget = |table: &TableName| budgets.iter().find(|budget| budget.table == *table);
        let goes = |segment: &&SealedSegment| {
            let table = &segment.name.table;
            segment.name.kind == SegmentKind::Rows
                && !segment.offered
                && !segment.keep
                && only.is_none_or(|only| only == table)
                && budget(table).is_none_or(|budget| budget.retain == Retain::DropOldest)
        };
        let age = |segment: &SealedSegment| {
            let priority = budget(&segment.name.table)
                .map_or(RetentionConfig::PRIORITY, |budget| budget.priority);
            let boot = self.accounts.get(&segment.name.boot).map(Account::age);
            (priority, boot, segment.date.clone(), segment.name.first)
        };
        let accounts = self.accounts.values();
        accounts
            .flat_map(|account| &account.segments)
            .filter(goes)
            .min_by_key(|segment| age(segment))
            .map(|segment| segment.name.clone())
    }

    /// Notes durably which sealed rows are never given up: those of tables that would rather stop.
    /// The mark outlives the budget: an endpoint may be deleted, or be given another table, and its
    /// rows stay what they were kept for. Only a budget that says otherwise takes it off.
    pub(in super::super) fn keep_tables(
        &mut self,
        budgets: &[TableBudget],
    ) -> Result<(), KeepSegmentsError> {
        let stops = |budget: &&TableBudget| budget.retain == Retain::Stop;
        let stopping = budgets.iter().filter(stops);
        self.stops = stopping.map(|budget| budget.table.clone()).collect();
        let says = |segment: &SealedSegment| {
            let of = |budget: &&TableBudget| budget.table == segment.name.table;
            let budget = budgets.iter().find(of);
            budget.map_or(segment.keep, |budget| budget.retain == Retain::Stop)
        };
        let differs = |segment: &SealedSegment| {
            segment.name.kind == SegmentKind::Rows && segment.keep != says(segment)
        };
        let accounts = self.accounts.values();
        let changed: Vec<Account> = accounts
            .filter(|account| account.segments.iter().any(differs))
            .cloned()
            .collect();
        for mut account in changed {
            for segment in account.segments.iter_mut().filter(|one| differs(one)) {
                segment.keep = says(segment);
            }
            self.commit(account)?;
        }
        Ok(())
    }

    /// Marks new rows of tables that would rather stop.
    pub(super) fn mark_kept(&self, sealed: &mut [SealedSegment]) {
        for segment in sealed {
            segment.keep =
                segment.name.kind == SegmentKind::Rows && self.stops.contains(&segment.name.table);
        }
    }

    /// Puts gaps in the place of sealed rows, and removes their file.
    pub(in super::super) fn evict(
        &mut self,
        name: &SegmentName,
    ) -> Result<Evicted, KeepSegmentsError> {
        let evicted = match self.try_evict(name) {
            Err(error) if is_full(&error) && self.ballast.release() => self.try_evict(name),
            evicted => evicted,
        };
        evicted.inspect_err(|_| self.sweep(name.boot))
    }

    fn try_evict(&mut self, name: &SegmentName) -> Result<Evicted, KeepSegmentsError> {
        let mut account = match self.accounts.get(&name.boot) {
            Some(account) => account.clone(),
            None => return Ok(Evicted::default()),
        };
        let taken = account.take(name).filter(|segment| {
            let may_have_landed = segment.offered;
            name.kind == SegmentKind::Rows && !may_have_landed
        });
        let Some(segment) = taken else {
            return Ok(Evicted::default());
        };
        let path = self.placed(&segment).path;
        // A file that cannot be read goes as well as any other; then the gap says less.
        let contents = Contents::of(&path).unwrap_or_default();
        let mut compaction = self.compaction(account.boot);
        for hole in holes_of(&segment) {
            let gap = Gap {
                endpoint: contents.endpoint.as_deref(),
                cause: GapCause::DiskBudget,
                first: hole.first,
                last: Some(hole.last),
                rows: hole.rows,
                bytes: hole
                    .rows
                    .and_then(|rows| share(segment.size, rows, segment.sequences)),
                times_us: contents.times_us,
            };
            compaction
                .gap(&name.table, &gap)
                .map_err(KeepSegmentsError::Compact)?;
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let position = account.position();
        account.enter(sealed, &position);
        self.commit(account)?;
        self.remove_sealed(&path)?;
        tracing::info!(segment = %name, rows = segment.rows, "rows went to make room");
        Ok(Evicted {
            rows: segment.rows,
            files: 1,
        })
    }

    /// Removes the oldest file in quarantine.
    pub(in super::super) fn remove_quarantined(&mut self) -> Result<(), KeepSegmentsError> {
        let files = self.fs.list(&self.folders.quarantine);
        let files = files.map_err(KeepSegmentsError::Read)?;
        let modified = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|file| file.modified())
                .ok()
        };
        let Some(oldest) = files.iter().min_by_key(|path| modified(path)) else {
            return Ok(());
        };
        self.remove(oldest)?;
        tracing::warn!(file = %oldest.display(), "quarantined bytes went to make room");
        self.quarantined.retain(|path| path != oldest);
        Ok(())
    }
}

/// A run's share of the bytes of its file.
fn share(size: u64, rows: u64, all: u64) -> Option<u64> {
    let share = u128::from(size) * u128::from(rows);
    let share = share.checked_div(u128::from(all))?;
    u64::try_from(share).ok()
}

/// What the statistics of a file of rows say about all of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    /// Whose they are, when all are of one endpoint.
    endpoint: Option<String>,
    /// First and last time.
    times_us: Option<(i64, i64)>,
}

impl Contents {
    fn of(path: &Path) -> io::Result<Self> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?);
        let reader = reader.map_err(io::Error::other)?;
        let mut contents = Self::default();
        let mut endpoints = Vec::new();
        let groups = reader.metadata().row_groups();
        for column in groups.iter().flat_map(|group| group.columns()) {
            match (column.column_path().string().as_str(), column.statistics()) {
                ("request_time", Some(Statistics::Int64(times))) => {
                    let times = times.min_opt().copied().zip(times.max_opt().copied());
                    let known = contents.times_us.into_iter().chain(times);
                    contents.times_us =
                        known.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
                }
                ("endpoint_name", Some(Statistics::ByteArray(names))) => {
                    let text = |name: &[u8]| String::from_utf8(name.to_vec()).ok();
                    let nulls = names.null_count_opt() != Some(0);
                    let first = names.min_bytes_opt().and_then(text).filter(|_| !nulls);
                    let last = names.max_bytes_opt().and_then(text).filter(|_| !nulls);
                    endpoints.extend([first, last]);
                }
                _ => {}
            }
        }
        endpoints.dedup();
        if let [Some(endpoint)] = &endpoints[..] {
            contents.endpoint = Some(endpoint.clone());
        }
        Ok(contents)
    }
}
