//! What takes the place of sealed files that are gone or damaged: a gap for each run of sequences
//! that they held, so that no sequence is a row and in a gap as well.
//!
//! Must never: give up a file that was offered and is not known to be absent at the registry; it
//! may have landed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use edgeward_base::digest::Digest;
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentDate, SegmentKind, SegmentName};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::gap::{Gap, GapCause};
use super::super::segment::{Runs, SealedSegment};
use super::super::wal::Replay as _;
use super::account::Account;
use super::ledger::{KeepSegmentsError, Ledger};

#[cfg(test)]
mod tests;

/// Sequences that are durable no more.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hole {
    table: TableName,
    pub(super) first: u64,
    pub(super) last: u64,
    /// `None` when nobody knows which of them the file held; 0 for a gap of unknown length.
    pub(super) rows: Option<u64>,
}

/// What is missing when a segment is.
pub(super) fn holes_of(segment: &SealedSegment) -> Vec<Hole> {
    let name = &segment.name;
    let span = name.last - name.first + 1;
    // Version 0 kept no runs: of a file with holes only the count is known.
    let counted = segment.runs.is_empty() && segment.sequences != span;
    let holes = segment.runs().map(|(first, last)| Hole {
        table: name.table.clone(),
        first,
        last,
        rows: Some(if counted {
            segment.sequences
        } else {
            last - first + 1
        }),
    });
    holes.collect()
}

impl Ledger {
    /// Opens an account for files whose own account is lost. What had landed before is not known
    /// any more; the sequences before the first file are not held to be missing, nor are those
    /// before the log that is left, which starts at `log`. What the log holds itself is compacted
    /// from there: files of it are leftovers. Answers how many there were.
    pub(super) fn adopt(
        &mut self,
        boot: BootId,
        files: &[(SegmentName, SegmentDate, PathBuf)],
        log: Option<&BTreeMap<TableName, u64>>,
    ) -> Result<usize, KeepSegmentsError> {
        let mut account = self.account(boot);
        let (mut lost, mut leftovers) = (Vec::new(), 0);
        for (table, next) in log.into_iter().flatten() {
            let table = account.tables.entry(table.clone()).or_default();
            table.last = next.saturating_sub(1);
        }
        let in_log = |name: &SegmentName| {
            log.is_some_and(|log| name.first >= log.get(&name.table).copied().unwrap_or(1))
        };
        for (name, date, path) in files {
            if in_log(name) {
                self.remove_sealed(path)?;
                leftovers += 1;
                continue;
            }
            let table = account.tables.entry(name.table.clone()).or_default();
            table.last = table.last.max(name.last);
            match adopted(name, date, path) {
                Ok(segment) => {
                    let mut segment = [segment];
                    self.mark_kept(&mut segment);
                    account.segments.extend(segment);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a sealed segment is damaged");
                    self.set_file_aside(path)?;
                    lost.push(Hole {
                        table: name.table.clone(),
                        first: name.first,
                        last: name.last,
                        rows: None,
                    });
                }
            }
        }
        if log.is_none_or(|_| !account.tables.is_empty()) {
            self.replace(account, lost)?;
        }
        Ok(leftovers)
    }

    /// Puts gaps in the place of segments that are gone or not as long as they were. One that was
    /// offered may be gone because it landed: it stays, and the registry is asked.
    pub(super) fn replace_missing(&mut self, boot: BootId) -> Result<usize, KeepSegmentsError> {
        let Some(mut account) = self.accounts.get(&boot).cloned() else {
            return Ok(0);
        };
        let mut lost = Vec::new();
        let (mut kept, segments) = (Vec::new(), std::mem::take(&mut account.segments));
        for segment in segments {
            let path = self.placed(&segment).path;
            match std::fs::metadata(&path) {
                Ok(metadata) if segment.offered || metadata.len() == segment.size => {
                    kept.push(segment);
                    continue;
                }
                Ok(_) => self.set_file_aside(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if segment.offered {
                        kept.push(segment);
                        continue;
                    }
                }
                Err(error) => return Err(KeepSegmentsError::Read(error)),
            }
            lost.extend(holes_of(&segment));
        }
        account.segments = kept;
        if lost.is_empty() {
            Ok(0)
        } else {
            self.replace(account, lost)
        }
    }

