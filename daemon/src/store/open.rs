//! Opening: lock, judge the database against the newest export, rebuild where it does not hold.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use edgeward_base::durable::{DurableFile, DurableFs, TEMPORARY_SUFFIX};

use crate::tasks::SpawnThreadError;
use crate::telemetry::Counter;

use super::ballast::{Ballast, is_full};
use super::database::{self, Age, Condition, Databases, read_all};
use super::export::{self, Export, Found};
use super::lock::{LockStateError, StateLock};
use super::migrate;
use super::record::Durability;
use super::shelf::{self, Shelves, Stored};
use super::writer::{Writer, WriterOptions};
use super::{Figures, Poison, Rebuilt, Shared, Store, StoreOptions, StoreReport, WhenLost};

/// Above this the database is mostly garbage (state is tens of kilobytes): it is rebuilt.
pub(super) const REBUILD_ABOVE_BYTES: u64 = 16 << 20;

/// What the names of exports begin with that were moved aside because none of them held.
const LOST_EXPORTS: &str = "export.corrupt-";

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
         run `edgeward state rollback`, or install that version again"
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
    /// The disk is full and the ballast is used up. The state is untouched.
    #[error("the disk is full, and the database needs room to open ({0}): free some")]
    Full(String),
    /// The new database cannot be written.
    #[error("cannot build the database")]
    Build {
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No thread for the writer.
    #[error("cannot start the writer")]
    Thread(#[source] SpawnThreadError),
}

impl OpenStoreError {
    /// Whether a newer program wrote the state: rolling it back, or installing that program, is the
    /// way out.
    #[must_use]
    pub const fn is_newer_state(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }

    /// Whether more room on the disk would have helped.
    fn is_full(&self) -> bool {
        matches!(self, Self::Full(_)) || is_full(self)
    }
}

impl From<export::WriteExportError> for OpenStoreError {
    fn from(error: export::WriteExportError) -> Self {
        let source = Box::new(error);
        Self::Build { source }
    }
}

struct Opening<'a> {
    options: &'a StoreOptions,
    databases: Databases<'a>,
    exports: PathBuf,
    /// What attempts at this start have found, so that the one that succeeds can tell.
    found: RefCell<StoreReport>,
}

/// A database that holds, and how it came to.
struct Judged {
    number: u32,
    shelves: Shelves,
    report: StoreReport,
    /// The newest export says the same already.
    exported: Option<PathBuf>,
}

/// A database that is durable, and so is its export.
struct Settled {
    /// The database's file.
    synced: Box<dyn DurableFile>,
    /// All committed records.
    records: Vec<Stored>,
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
    let exports = options.state_dir.join("export");
    for directory in [&options.state_dir, &exports] {
        let made = options.fs.create_dir_all(directory);
        made.map_err(file_error("make directory", directory))?;
    }
    let lock = StateLock::acquire(&options.state_dir).map_err(OpenStoreError::Lock)?;
    let lock = Arc::new(lock);
    let opening = Opening {
        options: &options,
        databases: Databases::of(&options),
        exports,
        found: RefCell::default(),
    };
    let ballast = Ballast::new(Arc::clone(&options.fs), &options.state_dir, options.ballast);
    let (judged, settled) = loop {
        let opened = opening.judge().and_then(|judged| {
            let settled = opening.settle(&judged)?;
            Ok((judged, settled))
        });
        match opened {
            Err(error) if error.is_full() && ballast.release() => {}
            opened => break opened?,
        }
    };
    // Before anything else can fill the room that was given back.
    ballast.restore(edgeward_base::units::ByteCount(0));
    let Judged {
        number,
        shelves,
        mut report,
        ..
    } = judged;
    report.take_over(&opening.found.borrow());
    if report.rebuilt.is_some() {
        options.metrics.add(Counter::StateRebuilds, 1);
    }
    let poison = Poison::default();
    let figures = Arc::new(Figures::at(report.generation, ballast.bytes()));
    let shared_shelves = Arc::new(ArcSwap::from_pointee(shelves.clone()));
    let writer = Writer::start(WriterOptions {
        number,
        shelves,
        acknowledged: settled.records,
        shared: Arc::clone(&shared_shelves),
        synced: settled.synced,
        ballast,
        figures: Arc::clone(&figures),
        poison: poison.clone(),
        lock: Arc::clone(&lock),
        options: options.clone(),
    })
    .map_err(OpenStoreError::Thread)?;
    let shared = Arc::new(Shared {
        shelves: shared_shelves,
        tables: options.tables,
        writer,
        poison,
        figures,
        _lock: lock,
    });
    Ok((Store { shared }, report))
}

