//! Databases: the numbered directories `{state}/db/{number, 8 digits}`, of which the highest counts.
//!
//! A sled that hangs while it opens goes on running in its thread and writes files by their path,
//! and one that has failed keeps its directory locked. So a path belongs to one database: what
//! replaces a database gets the next number.
//!
//! ```text
//! 00000001 sound -----------------------------> in use
//!          fails, hangs, empty, older --------> 00000002 built from the export --> in use
//!                                               00000001 --> db.corrupt-{unix seconds}
//! ```
//!
//! Must never build at a path that another database has, and never take a disk that is full for a
//! database that is damaged.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use edgeward_base::durable::{DurableFile, parent};
use edgeward_base::error::chain;

use crate::tasks::SpawnThreadError;

use super::StoreOptions;
use super::ballast::is_full;
use super::open::{OpenStoreError, catch, file_error};
use super::record::{self, Durability, Table};
use super::shelf::{self, Shelves, Stored};

/// How many of the things that were moved aside are kept for inspection, of each kind.
const ASIDE_KEPT: usize = 2;

/// Digits in the name of a database.
const DIGITS: usize = 8;

/// How databases are opened: a test puts one in its place that fails, panics or hangs.
pub(super) trait OpenDatabase: Send + Sync + Debug {
    /// Opens or creates the database in `directory`.
    fn open(&self, directory: &Path) -> Result<Shelves, sled::Error>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct Sled;

impl OpenDatabase for Sled {
    fn open(&self, directory: &Path) -> Result<Shelves, sled::Error> {
        Shelves::open(directory)
    }
}

/// How a database was found.
pub(super) enum Condition {
    Sound {
        shelves: Shelves,
        generation: u64,
        /// The layout that it was written in.
        layout: u16,
        /// Whether a record has an older layout than this binary writes.
        older_records: bool,
    },
    Newer {
        what: String,
        found: u16,
        known: u16,
    },
    Failed(String),
    /// The disk has no room to open it: that says nothing about the database.
    Full(String),
}

impl Condition {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if is_full(error) {
            Self::Full(chain(error))
        } else {
            Self::Failed(chain(error))
        }
    }
}

/// The databases of one state directory.
pub(super) struct Databases<'a> {
    options: &'a StoreOptions,
    directory: PathBuf,
}