    /// Puts a gap in the place of a segment whose content is damaged, and sets its file aside.
    pub(in super::super) fn set_aside(
        &mut self,
        name: &SegmentName,
    ) -> Result<usize, KeepSegmentsError> {
        let Some(mut account) = self.accounts.get(&name.boot).cloned() else {
            return Ok(0);
        };
        let Some(segment) = account.take(name) else {
            return Ok(0);
        };
        let sealed = self.replace(account, holes_of(&segment))?;
        // The file of a gap was written over just now, if its day is still today.
        let path = self.placed(&segment).path;
        let in_use = self.sealed().iter().any(|sealed| sealed.path == path);
        if !in_use {
            self.set_file_aside(&path)?;
        }
        Ok(sealed)
    }

    /// Commits an account with gaps where it had segments.
    fn replace(
        &mut self,
        mut account: Account,
        mut lost: Vec<Hole>,
    ) -> Result<usize, KeepSegmentsError> {
        lost.sort_unstable();
        let mut compaction = self.compaction(account.boot);
        for hole in &lost {
            let gap = Gap {
                endpoint: None,
                cause: GapCause::CorruptTail,
                first: hole.first,
                last: Some(hole.last),
                rows: hole.rows,
                bytes: None,
                times_us: None,
            };
            if hole.rows == Some(0) {
                compaction.add_open_gap(&hole.table, hole.first)
            } else {
                compaction.gap(&hole.table, &gap)
            }
            .map_err(KeepSegmentsError::Compact)?;
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let count = sealed.len();
        let position = account.position();
        account.enter(sealed, &position);
        self.commit(account)?;
        Ok(count)
    }
}

/// What a file says of itself.
fn adopted(name: &SegmentName, date: &SegmentDate, path: &Path) -> io::Result<SealedSegment> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let parquet = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
    let rows = parquet.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(io::Error::other)?;
    let runs = runs_in(parquet, name.kind)?;
    Ok(SealedSegment {
        name: name.clone(),
        date: date.clone(),
        rows,
        sequences: runs.sequences(),
        size,
        digest: Digest::of_file(path)?,
        runs: runs.kept(),
        offered: false,
        keep: false,
        path: path.to_owned(),
    })
}

/// The sequences that a file holds or counts.
fn runs_in(parquet: ParquetRecordBatchReaderBuilder<File>, kind: SegmentKind) -> io::Result<Runs> {
    let columns: &[&str] = match kind {
        SegmentKind::Rows => &["sequence"],
        SegmentKind::Gaps => &["first_sequence", "last_sequence"],
    };
    let mask = ProjectionMask::columns(parquet.parquet_schema(), columns.iter().copied());
    let batches = parquet.with_projection(mask).build();
    // No sequence is 0.
    let (mut runs, mut before) = (Runs::default(), 0);
    for batch in batches.map_err(io::Error::other)? {
        let batch = batch.map_err(io::Error::other)?;
        let (Some(firsts), Some(lasts)) = (batch.columns().first(), batch.columns().last()) else {
            continue;
        };
        let wrong = || io::Error::other("it does not hold sequences in their order");
        let (firsts, lasts) = (
            firsts.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?,
            lasts.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?,
        );
        // A gap of unknown length counts none.
        for (first, last) in firsts.iter().zip(lasts).filter_map(|(a, b)| Some((a?, b?))) {
            let positive = |number: i64| u64::try_from(number).map_err(io::Error::other);
            let (first, last) = (positive(first)?, positive(last)?);
            if first <= before || last < first {
                return Err(wrong());
            }
            before = last;
            runs.add(first, last);
        }
    }
    Ok(runs)
}