impl Opening<'_> {
    /// Decides between the database and the export.
    fn judge(&self) -> Result<Judged, OpenStoreError> {
        let found = export::find(self.options.fs.as_ref(), &self.exports)
            .map_err(file_error("read", &self.exports))?;
        if let Some(layout) = found.newer_layout {
            let what = "the export".to_owned();
            return Err(OpenStoreError::Newer {
                what,
                found: layout,
                known: shelf::LAYOUT,
            });
        }
        self.databases.adopt_flat()?;
        let newest = self.databases.numbers()?.last().copied();
        let mut report = StoreReport {
            created: newest.is_none() && found.newest.is_none() && found.damaged.is_empty(),
            damaged_exports: found.damaged.clone(),
            ..StoreReport::default()
        };
        if report.created {
            return self.create(report);
        }
        let condition = newest.map_or_else(
            || Condition::Failed("missing".into()),
            |number| self.databases.examine(self.databases.path(number)),
        );
        let (reason, progress) = match condition {
            Condition::Newer { what, found, known } => {
                return Err(OpenStoreError::Newer { what, found, known });
            }
            Condition::Full(reason) => return Err(OpenStoreError::Full(reason)),
            Condition::Failed(reason) => (reason, Vec::new()),
            Condition::Sound {
                shelves,
                generation,
                layout,
                older_records,
            } => {
                let progress = read_all(&shelves, Durability::Progress).unwrap_or_default();
                let number = newest.unwrap_or_default();
                match outdated(&shelves, generation, found.newest.as_ref()) {
                    Some(reason) => (reason, progress),
                    // The export says the same, and the database is mostly garbage.
                    None if has_grown(&shelves) && found.generation() == Some(generation) => {
                        drop(shelves);
                        return self.rebuild(None, found, &progress, report);
                    }
                    None if layout < shelf::LAYOUT || older_records => {
                        report.migrated_from = Some(layout);
                        report.generation = self.migrate(&shelves, generation, layout)?;
                        return Ok(Judged::new(number, shelves, report));
                    }
                    None => {
                        report.generation = generation;
                        let exported = found.generation() == Some(generation);
                        let exported = found.newest_path.filter(|_| exported);
                        return Ok(Judged {
                            exported,
                            ..Judged::new(number, shelves, report)
                        });
                    }
                }
            }
        };
        report.rebuilt = Some(Rebuilt {
            reason,
            moved_to: None,
        });
        self.rebuild(newest, found, &progress, report)
    }

    fn create(&self, report: StoreReport) -> Result<Judged, OpenStoreError> {
        let number = self.databases.next()?;
        let shelves = self.databases.build(number, (&[], &[]), 0)?;
        Ok(Judged::new(number, shelves, report))
    }

    /// Puts a database made of the newest export in the place of the one that does not hold.
    fn rebuild(
        &self,
        failed: Option<u32>,
        found: Found,
        progress: &[Stored],
        mut report: StoreReport,
    ) -> Result<Judged, OpenStoreError> {
        let source = match found.newest {
            Some(export) => export,
            None if self.was_lost(&found)? => self.start_empty(&found.damaged, &mut report)?,
            // Before the first export nothing was acknowledged: a start was cut short.
            None => Export::default(),
        };
        self.found.borrow_mut().take_over(&report);
        let tables = &self.options.tables;
        let mut export = source;
        let older = match database::age(&export.records, tables) {
            Ok(Age::Newer { what, found, known }) => {
                return Err(OpenStoreError::Newer { what, found, known });
            }
            Ok(Age::Older) => true,
            Ok(Age::Current) => found.newest_path.is_some() && found.layout < shelf::LAYOUT,
            Err(reason) => {
                let source = reason.into();
                return Err(OpenStoreError::Build { source });
            }
        };
        let mut exported = found.newest_path;
        if older {
            migrate::keep(self.options, found.layout, &export)?;
            report.migrated_from = Some(found.layout);
            export.generation += 1;
            export.records = migrate::rewrite(&export.records, tables, export.generation)?;
            exported = None;
        }
        report.generation = export.generation;
        let number = self.databases.next()?;
        let contents = (export.records.as_slice(), progress);
        let shelves = self.databases.build(number, contents, export.generation)?;
        if let (Some(rebuilt), Some(failed)) = (&mut report.rebuilt, failed) {
            rebuilt.moved_to = Some(self.databases.move_aside(failed)?);
        }
        Ok(Judged {
            exported,
            ..Judged::new(number, shelves, report)
        })
    }

    /// Whether there were exports, here or before a start that began anew and was cut short.
    fn was_lost(&self, found: &Found) -> Result<bool, OpenStoreError> {
        Ok(!found.damaged.is_empty() || !self.lost_exports()?.is_empty())
    }

    /// Where exports lie that were moved aside because none of them held.
    fn lost_exports(&self) -> Result<Vec<PathBuf>, OpenStoreError> {
        let state = &self.options.state_dir;
        let mut paths = self
            .options
            .fs
            .list(state)
            .map_err(file_error("read", state))?;
        paths.retain(|path| database::has_prefix(path, LOST_EXPORTS));
        Ok(paths)
    }

    /// Neither the database nor any export holds: begins anew above every generation that a name
    /// still tells, and keeps what is there for inspection.
    fn start_empty(
        &self,
        damaged: &[PathBuf],
        report: &mut StoreReport,
    ) -> Result<Export, OpenStoreError> {
        if self.options.when_lost == WhenLost::Refuse {
            let reason = report.rebuilt.take().map(|rebuilt| rebuilt.reason);
            return Err(OpenStoreError::Lost {
                reason: reason.unwrap_or_default(),
                damaged: damaged.to_vec(),
            });
        }
        let fs = self.options.fs.as_ref();
        if !damaged.is_empty() {
            database::move_aside(self.options, &self.exports, LOST_EXPORTS)?;
            fs.create_dir_all(&self.exports)
                .map_err(file_error("make directory", &self.exports))?;
        }
        let mut generation = 1;
        for directory in self.lost_exports()? {
            let highest = export::highest(fs, &directory);
            let highest = highest.map_err(file_error("read", &directory))?;
            generation = generation.max(highest + 1);
        }
        report.lost = true;
        Ok(Export {
            generation,
            records: Vec::new(),
        })
    }

    /// Rewrites the records of an older binary, after keeping them; answers the new generation.
    fn migrate(
        &self,
        shelves: &Shelves,
        generation: u64,
        layout: u16,
    ) -> Result<u64, OpenStoreError> {
        let read = |durability| {
            let records = read_all(shelves, durability);
            records.map_err(|reason| OpenStoreError::Build {
                source: reason.into(),
            })
        };
        let records = read(Durability::Committed)?;
        let progress = read(Durability::Progress)?;
        let older = Export {
            generation,
            records,
        };
        migrate::keep(self.options, layout, &older)?;
        let (tables, generation) = (&self.options.tables, generation + 1);
        let records = migrate::rewrite(&older.records, tables, generation)?;
        let progress = migrate::rewrite(&progress, tables, generation)?;
        let installed = shelves.install(&records, &progress, generation);
        installed.map_err(database::build_error)?;
        shelves.flush().map_err(database::build_error)?;
        Ok(generation)
    }

    /// Makes the database and its export durable, and removes the databases that it replaced.
    fn settle(&self, judged: &Judged) -> Result<Settled, OpenStoreError> {
        let fs = self.options.fs.as_ref();
        let synced = self.databases.sync(judged.number)?;
        let records = read_all(&judged.shelves, Durability::Committed);
        let records = records.map_err(|reason| OpenStoreError::Build {
            source: reason.into(),
        })?;
        let export = Export {
            generation: judged.report.generation,
            records,
        };
        match &judged.exported {
            Some(path) => make_durable(fs, path, &self.exports)?,
            None => export::write(fs, &self.exports, &export)?,
        }
        self.databases.remove_others(judged.number)?;
        remove_stray(fs, &self.exports);
        let records = export.records;
        Ok(Settled { synced, records })
    }
}

