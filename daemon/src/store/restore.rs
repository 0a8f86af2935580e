//! Restore: another state in the place of the one that is there, while no process runs.
//!
//! ```text
//! restore FILE:  db -> db.replaced-*; newest export kept; FILE -> the newest export
//! rollback:      db -> db.newer-*; export/pre-{version} -> the newest export; newer exports -> export.newer-*
//! ```
//!
//! The next start builds its database from the newest export. Each step may be cut short: what is
//! there then starts, as the old state or as the new one.
//!
//! Must never delete the state that is replaced.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::write_atomic;
use serde::Serialize;

use super::StoreOptions;
use super::check::kept;
use super::database::{self, Age, move_aside};
use super::export::{self, Export, Parsed};
use super::lock::StateLock;
use super::migrate::KEPT_PREFIX;
use super::open::{OpenStoreError, file_error};
use super::shelf;

/// Why the state was not exported, restored or rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreStateError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The file is no export, or not what was written.
    #[error("{} is no sound export of a state: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A newer version wrote it.
    #[error("cannot use {}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which part is newer.
        #[source]
        source: OpenStoreError,
    },
    /// There is no state to go back to.
    #[error("{} holds no state that this version reads and an upgrade kept{wanted}", directory.display())]
    NothingKept {
        /// Where it would lie.
        directory: PathBuf,
        /// The version that was asked for, in words.
        wanted: String,
    },
    /// There is no state to export.
    #[error("{} holds no sound export", directory.display())]
    NothingExported {
        /// Where it would lie.
        directory: PathBuf,
    },
    /// The state that is there cannot be moved.
    #[error("cannot put the present state aside")]
    Move(#[source] OpenStoreError),
    /// The export cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file, or its directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RestoreStateError {
    /// Whether a newer program wrote what was to be used.
    #[must_use]
    pub const fn is_newer_state(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

/// What was put in the place of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The file that it was read from.
    pub from: PathBuf,
    /// The generation that it has now: above every one before.
    pub generation: u64,
    /// How many records it has.
    pub records: usize,
    /// Where the former state lies.
    pub kept: Vec<PathBuf>,
}

/// Writes the newest export, checked, to a file. A process may run on the state.
///
/// # Errors
/// [`RestoreStateError`].
pub fn export_to(options: &StoreOptions, to: &Path) -> Result<u64, RestoreStateError> {
    let directory = options.state_dir.join("export");
    let fs = options.fs.as_ref();
    let found = export::find(fs, &directory).map_err(|source| RestoreStateError::Read {
        path: directory.clone(),
        source,
    })?;
    let (Some(export), layout) = (found.newest, found.layout) else {
        return Err(RestoreStateError::NothingExported { directory });
    };
    // An older one must not pass for the state as it is.
    let newer = |path: &&PathBuf| export::named(path) > Some(export.generation);
    if let Some(path) = found.damaged.iter().find(newer) {
        return Err(RestoreStateError::Damaged {
            path: path.clone(),
            problem: "its checksum does not match; the next change or start of the daemon writes \
                      the newest anew"
                .to_owned(),
        });
    }
    let written = export::serialise(layout, &export).map_err(|error| write_error(to, error))?;
    write_atomic(fs, to, &written).map_err(|error| write_error(to, error))?;
    Ok(export.generation)
}

/// Puts the state of an export in the place of the one that is there.
///
/// # Errors
/// [`RestoreStateError`].
pub fn restore(
    options: &StoreOptions,
    from: &Path,
    _lock: &StateLock,
) -> Result<Restored, RestoreStateError> {
    let (mut export, _) = read(options, from)?;
    let directory = exports(options)?;
    let fs = options.fs.as_ref();
    let mut kept = Vec::new();
    let found = export::find(fs, &directory);
    if let Some(newest) = found.ok().and_then(|found| found.newest_path) {
        let name = newest.file_name().unwrap_or_default();
        let copy = directory.join(format!("replaced-{}", name.to_string_lossy()));
        let bytes = fs.read(&newest).map_err(|source| RestoreStateError::Read {
            path: newest.clone(),
            source,
        })?;
        write_atomic(fs, &copy, &bytes).map_err(|error| write_error(&copy, error))?;
        kept.push(copy);
    }
    kept.extend(put_database_aside(options, "db.replaced-")?);
    export.generation = highest(options, &directory)? + 1;
    export::write(fs, &directory, &export).map_err(|error| write_error(&directory, error))?;
    Ok(Restored {
        from: from.to_path_buf(),
        generation: export.generation,
        records: export.records.len(),
        kept,
    })
}

/// Goes back to the state that an upgrade kept: the newest that this binary reads, or the one that
/// was kept when version `to` was first started.
///
/// # Errors
/// [`RestoreStateError`].
pub fn rollback(
    options: &StoreOptions,
    to: Option<&str>,
    _lock: &StateLock,
) -> Result<Restored, RestoreStateError> {
    let directory = exports(options)?;
    let (from, mut export, layout) = newest_kept(options, &directory, to)?;
    let fs = options.fs.as_ref();
    let newer = export::newest_first(fs, &directory);
    let newer = newer.map_err(file_error("read", &directory));
    let newer = newer.map_err(RestoreStateError::Move)?;
    let mut kept = Vec::from_iter(put_database_aside(options, "db.newer-")?);
    export.generation = highest(options, &directory)? + 1;
    let path = directory.join(export::file_name(export.generation));
    let bytes = export::serialise(layout, &export).map_err(|error| write_error(&path, error))?;
    write_atomic(fs, &path, &bytes).map_err(|error| write_error(&path, error))?;
    kept.extend(put_exports_aside(options, &newer)?);
    Ok(Restored {
        from,
        generation: export.generation,
        records: export.records.len(),
        kept,
    })
}

/// The directory of exports, made where it is missing.
fn exports(options: &StoreOptions) -> Result<PathBuf, RestoreStateError> {
    let directory = options.state_dir.join("export");
    let made = options.fs.create_dir_all(&directory);
    made.map_err(|error| write_error(&directory, error))?;
    Ok(directory)
}

fn highest(options: &StoreOptions, directory: &Path) -> Result<u64, RestoreStateError> {
    let highest = export::highest(options.fs.as_ref(), directory);
    highest.map_err(|source| RestoreStateError::Read {
        path: directory.to_path_buf(),
        source,
    })
}

/// Reads an export wherever it lies.
fn read(options: &StoreOptions, path: &Path) -> Result<(Export, u16), RestoreStateError> {
    let bytes = options
        .fs
        .read(path)
        .map_err(|source| RestoreStateError::Read {
            path: path.to_path_buf(),
            source,
        })?;
    let damaged = |problem: String| RestoreStateError::Damaged {
        path: path.to_path_buf(),
        problem,
    };
    let newer = |what: String, found, known| RestoreStateError::Newer {
        path: path.to_path_buf(),
        source: OpenStoreError::Newer { what, found, known },
    };
    match export::parse(&bytes) {
        Parsed::Damaged => Err(damaged("its checksum does not match".to_owned())),
        Parsed::Newer(found) => Err(newer("the export".to_owned(), found, shelf::LAYOUT)),
        Parsed::Sound(export, layout) => {
            match database::age(&export.records, &options.tables).map_err(damaged)? {
                Age::Newer { what, found, known } => Err(newer(what, found, known)),
                Age::Current | Age::Older => Ok((export, layout)),
            }
        }
    }
}

fn newest_kept(
    options: &StoreOptions,
    directory: &Path,
    to: Option<&str>,
) -> Result<(PathBuf, Export, u16), RestoreStateError> {
    let wanted = to.map(|version| format!("{KEPT_PREFIX}{version}.export"));
    let mut newest: Option<(PathBuf, Export, u16)> = None;
    let paths = kept(options.fs.as_ref(), directory).map_err(RestoreStateError::Move)?;
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        if wanted.is_some() && name != wanted.as_deref() {
            continue;
        }
        match read(options, &path) {
            Ok((export, layout)) => {
                let best = newest.as_ref();
                if best.is_none_or(|(_, best, _)| best.generation < export.generation) {
                    newest = Some((path, export, layout));
                }
            }
            Err(error) => tracing::warn!(%error, "a state that an upgrade kept cannot be used"),
        }
    }
    newest.ok_or_else(|| RestoreStateError::NothingKept {
        directory: directory.to_path_buf(),
        wanted: to.map_or_else(String::new, |version| format!(" before version {version}")),
    })
}

