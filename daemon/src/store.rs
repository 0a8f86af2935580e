//! Store: the typed records of the box's state, on sled; the only user of sled.
//!
//! Owns `{state}/db`, `{state}/export`, `{state}/lock` and the ballast. One writer thread makes every
//! change; reads go straight to sled from any thread.
//!
//! sled 0.34 does not make a flush durable on Linux and may refuse its own files after a crash, so
//! a change is acknowledged only after all of this, in this order:
//!
//! ```text
//! one transaction over the records, the progress and the generation
//!   -> sled flush -> fsync of the database through a descriptor of our own
//!   -> all committed records exported as one checksummed file (see `export`)
//!   -> acknowledged
//! ```
//!
//! Changes that wait while one is written share the next transaction, fsync and export. When any
//! step fails the store is poisoned: it refuses further changes by name and goes on reading, until a
//! database made anew from what was acknowledged has taken the failed one's place:
//!
//! ```text
//! open --a step fails--> poisoned --after 1 s, 2 s, ... 60 s, new database and export--> open
//! ```
//!
//! The failed change is not acknowledged. It is gone once the store is open again; when the process
//! ends before that, it may or may not be there after the next start.
//!
//! At start the newest sound export is compared with sled. When sled fails, panics, hangs, is
//! damaged, empty or older, it is moved aside as `db.corrupt-{unix seconds}` and a new database is
//! built from the export (see `database`); [`StoreReport`] says so. A full disk is no damage: the
//! start takes `ballast`. State of an older version is kept before it is rewritten (see `migrate`).
//!
//! Records whose [`Durability`] is `Progress` (outbox positions, chunk bitmaps) are recomputable:
//! they are made durable at most once per interval, and are not exported.
//!
//! Must never hold a secret (old values stay in sled's log), never acknowledge early, and never
//! repeat a failed sync.
//!
//! A record's value is an envelope: `postcard{schema: u16, generation: u64, payload: bytes}`
//! followed by the CRC-32 (little endian) of the record's name and those bytes. sled keeps values
//! over 128 KiB in files that it never syncs; a value is therefore cut into pieces (see `shelf`).

mod ballast;
mod check;
mod database;
mod export;
mod lock;
mod migrate;
mod open;
mod record;
mod restore;
mod shelf;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use edgeward_base::clock::SharedClock;
use edgeward_base::durable::SharedFs;
use edgeward_base::units::ByteCount;

use crate::tasks::Tasks;
use crate::telemetry::Metrics;

pub use check::{CheckedDatabase, CheckedExport, StateCheck, check};
pub use lock::{LockStateError, StateLock};
pub use open::OpenStoreError;
pub use record::{Change, ChangeError, DecodeRecordError, Durability, Record, Table};
pub use restore::{RestoreStateError, Restored, export_to, restore, rollback};

use database::{OpenDatabase, Sled};
use shelf::Shelves;
use writer::Writer;

/// What a store needs to open.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The state directory; `db`, `export` and `lock` are made in it.
    pub state_dir: PathBuf,
    /// Every table this binary knows. A table that is not listed cannot be written, and state
    /// that holds one was written by a newer binary and is refused.
    pub tables: Vec<Table>,
    /// Where the writer thread runs.
    pub tasks: Tasks,
    /// Dates the directories moved aside and spaces the syncs of progress.
    pub clock: SharedClock,
    /// Through which the database is synced and exports are written.
    pub fs: SharedFs,
    /// Where changes are counted.
    pub metrics: Metrics,
    /// How long progress may wait to be made durable.
    pub progress_interval: Duration,
    /// How long the database may take to open before it counts as failed.
    pub open_limit: Duration,
    /// The size of each of the two files that keep room on the disk for the state.
    pub ballast: ByteCount,
    /// What a start does when the database and every export are damaged.
    pub when_lost: WhenLost,
    opener: Arc<dyn OpenDatabase>,
}

/// What a start does when nothing of the state can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenLost {
    /// It fails, with [`OpenStoreError::Lost`].
    Refuse,
    /// It begins without a record, above every generation that was seen, and
    /// [`StoreReport::lost`] says so. What is damaged is kept aside.
    StartEmpty,
}

impl StoreOptions {
    /// Progress is recomputable: losing 5 s of it repeats some work after a power cut, and one
    /// fsync in 5 s wears no flash.
    pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

    /// sled opens a sound state in milliseconds; a slow card under load may need seconds.
    pub const OPEN_LIMIT: Duration = Duration::from_secs(30);

    /// sled writes in steps of 512 KiB, and a state with its exports is smaller than that.
    pub const BALLAST: ByteCount = ByteCount::mib(2);