impl<'a> Databases<'a> {
    pub(super) fn of(options: &'a StoreOptions) -> Self {
        let directory = options.state_dir.join("db");
        Self { options, directory }
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:0DIGITS$}"))
    }

    /// The numbers that are there, in order.
    pub(super) fn numbers(&self) -> Result<Vec<u32>, OpenStoreError> {
        let paths = self.options.fs.list(&self.directory);
        let paths = paths.map_err(file_error("read", &self.directory))?;
        let mut numbers: Vec<u32> = paths.iter().filter_map(|path| number_of(path)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A number that no database has.
    pub(super) fn next(&self) -> Result<u32, OpenStoreError> {
        Ok(self.numbers()?.last().map_or(1, |number| number + 1))
    }

    /// Gives a database of layout 0, whose files lie in `db` itself, the first number. May be cut
    /// short anywhere and repeated.
    pub(super) fn adopt_flat(&self) -> Result<(), OpenStoreError> {
        let (fs, state) = (self.options.fs.as_ref(), &self.options.state_dir);
        let flat = state.join("db.flat");
        let there = fs.list(&self.directory);
        let there = there.map_err(file_error("read", &self.directory))?;
        if there.iter().any(|path| number_of(path).is_none()) {
            fs.rename(&self.directory, &flat)
                .map_err(file_error("move", &self.directory))?;
            fs.sync_dir(state).map_err(file_error("sync", state))?;
        }
        fs.create_dir_all(&self.directory)
            .map_err(file_error("make directory", &self.directory))?;
        if flat.try_exists().map_err(file_error("read", &flat))? {
            let first = self.path(self.next()?);
            fs.rename(&flat, &first)
                .map_err(file_error("move", &flat))?;
            for directory in [&self.directory, state] {
                fs.sync_dir(directory)
                    .map_err(file_error("sync", directory))?;
            }
        }
        Ok(())
    }

    /// Opens a database on a thread of its own, within the time limit, and reads all of it.
    pub(super) fn examine(&self, directory: PathBuf) -> Condition {
        let (sender, receiver) = mpsc::channel();
        let tables = self.options.tables.clone();
        let opener = std::sync::Arc::clone(&self.options.opener);
        let work = move || {
            let condition = catch(|| examine(opener.as_ref(), &directory, &tables));
            let condition = condition
                .unwrap_or_else(|message| Condition::Failed(format!("panicked: {message}")));
            drop(sender.send(condition));
        };
        if let Err(error) = self.spawn(work) {
            return Condition::Failed(format!("cannot be examined: {error}"));
        }
        let limit = self.options.open_limit;
        receiver
            .recv_timeout(limit)
            .unwrap_or_else(|_| Condition::Failed(format!("does not open within {limit:?}")))
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SpawnThreadError> {
        let spawned = self.options.tasks.spawn_thread("store-open", work);
        spawned.map(drop)
    }

    /// Makes a database that holds these envelopes. One that cannot be made leaves nothing.
    pub(super) fn build(
        &self,
        number: u32,
        (records, progress): (&[Stored], &[Stored]),
        generation: u64,
    ) -> Result<Shelves, OpenStoreError> {
        let path = self.path(number);
        let built = catch(|| -> Result<Shelves, OpenStoreError> {
            let shelves = self.options.opener.open(&path).map_err(build_error)?;
            shelves
                .install(records, progress, generation)
                .map_err(build_error)?;
            shelves.flush().map_err(build_error)?;
            Ok(shelves)
        });
        let built = built.unwrap_or_else(|message| {
            let source = io::Error::other(message).into();
            Err(OpenStoreError::Build { source })
        });
        if built.is_err() {
            self.remove(number);
        }
        built
    }

    /// Syncs a database's files and the directories above them, and answers the descriptor that
    /// commits sync.
    pub(super) fn sync(&self, number: u32) -> Result<Box<dyn DurableFile>, OpenStoreError> {
        let (fs, state) = (self.options.fs.as_ref(), &self.options.state_dir);
        let directory = self.path(number);
        let sync = |name: &str| -> Result<Box<dyn DurableFile>, OpenStoreError> {
            let path = directory.join(name);
            let mut file = fs.open(&path).map_err(file_error("open", &path))?;
            file.sync_all().map_err(file_error("sync", &path))?;
            Ok(file)
        };
        drop(sync("conf")?);
        let database = sync("db")?;
        for directory in [&directory, &self.directory, state, parent(state)] {
            fs.sync_dir(directory)
                .map_err(file_error("sync", directory))?;
        }
        Ok(database)
    }

    /// Moves a database away under a free name, and removes the oldest of those moved before.
    pub(super) fn move_aside(&self, number: u32) -> Result<PathBuf, OpenStoreError> {
        move_aside(self.options, &self.path(number), "db.corrupt-")
    }

    /// Removes every database but this one: they were replaced, or their building was cut short.
    pub(super) fn remove_others(&self, current: u32) -> Result<(), OpenStoreError> {
        for number in self.numbers()? {
            if number != current {
                self.remove(number);
            }
        }
        Ok(())
    }

    /// Removes a database. It is no state: a failure is told and stops nothing.
    pub(super) fn remove(&self, number: u32) {
        let path = self.path(number);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a database");
            }
            _ => {}
        }
    }
}

