//! Opening: lock, judge sled against the newest export, rebuild where it does not hold.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use edgeward_base::durable::{DurableFile, DurableFs, parent};

use crate::tasks::{SpawnThreadError, Tasks};

use super::export::{self, Export};
use super::lock::{LockStateError, StateLock};
use super::record::{self, Durability, Table};
use super::shelf::{self, Shelves, Stored};
use super::writer::{Writer, WriterOptions};
use super::{Poison, Rebuilt, Shared, Store, StoreOptions, StoreReport};

/// sled opens a sound state in milliseconds; a slow card under load may need seconds.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Above this the database is mostly garbage (state is tens of kilobytes): it is rebuilt at start.
const REBUILD_ABOVE_BYTES: u64 = 16 << 20;

/// How many databases that were moved aside are kept for inspection.
const ASIDE_KEPT: usize = 2;

/// The state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The directory cannot be locked.
    #[error("cannot own the state directory")]
    Lock(#[source] LockStateError),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The state was written by a newer binary; it is left untouched.
    #[error(
        "{what} has layout {found}, this binary knows {known}: it was written by a newer version; \
         install that version again"
    )]
    Newer {
        /// Which part of the state.
        what: String,
        /// The layout found.
        found: u16,
        /// The newest layout known; 0 for a table that is not known at all.
        known: u16,
    },
    /// sled fails and no export is sound: opening would lose everything.
    #[error("the database fails ({reason}) and every export is damaged: {damaged:?}")]
    Lost {
        /// Why the database fails.
        reason: String,
        /// The damaged exports.
        damaged: Vec<PathBuf>,
    },
    /// The new database cannot be written.
    #[error("cannot build the database: {0}")]
    Build(String),
    /// No thread for the writer.
    #[error("cannot start the writer")]
    Thread(#[source] SpawnThreadError),
}

impl OpenStoreError {
    /// Whether a newer program wrote the state: installing that program is the way out.
    #[must_use]
    pub const fn is_newer_state(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

/// How the database was found.
enum Condition {
    Sound {
        shelves: Shelves,
        generation: u64,
    },
    Newer {
        what: String,
        found: u16,
        known: u16,
    },
    Failed(String),
}

struct Paths {
    state: PathBuf,
    db: PathBuf,
    export: PathBuf,
}

struct Opening<'a> {
    options: &'a StoreOptions,
    paths: Paths,
}

/// Runs what may panic inside sled and answers the panic's message.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

pub(super) fn open(options: StoreOptions) -> Result<(Store, StoreReport), OpenStoreError> {
    let state = options.state_dir.clone();
    let paths = Paths {
        db: state.join("db"),
        export: state.join("export"),
        state,
    };
    let opening = Opening {
        options: &options,
        paths,
    };
    for directory in [&opening.paths.state, &opening.paths.export] {
        let made = options.fs.create_dir_all(directory);
        made.map_err(file_error("make directory", directory))?;
    }
    let lock = StateLock::acquire(&opening.paths.state).map_err(OpenStoreError::Lock)?;
    let lock = Arc::new(lock);
    let (shelves, report) = opening.judge()?;
    let synced = sync_database(options.fs.as_ref(), &opening.paths)?;
    let records = read_all(&shelves, Durability::Committed).map_err(OpenStoreError::Build)?;
    let generation = report.generation;
    let export = Export {
        generation,
        records,
    };
    export::write(options.fs.as_ref(), &opening.paths.export, &export)
        .map_err(|error| build_error(&error))?;
    let poison = Poison::default();
    let writer = Writer::start(WriterOptions {
        shelves: shelves.clone(),
        synced,
        generation: report.generation,
        export_dir: opening.paths.export,
        poison: poison.clone(),
        lock: Arc::clone(&lock),
        options: options.clone(),
    })
    .map_err(OpenStoreError::Thread)?;
    let shared = Shared {
        shelves,
        tables: options.tables,
        writer,
        poison,
        _lock: lock,
    };
    Ok((
        Store {
            shared: Arc::new(shared),
        },
        report,
    ))
}

impl Opening<'_> {
    /// Decides between the database and the export.
    fn judge(&self) -> Result<(Shelves, StoreReport), OpenStoreError> {
        let found = export::find(self.options.fs.as_ref(), &self.paths.export)
            .map_err(file_error("read", &self.paths.export))?;
        if let Some(layout) = found.newer_layout {
            let what = "the export".to_owned();
            return Err(OpenStoreError::Newer {
                what,
                found: layout,
                known: shelf::LAYOUT,
            });
        }
        let there = self
            .paths
            .db
            .try_exists()
            .map_err(file_error("read", &self.paths.db))?;
        let mut report = StoreReport {
            generation: 0,
            created: !there && found.newest.is_none() && found.damaged.is_empty(),
            rebuilt: None,
            damaged_exports: found.damaged,
        };
        if report.created {
            return Ok((self.build(&[], &[], 0)?, report));
        }
        let condition = if there {
            self.examine()
        } else {
            Condition::Failed("missing".into())
        };
        let (reason, progress) = match condition {
            Condition::Newer { what, found, known } => {
                return Err(OpenStoreError::Newer { what, found, known });
            }
            Condition::Failed(reason) => (reason, Vec::new()),
            Condition::Sound {
                shelves,
                generation,
            } => match outdated(&shelves, generation, found.newest.as_ref()) {
                None => {
                    report.generation = generation;
                    return Ok((shelves, report));
                }
                Some(reason) => (
                    reason,
                    read_all(&shelves, Durability::Progress).unwrap_or_default(),
                ),
            },
        };
        report.rebuilt = Some(Rebuilt {
            reason,
            moved_to: None,
        });
        self.rebuild(found.newest, &progress, report)
    }