    /// Options with the default limits and no table, which refuse a lost state.
    #[must_use]
    pub fn new(state_dir: PathBuf, tasks: Tasks, clock: SharedClock, fs: SharedFs) -> Self {
        let progress_interval = Self::PROGRESS_INTERVAL;
        Self {
            state_dir,
            tables: Vec::new(),
            tasks,
            clock,
            fs,
            metrics: Metrics::new(),
            progress_interval,
            open_limit: Self::OPEN_LIMIT,
            ballast: Self::BALLAST,
            when_lost: WhenLost::Refuse,
            opener: Arc::new(Sled),
        }
    }

    /// Counts changes in the numbers of the process.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Begins without a record when nothing of the state can be read.
    #[must_use]
    pub fn starting_empty_when_lost(mut self) -> Self {
        self.when_lost = WhenLost::StartEmpty;
        self
    }

    /// Adds the table of a record type.
    #[must_use]
    pub fn with_table<R: Record>(mut self) -> Self {
        self.tables.push(Table::of::<R>());
        self
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// The generation of the newest committed change; 0 when there is none yet.
    pub generation: u64,
    /// There was no state: it was created.
    pub created: bool,
    /// The database was rebuilt from an export.
    pub rebuilt: Option<Rebuilt>,
    /// Export files that are damaged. They are left where they are until newer ones replace them.
    pub damaged_exports: Vec<PathBuf>,
    /// Records were rewritten: the layout of the state as it was, which is kept.
    pub migrated_from: Option<u16>,
    /// Nothing of the state could be read, and it began without a record.
    pub lost: bool,
}

impl StoreReport {
    /// Takes over what an attempt at the same start had found before it failed.
    fn take_over(&mut self, earlier: &Self) {
        let rebuilt = self.rebuilt.take();
        self.rebuilt = rebuilt.or_else(|| earlier.rebuilt.clone());
        self.migrated_from = self.migrated_from.or(earlier.migrated_from);
        self.created |= earlier.created;
        self.lost |= earlier.lost;
        if self.damaged_exports.is_empty() {
            self.damaged_exports.clone_from(&earlier.damaged_exports);
        }
    }
}

/// A database that was rebuilt from the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Why, in words for a log.
    pub reason: String,
    /// Where the old database went; `None` when there was none.
    pub moved_to: Option<PathBuf>,
}

/// A failed read.
#[derive(Debug, thiserror::Error)]
pub enum ReadStoreError {
    /// The database failed.
    #[error("cannot read table {table}")]
    Database {
        /// The table.
        table: &'static str,
        /// What sled answered.
        #[source]
        source: sled::Error,
    },
    /// The database panicked on damaged data.
    #[error("the database panicked while table {table} was read: {message}")]
    Panicked {
        /// The table.
        table: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The record is there and cannot be read.
    #[error("cannot read record {key} of table {table}")]
    Decode {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: DecodeRecordError,
    },
}

/// A change that was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitStoreError {
    /// The change writes a table that is not among [`StoreOptions::tables`].
    #[error("table {0} is not among the tables that the store was opened with")]
    UnknownTable(&'static str),
    /// The change holds a record that must be committed, and was given as progress.
    #[error("a record of table {0} must be committed: it is no progress")]
    NotProgress(&'static str),
    /// A write failed, now or before: the store accepts no further changes.
    #[error("the store is poisoned and accepts no changes: {0}")]
    Poisoned(Arc<str>),
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
}

/// A store that could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckStoreError {
    /// Its files cannot be read.
    #[error("cannot check the state")]
    Files(#[source] OpenStoreError),
    /// The store was closed, or its writer is gone.
    #[error("the store is closed")]
    Closed,
}

/// The state of the box. A clone is another handle to the same state.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The database in use: the writer puts another one in its place when it fails.
    shelves: Arc<ArcSwap<Shelves>>,
    tables: Vec<Table>,
    writer: Writer,
    poison: Poison,
    figures: Arc<Figures>,
    /// Held as long as any handle lives.
    _lock: Arc<StateLock>,
}

/// Why the store accepts no changes; empty while it does.
#[derive(Clone, Debug, Default)]
struct Poison(Arc<Mutex<Option<Arc<str>>>>);

impl Poison {
    fn get(&self) -> Option<Arc<str>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, reason: String) -> Arc<str> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slot.get_or_insert_with(|| reason.into()))
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the writer tells of itself.
#[derive(Debug)]
struct Figures {
    generation: AtomicU64,
    reopens: AtomicU64,
    ballast: AtomicU64,
}

impl Figures {
    fn at(generation: u64, ballast: ByteCount) -> Self {
        Self {
            generation: AtomicU64::new(generation),
            reopens: AtomicU64::new(0),
            ballast: AtomicU64::new(ballast.0),
        }
    }
}

impl Store {
    /// Opens the state directory, or creates it. Blocks: for the start of the process.
    ///
    /// # Errors
    /// [`OpenStoreError`]; among them state of a newer binary, which is left untouched.
    pub fn open(options: StoreOptions) -> Result<(Self, StoreReport), OpenStoreError> {
        open::open(options)
    }

