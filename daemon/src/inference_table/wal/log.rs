//! The writer's side of the log: batches, commits, segments and what to do when the disk fails.
//!
//! ```text
//!              first commit                     seal: age, size, day, close
//! no segment --------------> open, appended to ------------------------------> sealed
//!     ^                           |
//!     |                           | a write or sync fails: sealed at its last commit,
//!     +---------------------------+ the batch goes once into a new segment; if that fails
//!                                   too, its rows are lost, and the next commit counts them
//! ```
//!
//! A disk without room for a whole segment still takes rows: the segment then grows as it is
//! written. After two commits that failed the disk is left alone for 1 s, then 2 s, up to a minute;
//! rows of that time are lost and counted like the others.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_base::durable::{DurableFile, SharedFs};
use edgeward_base::names::{BootId, DeviceId, TableName};

use super::super::gap::{GapCause, Losses};
use super::super::record::OfferedRow;
use super::super::segment::day_of;
use super::backoff::BackOff;
use super::entry::{Batch, Entry};
use super::frame::{self, Compressor, FrameKind};
use super::replay::Position;
use super::segment::{self, WalName, WalSegment};

/// What makes one frame of the log, beside the row that comes last: a batch is in memory several
/// times while it is written, and one reader must be able to take it in.
const COMMIT_MOST: usize = 8 << 20;

/// How the log is kept.
#[derive(Debug, Clone)]
pub(in super::super) struct LogOptions {
    /// `{rows}/wal`.
    pub(in super::super) directory: PathBuf,
    pub(in super::super) device: DeviceId,
    pub(in super::super) boot: BootId,
    /// Which boot of this box it is; 0 until recovery knows.
    pub(in super::super) ordinal: Arc<AtomicU32>,
    pub(in super::super) seal_after: Duration,
    pub(in super::super) seal_size: u64,
    pub(in super::super) clock: SharedClock,
    pub(in super::super) fs: SharedFs,
}

/// What the log did since the process started.
#[derive(Debug, Default)]
pub(in super::super) struct LogCounters {
    /// Rows committed.
    pub(in super::super) committed: AtomicU64,
    /// Rows lost to a failing disk.
    pub(in super::super) lost: AtomicU64,
    /// Writes and syncs that failed.
    pub(in super::super) failures: AtomicU64,
    /// Bytes handed to the file system.
    pub(in super::super) bytes: AtomicU64,
}

#[derive(Debug)]
struct OpenSegment {
    name: WalName,
    file: Box<dyn DurableFile>,
    /// Where the next frame goes.
    end: u64,
    /// Where the last commit ends; 0 while there is none.
    committed: u64,
    opened: Duration,
    day: i32,
}

/// The log of this boot.
pub(in super::super) struct RowLog {
    options: LogOptions,
    batch: Batch,
    losses: Losses,
    /// The sequence that each table's next row takes.
    next: BTreeMap<TableName, u64>,
    open: Option<OpenSegment>,
    next_number: u32,
    sealed: Vec<WalSegment>,
    compressor: Compressor,
    backoff: BackOff,
    counters: Arc<LogCounters>,
}

impl RowLog {
    pub(in super::super) fn new(options: LogOptions, counters: Arc<LogCounters>) -> Self {
        Self {
            options,
            batch: Batch::default(),
            losses: Losses::default(),
            next: BTreeMap::new(),
            open: None,
            next_number: 1,
            sealed: Vec::new(),
            compressor: Compressor::new(),
            backoff: BackOff::default(),
            counters,
        }
    }

    /// Adds a row to the next commit.
    pub(in super::super) fn push(&mut self, row: OfferedRow) {
        self.batch.push(row);
    }

    /// Whether the rows that wait fill a frame as large as any should be.
    pub(in super::super) fn is_full(&self) -> bool {
        self.batch.bytes() >= COMMIT_MOST
    }

    /// How long from now until rows that were lost can be counted in the log, if there are any.
    pub(in super::super) fn count_in(&self) -> Option<Duration> {
        let now = self.options.clock.monotonic();
        (!self.losses.is_empty()).then(|| self.backoff.rest(now))
    }

    /// The rows that were lost and are not yet counted in the log.
    pub(in super::super) fn losses(&mut self) -> &mut Losses {
        &mut self.losses
    }

