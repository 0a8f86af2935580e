//! Compaction: a segment of the log becomes sealed Parquet segments, one for each table, kind and
//! day in it.
//!
//! Owns the columns and the files while they are written. A file is written under a temporary
//! name, synced, renamed, and its folder synced; it counts only once the [account] names it, so
//! a crash at any point leaves either nothing or leftovers that the next start removes before it
//! compacts the same segment again.
//!
//! Must never: put rows of another day into a file than the one that its folder names.
//!
//! [account]: super::keeper

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::DurableFs;
use edgeward_base::names::{BootId, DeviceId, TableName};
use edgeward_wire::segment::SegmentKind;

use super::gap::{Gap, GapCause};
use super::record::StoredRow;
use super::segment::{SealedSegment, day_of};
use super::time::{Correction, plausible};
use super::wal::Replay;

mod gaps;
mod part;
mod rows;

pub(super) use gaps::{KnownGap, read_gaps};
use part::{Part, PartKey};

#[cfg(test)]
mod tests;

/// Why a segment was not compacted. Nothing is lost: it is still in the log.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A Parquet file could not be started.
    #[error("cannot create {path}", path = path.display())]
    Create {
        /// The temporary file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// Rows could not be put into columns.
    #[error("cannot build the columns")]
    Batch(#[source] arrow::error::ArrowError),
    /// Columns could not be written.
    #[error("cannot write the columns")]
    Encode(#[source] parquet::errors::ParquetError),
    /// A Parquet file could not be made durable.
    #[error("cannot finish {path}", path = path.display())]
    Finish {
        /// The temporary file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
}

/// Whose rows these are, as text for the columns.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    device: String,
    boot: String,
    boot_id: BootId,
}

impl Origin {
    pub(super) fn new(device: &DeviceId, boot: BootId) -> Self {
        Self {
            device: device.to_string(),
            boot: boot.to_string(),
            boot_id: boot,
        }
    }
}

/// Parquet files in the making.
pub(super) struct Compaction<'a> {
    fs: &'a dyn DurableFs,
    tables: &'a Path,
    origin: Origin,
    /// When the gaps that are found here are found.
    now_us: i64,
    correction: Correction,
    /// A handful: a segment of the log holds few tables, and of most one day.
    parts: Vec<Part>,
    /// Parts that were full.
    sealed: Vec<SealedSegment>,
}

impl<'a> Compaction<'a> {
    /// Compaction into `tables`, the folder of tables.
    pub(super) fn new(
        fs: &'a dyn DurableFs,
        tables: &'a Path,
        origin: Origin,
        now_us: i64,
    ) -> Self {
        Self {
            fs,
            tables,
            origin,
            now_us,
            correction: Correction::default(),
            parts: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Dates rows with what is known of the clock that they were taken by.
    pub(super) fn corrected_by(mut self, correction: Correction) -> Self {
        self.correction = correction;
        self
    }

    /// The part that takes rows or gaps of this table, kind and day, from the sequence `first` on.
    fn part(
        &mut self,
        table: &TableName,
        kind: SegmentKind,
        day: i32,
        first: u64,
    ) -> Result<(&mut Part, &Origin), CompactError> {
        let mut found = self
            .parts
            .iter()
            .position(|part| part.takes(table, kind, day));
        let full = found.take_if(|place| {
            self.parts
                .get(*place)
                .is_some_and(|part| !part.has_room(first))
        });
        if let Some(full) = full {
            let part = self.parts.remove(full);
            self.sealed.push(part.finish(self.fs, self.origin.boot_id)?);
        }
        let place = match found {
            Some(place) => place,
            None => {
                let key = PartKey {
                    table: table.clone(),
                    kind,
                    day,
                };
                self.parts
                    .push(Part::create(self.fs, self.tables, &self.origin, key)?);
                self.parts.len() - 1
            }
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "the place was found or made just above"
        )]
        let part = &mut self.parts[place];
        Ok((part, &self.origin))
    }

    /// After the last commit of a boot that did not end cleanly: nobody knows what is missing. Only
    /// where damage left no table to name, a boot ends before a first sequence.
    pub(super) fn add_open_gap(
        &mut self,
        table: &TableName,
        first: u64,
    ) -> Result<(), CompactError> {
        self.gap(
            table,
            &Gap {
                endpoint: None,
                cause: if first == 1 {
                    GapCause::CorruptTail
                } else {
                    GapCause::PowerLoss
                },
                first,
                last: None,
                rows: None,
                bytes: None,
                times_us: None,
            },
        )
    }

    /// Adds a gap to a day's file.
    pub(super) fn gap_of_day(
        &mut self,
        table: &TableName,
        day: i32,
        gap: &Gap<'_>,
    ) -> Result<(), CompactError> {
        let (part, origin) = self.part(table, SegmentKind::Gaps, day, gap.first)?;
        part.add_gap(origin, gap)
    }

    /// Makes the files durable under their names.
    pub(super) fn finish(self) -> Result<Vec<SealedSegment>, CompactError> {
        let boot = self.origin.boot_id;
        let mut sealed = self.sealed;
        for part in self.parts {
            sealed.push(part.finish(self.fs, boot)?);
        }
        Ok(sealed)
    }
}

impl Replay for Compaction<'_> {
    type Error = CompactError;

    fn row(
        &mut self,
        table: &TableName,
        sequence: u64,
        row: &StoredRow<'_>,
    ) -> Result<(), CompactError> {
        let arrival = self.correction.arrival(row);
        let day = day_of(arrival.time_us);
        let (part, origin) = self.part(table, SegmentKind::Rows, day, sequence)?;
        part.add_row(origin, sequence, arrival, row)
    }

    fn gap(&mut self, table: &TableName, gap: &Gap<'_>) -> Result<(), CompactError> {
        // A time that cannot be right is one that nobody knows.
        let times_us = gap.times_us.filter(|(first, _)| plausible(*first));
        let gap = &Gap { times_us, ..*gap };
        let day = day_of(times_us.map_or(self.now_us, |(first, _)| first));
        self.gap_of_day(table, day, gap)
    }
}