fn put_database_aside(
    options: &StoreOptions,
    prefix: &str,
) -> Result<Option<PathBuf>, RestoreStateError> {
    let database = options.state_dir.join("db");
    match database.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => move_aside(options, &database, prefix)
            .map(Some)
            .map_err(RestoreStateError::Move),
        Err(error) => Err(RestoreStateError::Move(file_error("read", &database)(
            error,
        ))),
    }
}

/// Moves exports into a directory of their own, so that an older version does not find them.
fn put_exports_aside(
    options: &StoreOptions,
    newer: &[PathBuf],
) -> Result<Option<PathBuf>, RestoreStateError> {
    if newer.is_empty() {
        return Ok(None);
    }
    let (fs, state) = (options.fs.as_ref(), &options.state_dir);
    let seconds = options.clock.wall_micros().div_euclid(1_000_000);
    let aside = state.join(format!("export.newer-{seconds}"));
    let moved = || -> io::Result<()> {
        fs.create_dir_all(&aside)?;
        for path in newer {
            fs.rename(path, &aside.join(path.file_name().unwrap_or_default()))?;
        }
        fs.sync_dir(&aside)?;
        fs.sync_dir(&state.join("export"))
    };
    moved().map_err(|error| RestoreStateError::Move(file_error("move", &aside)(error)))?;
    Ok(Some(aside))
}

fn write_error(path: &Path, error: impl Error + Send + Sync + 'static) -> RestoreStateError {
    RestoreStateError::Write {
        path: path.to_path_buf(),
        source: Box::new(error),
    }
}