    /// Makes everything that waits durable, or counts it as lost.
    pub(in super::super) fn commit(&mut self) {
        self.seal_when_day_changed();
        if !self.batch.is_empty() || !self.losses.is_empty() {
            self.commit_batch(&[]);
        }
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.committed >= self.options.seal_size)
        {
            self.seal();
        }
    }

    /// The last commit. When it is `complete`, with what waits goes the mark that nothing was lost
    /// after it, unless something was. Seals. Answers where each table ended, if the boot ended
    /// cleanly.
    pub(in super::super) fn close(&mut self, complete: bool) -> Option<Position> {
        let idle = self.batch.is_empty() && self.losses.is_empty();
        self.backoff.end();
        if self.open.is_some() || !idle {
            let close = complete.then(|| postcard::to_stdvec(&Entry::Close).unwrap_or_default());
            self.commit_batch(&close.unwrap_or_default());
        }
        self.seal();
        let nothing_lost = complete && self.losses.is_empty();
        nothing_lost.then(|| self.position())
    }

    /// Where each table has come to.
    pub(in super::super) fn position(&self) -> Position {
        let next = self.next.iter();
        next.map(|(table, next)| (table.clone(), *next)).collect()
    }

    /// How long from now until the open segment has to be sealed for its age.
    pub(in super::super) fn seal_in(&self) -> Option<Duration> {
        let open = self.open.as_ref()?;
        let age = self.options.clock.monotonic().saturating_sub(open.opened);
        Some(self.options.seal_after.saturating_sub(age))
    }

    /// Ends the open segment, if there is one.
    pub(in super::super) fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.retire(open);
        }
    }

    /// The segments sealed since the last call, in the order of the log.
    pub(in super::super) fn take_sealed(&mut self) -> Vec<WalSegment> {
        std::mem::take(&mut self.sealed)
    }

    fn seal_when_day_changed(&mut self) {
        let today = day_of(self.options.clock.wall_micros());
        if self.open.as_ref().is_some_and(|open| open.day != today) {
            self.seal();
        }
    }

    fn commit_batch(&mut self, mark: &[u8]) {
        let rows = self.batch.rows();
        let mut next = self.next.clone();
        let written = self
            .batch
            .encode(&self.losses, &mut next)
            .map_err(io::Error::other)
            .and_then(|batch| self.try_write([batch.as_slice(), mark].concat().as_slice()));
        match written {
            Ok(()) => {
                self.next = next;
                self.batch.clear();
                self.losses.clear();
                self.counters.committed.fetch_add(rows, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, rows, "inference rows are lost: the log cannot be written");
                self.counters.lost.fetch_add(rows, Ordering::Relaxed);
                self.batch.lose(GapCause::of(&error), &mut self.losses);
            }
        }
    }

    /// Writes a batch durably, unless the disk has failed just now.
    fn try_write(&mut self, batch: &[u8]) -> io::Result<()> {
        let now = self.options.clock.monotonic();
        self.backoff.check(now)?;
        let written = self.write(batch);
        match &written {
            Ok(()) => self.backoff.end(),
            Err(error) => self.backoff.failed(error.kind(), now),
        }
        written
    }

    /// Writes a batch durably, into a new segment if the open one fails.
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            match self.write_to(open, batch) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "a row segment failed; a new one takes over");
                }
            }
        }
        let open = self.create()?;
        self.write_to(open, batch)
    }

    /// Writes a batch to a segment, which stays open; one that fails is retired.
    fn write_to(&mut self, mut open: OpenSegment, batch: &[u8]) -> io::Result<()> {
        match self.append(&mut open, batch) {
            Ok(()) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                self.retire(open);
                Err(error)
            }
        }
    }

    fn append(&mut self, open: &mut OpenSegment, batch: &[u8]) -> io::Result<()> {
        let compressed = self.compressor.compress(batch)?;
        let frame = match &compressed {
            Some((size, data)) => frame::encode(
                open.name,
                open.end,
                FrameKind::CompressedBatch,
                &[size, data],
            )?,
            None => frame::encode(open.name, open.end, FrameKind::Batch, &[batch])?,
        };
        open.file.append(&frame)?;
        open.end += frame.len() as u64;
        self.counters
            .bytes
            .fetch_add(frame.len() as u64, Ordering::Relaxed);
        if open.committed == 0 {
            open.file.sync_all()?;
            self.options.fs.sync_dir(&self.options.directory)?;
        } else {
            open.file.sync_data()?;
        }
        open.committed = open.end;
        Ok(())
    }

    fn create(&mut self) -> io::Result<OpenSegment> {
        let name = WalName {
            boot: self.options.boot,
            number: self.next_number,
        };
        self.next_number += 1;
        self.create_named(name).inspect_err(|_| {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            self.discard(name);
        })
    }

    fn create_named(&self, name: WalName) -> io::Result<OpenSegment> {
        let LogOptions {
            directory,
            clock,
            fs,
            ..
        } = &self.options;
        fs.create_dir_all(directory)?;
        let ordinal = self.options.ordinal.load(Ordering::Relaxed);
        let next = self.next.iter();
        let opening = segment::opening(&self.options.device, ordinal, clock.as_ref(), next);
        let day = day_of(opening.opened_us);
        let start = segment::start(name, opening)?;
        let path = name.path(directory);
        let mut file = fs.create_new(&path)?;
        if let Err(error) = file.preallocate(self.options.seal_size) {
            if GapCause::of(&error) != GapCause::Enospc {
                return Err(error);
            }
            // A file of its own: what was allocated of the first is free again.
            drop(file);
            fs.remove(&path)?;
            file = fs.create_new(&path)?;
        }
        file.append(&start)?;
        Ok(OpenSegment {
            name,
            file,
            end: start.len() as u64,
            committed: 0,
            opened: clock.monotonic(),
            day,
        })
    }

    /// Hands a segment on to compaction; one without a commit holds nothing that counts.
    fn retire(&mut self, open: OpenSegment) {
        let OpenSegment {
            name,
            file,
            committed,
            ..
        } = open;
        drop(file);
        if committed == 0 {
            self.discard(name);
        } else {
            let committed = Some(committed);
            self.sealed.push(WalSegment { name, committed });
        }
    }

    /// Removes a file that holds nothing that was acknowledged. What a failing disk keeps of it,
    /// the next start takes for what it is.
    fn discard(&self, name: WalName) {
        if let Err(error) = self.options.fs.remove(&name.path(&self.options.directory))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, segment = %name, "an empty row segment stays");
        }
    }
}

#[cfg(test)]
impl RowLog {
    /// The options, for a test to change.
    pub(super) fn options_for_test(&mut self) -> &mut LogOptions {
        &mut self.options
    }
}

impl std::fmt::Debug for RowLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RowLog")
            .field("open", &self.open)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}