/// Moves a file or directory of the state to `{state}/{prefix}{unix seconds}`, durably, and removes
/// the oldest of that kind.
pub(super) fn move_aside(
    options: &StoreOptions,
    path: &Path,
    prefix: &str,
) -> Result<PathBuf, OpenStoreError> {
    let (fs, state) = (options.fs.as_ref(), &options.state_dir);
    let mut seconds = options.clock.wall_micros().div_euclid(1_000_000);
    let mut aside = state.join(format!("{prefix}{seconds}"));
    while aside.try_exists().map_err(file_error("read", &aside))? {
        seconds += 1;
        aside = state.join(format!("{prefix}{seconds}"));
    }
    fs.rename(path, &aside).map_err(file_error("move", path))?;
    for directory in [parent(path), state] {
        fs.sync_dir(directory)
            .map_err(file_error("sync", directory))?;
    }
    let mut kept = fs.list(state).map_err(file_error("read", state))?;
    kept.retain(|path| has_prefix(path, prefix) && *path != aside);
    // Seconds of 1970 have fewer digits than today's.
    kept.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    for old in kept.iter().rev().skip(ASIDE_KEPT - 1) {
        // Evidence, not state: a failure to remove it must not stop the start.
        if let Err(error) = std::fs::remove_dir_all(old) {
            tracing::warn!(path = %old.display(), %error, "cannot remove what was moved aside");
        }
    }
    Ok(aside)
}

pub(super) fn has_prefix(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(prefix))
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let digits = name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok())?
}

fn examine(opener: &dyn OpenDatabase, directory: &Path, tables: &[Table]) -> Condition {
    let shelves = match opener.open(directory) {
        Ok(shelves) => shelves,
        Err(error) => return Condition::of(&error),
    };
    let meta = match shelves.meta() {
        Ok(Some(meta)) => meta,
        Ok(None) => return Condition::Failed("empty".to_owned()),
        Err(error) => return Condition::of(&error),
    };
    if meta.layout > shelf::LAYOUT {
        return Condition::Newer {
            what: "the database".to_owned(),
            found: meta.layout,
            known: shelf::LAYOUT,
        };
    }
    let mut older_records = false;
    for durability in [Durability::Committed, Durability::Progress] {
        let ages = read_all(&shelves, durability).and_then(|records| age(&records, tables));
        match ages {
            Ok(Age::Newer { what, found, known }) => {
                return Condition::Newer { what, found, known };
            }
            Ok(Age::Older) => older_records |= durability == Durability::Committed,
            Ok(Age::Current) => {}
            Err(reason) => return Condition::Failed(reason),
        }
    }
    Condition::Sound {
        shelves,
        generation: meta.generation,
        layout: meta.layout,
        older_records,
    }
}

/// How the layouts of some records relate to those that this binary writes.
pub(super) enum Age {
    Current,
    /// At least one is older, and none is newer.
    Older,
    /// The first that a newer binary wrote: what it is, its layout, and the one known.
    Newer {
        what: String,
        found: u16,
        known: u16,
    },
}

/// Compares layouts; an error says which record is damaged.
pub(super) fn age(records: &[Stored], tables: &[Table]) -> Result<Age, String> {
    let mut age = Age::Current;
    for (name, value) in records {
        let envelope = record::open_envelope(name, value)
            .map_err(|error| format!("record {}: {error}", String::from_utf8_lossy(name)))?;
        let table = record::table_of(name);
        let known = tables.iter().find(|known| known.name == table);
        let known = known.map_or(0, |known| known.schema);
        if envelope.schema > known {
            return Ok(Age::Newer {
                what: format!("table {table}"),
                found: envelope.schema,
                known,
            });
        }
        if envelope.schema < known {
            age = Age::Older;
        }
    }
    Ok(age)
}

pub(super) fn read_all(shelves: &Shelves, durability: Durability) -> Result<Vec<Stored>, String> {
    let found = shelves.of(durability).scan(&[]);
    found.map_err(|error| error.to_string())
}

pub(super) fn build_error(error: impl std::error::Error + Send + Sync + 'static) -> OpenStoreError {
    let source = Box::new(error);
    OpenStoreError::Build { source }
}