impl Judged {
    fn new(number: u32, shelves: Shelves, report: StoreReport) -> Self {
        Self {
            number,
            shelves,
            report,
            exported: None,
        }
    }
}

/// Removes what a write left that was cut short; it is in nobody's way, so a failure is only noted.
fn remove_stray(fs: &dyn DurableFs, exports: &Path) {
    for path in fs.list(exports).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(TEMPORARY_SUFFIX)
            && name != export::SPARE
            && let Err(error) = fs.remove(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a stray file");
        }
    }
}

/// Syncs an export that a process which was killed may have left in memory alone.
fn make_durable(fs: &dyn DurableFs, path: &Path, exports: &Path) -> Result<(), OpenStoreError> {
    let mut file = fs.open(path).map_err(file_error("open", path))?;
    file.sync_all().map_err(file_error("sync", path))?;
    fs.sync_dir(exports).map_err(file_error("sync", exports))
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
        (Err(reason), _) => Some(reason),
        (Ok(records), Some(export)) if records != export.records => {
            Some(format!("differs from the export of generation {exported}"))
        }
        (Ok(_), _) => None,
    }
}

fn has_grown(shelves: &Shelves) -> bool {
    let bytes = shelves.size_on_disk();
    let grown = bytes > REBUILD_ABOVE_BYTES;
    if grown {
        tracing::info!(bytes, "the state database has grown and is replaced");
    }
    grown
}

pub(super) fn file_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenStoreError + use<> {
    let path = path.to_path_buf();
    move |source| OpenStoreError::File {
        action,
        path,
        source,
    }
}