    /// Puts a database made of the newest export in the place of the one that does not hold.
    fn rebuild(
        &self,
        newest: Option<Export>,
        progress: &[Stored],
        mut report: StoreReport,
    ) -> Result<(Shelves, StoreReport), OpenStoreError> {
        let newest = match newest {
            Some(export) => export,
            // Before the first export nothing was acknowledged: a start was cut short.
            None if report.damaged_exports.is_empty() => Export {
                generation: 0,
                records: Vec::new(),
            },
            None => {
                let reason = report
                    .rebuilt
                    .map(|rebuilt| rebuilt.reason)
                    .unwrap_or_default();
                return Err(OpenStoreError::Lost {
                    reason,
                    damaged: report.damaged_exports,
                });
            }
        };
        check_tables(&newest.records, &self.options.tables)?;
        report.generation = newest.generation;
        if let Some(rebuilt) = &mut report.rebuilt {
            rebuilt.moved_to = self.move_aside()?;
        }
        let shelves = self.build(&newest.records, progress, newest.generation)?;
        Ok((shelves, report))
    }

    /// Opens the database on a thread of its own, within a time limit, and reads all of it.
    fn examine(&self) -> Condition {
        let (sender, receiver) = mpsc::channel();
        let (directory, tables) = (self.paths.db.clone(), self.options.tables.clone());
        let work =
            move || {
                let condition = catch(|| examine(&directory, &tables));
                drop(sender.send(
                    condition.unwrap_or_else(|message| {
                        Condition::Failed(format!("panicked: {message}"))
                    }),
                ));
            };
        if let Err(error) = self.spawn(work) {
            return Condition::Failed(format!("cannot be examined: {error}"));
        }
        receiver
            .recv_timeout(OPEN_LIMIT)
            .unwrap_or_else(|_| Condition::Failed(format!("does not open within {OPEN_LIMIT:?}")))
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SpawnThreadError> {
        let tasks: &Tasks = &self.options.tasks;
        tasks.spawn_thread("store-open", work).map(drop)
    }

    /// Moves the database, if there is one, away under a free name, and removes the oldest of those
    /// moved before.
    fn move_aside(&self) -> Result<Option<PathBuf>, OpenStoreError> {
        if !self
            .paths
            .db
            .try_exists()
            .map_err(file_error("read", &self.paths.db))?
        {
            return Ok(None);
        }
        let fs = self.options.fs.as_ref();
        let state = &self.paths.state;
        let mut seconds = self.options.clock.wall_micros().div_euclid(1_000_000);
        let mut aside = state.join(format!("db.corrupt-{seconds}"));
        while aside.try_exists().map_err(file_error("read", &aside))? {
            seconds += 1;
            aside = state.join(format!("db.corrupt-{seconds}"));
        }
        fs.rename(&self.paths.db, &aside)
            .map_err(file_error("move", &self.paths.db))?;
        fs.sync_dir(state).map_err(file_error("sync", state))?;
        let mut kept = fs.list(state).map_err(file_error("read", state))?;
        kept.retain(|path| is_aside(path) && *path != aside);
        for old in kept.iter().rev().skip(ASIDE_KEPT - 1) {
            // Evidence, not state: a failure to remove it must not stop the start.
            if let Err(error) = std::fs::remove_dir_all(old) {
                tracing::warn!(path = %old.display(), %error, "cannot remove an old database");
            }
        }
        Ok(Some(aside))
    }

    /// Makes a database that holds these envelopes.
    fn build(
        &self,
        records: &[Stored],
        progress: &[Stored],
        generation: u64,
    ) -> Result<Shelves, OpenStoreError> {
        let built = catch(|| -> Result<Shelves, OpenStoreError> {
            let shelves = Shelves::open(&self.paths.db).map_err(|error| build_error(&error))?;
            let installed = shelves.install(records, progress, generation);
            installed.map_err(|error| build_error(&error))?;
            shelves.flush().map_err(|error| build_error(&error))?;
            Ok(shelves)
        });
        built.unwrap_or_else(|message| Err(OpenStoreError::Build(message)))
    }
}

/// Why a sound database must be rebuilt, if it must.
fn outdated(shelves: &Shelves, generation: u64, export: Option<&Export>) -> Option<String> {
    let exported = export.map_or(0, |export| export.generation);
    if generation < exported {
        return Some(format!(
            "at generation {generation}, the export is at {exported}"
        ));
    }
    if generation > exported {
        // The last start ended between the sync and the export of a change.
        return None;
    }
    match (read_all(shelves, Durability::Committed), export) {
        (Err(reason), _) => return Some(reason),
        (Ok(records), Some(export)) if records != export.records => {
            return Some(format!("differs from the export of generation {exported}"));
        }
        (Ok(_), _) => {}
    }
    let size = shelves.size_on_disk();
    (size > REBUILD_ABOVE_BYTES).then(|| format!("grown to {size} bytes"))
}

/// Refuses an export that a newer binary wrote.
fn check_tables(records: &[Stored], tables: &[Table]) -> Result<(), OpenStoreError> {
    match newer_record(records, tables) {
        Ok(None) => Ok(()),
        Ok(Some((what, found, known))) => Err(OpenStoreError::Newer { what, found, known }),
        Err(reason) => Err(OpenStoreError::Build(reason)),
    }
}

fn examine(directory: &Path, tables: &[Table]) -> Condition {
    let shelves = match Shelves::open(directory) {
        Ok(shelves) => shelves,
        Err(error) => return Condition::Failed(error.to_string()),
    };
    let meta = match shelves.meta() {
        Ok(Some(meta)) => meta,
        Ok(None) => return Condition::Failed("empty".to_owned()),
        Err(error) => return Condition::Failed(format!("{error}: {}", chain(&error))),
    };
    if meta.layout > shelf::LAYOUT {
        let what = "the database".to_owned();
        return Condition::Newer {
            what,
            found: meta.layout,
            known: shelf::LAYOUT,
        };
    }
    for durability in [Durability::Committed, Durability::Progress] {
        let checked =
            read_all(&shelves, durability).and_then(|records| newer_record(&records, tables));
        match checked {
            Ok(None) => {}
            Ok(Some((what, found, known))) => return Condition::Newer { what, found, known },
            Err(reason) => return Condition::Failed(reason),
        }
    }
    Condition::Sound {
        shelves,
        generation: meta.generation,
    }
}

/// The first record that a newer binary wrote: what it is, its layout, the layout known.
fn newer_record(
    records: &[Stored],
    tables: &[Table],
) -> Result<Option<(String, u16, u16)>, String> {
    for (name, value) in records {
        let envelope = record::open_envelope(name, value)
            .map_err(|error| format!("record {}: {error}", String::from_utf8_lossy(name)))?;
        let table = record::table_of(name);
        let known = tables
            .iter()
            .find(|known| known.name == table)
            .map_or(0, |known| known.schema);
        if envelope.schema > known {
            return Ok(Some((format!("table {table}"), envelope.schema, known)));
        }
    }
    Ok(None)
}

fn read_all(shelves: &Shelves, durability: Durability) -> Result<Vec<Stored>, String> {
    shelves
        .of(durability)
        .scan(&[])
        .map_err(|error| error.to_string())
}

/// Syncs the database's files and both directories, and keeps the descriptor that commits sync.
fn sync_database(
    fs: &dyn DurableFs,
    paths: &Paths,
) -> Result<Box<dyn DurableFile>, OpenStoreError> {
    let sync = |name: &str| -> Result<Box<dyn DurableFile>, OpenStoreError> {
        let path = paths.db.join(name);
        let mut file = fs.open(&path).map_err(file_error("open", &path))?;
        file.sync_all().map_err(file_error("sync", &path))?;
        Ok(file)
    };
    drop(sync("conf")?);
    let database = sync("db")?;
    for directory in [paths.db.as_path(), &paths.state, parent(&paths.state)] {
        fs.sync_dir(directory)
            .map_err(file_error("sync", directory))?;
    }
    Ok(database)
}

fn is_aside(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("db.corrupt-"))
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenStoreError {
    let path = path.to_path_buf();
    move |source| OpenStoreError::File {
        action,
        path,
        source,
    }
}

fn build_error(error: &dyn std::error::Error) -> OpenStoreError {
    OpenStoreError::Build(chain(error))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