    /// The record of this key.
    ///
    /// # Errors
    /// [`ReadStoreError`].
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, ReadStoreError> {
        let table = R::TABLE;
        let shelves = self.shared.shelves.load();
        let shelf = shelves.of(R::DURABILITY);
        let name = record::name(table, key);
        untorn(|| {
            let envelope = guarded(table, || shelf.get(&name))?;
            envelope.map(|bytes| decode(key, &name, &bytes)).transpose()
        })
    }

    /// All records of a table, in the order of their keys.
    ///
    /// # Errors
    /// [`ReadStoreError`].
    pub fn list<R: Record>(&self) -> Result<Vec<R>, ReadStoreError> {
        let table = R::TABLE;
        let shelves = self.shared.shelves.load();
        let shelf = shelves.of(R::DURABILITY);
        untorn(|| {
            let found = guarded(table, || shelf.scan(&record::name(table, "")))?;
            let records = found.iter();
            let records = records.map(|(name, bytes)| decode(record::key_of(name), name, bytes));
            records.collect()
        })
    }

    /// Makes a change, whole or not at all, and answers its generation. When this answers `Ok` the
    /// change survives a power cut. Waits while 64 others wait.
    ///
    /// # Errors
    /// [`CommitStoreError`].
    pub async fn commit(&self, change: Change) -> Result<u64, CommitStoreError> {
        self.check_tables(&change)?;
        self.shared.writer.commit(change).await
    }

    /// Records recomputable progress: visible to reads when this answers, durable within the
    /// progress interval, with the next commit, or at close.
    ///
    /// # Errors
    /// [`CommitStoreError`].
    pub async fn record_progress(&self, change: Change) -> Result<(), CommitStoreError> {
        self.check_tables(&change)?;
        if let Some(table) = change.first_committed_table() {
            return Err(CommitStoreError::NotProgress(table));
        }
        self.shared.writer.record_progress(change).await
    }

    /// Why the store accepts no changes; `None` while it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.shared.poison.get()
    }

    /// Bytes that the database takes on disk.
    #[must_use]
    pub fn size_on_disk(&self) -> ByteCount {
        ByteCount(self.shared.shelves.load().size_on_disk())
    }

    /// The generation of the newest acknowledged change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.figures.generation.load(Ordering::Relaxed)
    }

    /// How many times a new database took the place of one that failed or had grown, since the
    /// start.
    #[must_use]
    pub fn reopens(&self) -> u64 {
        self.shared.figures.reopens.load(Ordering::Relaxed)
    }

    /// The room on the disk that is held for the state.
    #[must_use]
    pub fn ballast(&self) -> ByteCount {
        ByteCount(self.shared.figures.ballast.load(Ordering::Relaxed))
    }

    /// Checks the exports and the database against each other, between two changes.
    ///
    /// # Errors
    /// [`CheckStoreError`].
    pub async fn check(&self) -> Result<StateCheck, CheckStoreError> {
        self.shared.writer.check().await
    }

    /// Makes progress durable and ends the writer. Later changes are refused; reads go on. The
    /// state directory stays locked until the last handle is dropped.
    ///
    /// # Errors
    /// [`CommitStoreError`] when progress could not be made durable.
    pub async fn close(&self) -> Result<(), CommitStoreError> {
        self.shared.writer.close().await
    }

    fn check_tables(&self, change: &Change) -> Result<(), CommitStoreError> {
        let known = |table: &&str| self.shared.tables.iter().any(|known| known.name == *table);
        match change.tables().find(|table| !known(table)) {
            Some(table) => Err(CommitStoreError::UnknownTable(table)),
            None => Ok(()),
        }
    }
}

/// How often a record that cannot be decoded is read again.
const TORN_READS: usize = 3;

/// Repeats a read whose record cannot be decoded: a change may have come between the pieces of a
/// long one, which its checksum tells. A record that is damaged is so the next time as well.
fn untorn<T>(read: impl Fn() -> Result<T, ReadStoreError>) -> Result<T, ReadStoreError> {
    let mut answers = std::iter::repeat_with(&read).take(TORN_READS);
    let torn = |answer: &Result<T, _>| matches!(answer, Err(ReadStoreError::Decode { .. }));
    answers.find(|answer| !torn(answer)).unwrap_or_else(read)
}

/// Runs a read; sled panics on some damaged pages.
fn guarded<T>(
    table: &'static str,
    read: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, ReadStoreError> {
    match open::catch(read) {
        Ok(answer) => answer.map_err(|source| ReadStoreError::Database { table, source }),
        Err(message) => Err(ReadStoreError::Panicked { table, message }),
    }
}

fn decode<R: Record>(key: &str, name: &[u8], envelope: &[u8]) -> Result<R, ReadStoreError> {
    record::open_envelope(name, envelope)
        .and_then(|envelope| R::decode(envelope.schema, envelope.payload))
        .map_err(|source| ReadStoreError::Decode {
            table: R::TABLE,
            key: key.to_owned(),
            source,
        })
}
