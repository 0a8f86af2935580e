//! Check: whether everything that the state is made of can be trusted.
//!
//! Must never change what it checks: sled writes when it opens, so the database of a process that
//! does not run is checked in a copy.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use edgeward_base::durable::DurableFs;
use serde::Serialize;

use super::StoreOptions;
use super::ballast::Ballast;
use super::database::{self, Age, Condition, Databases, has_prefix, read_all};
use super::export::{self, Export, Parsed};
use super::lock::StateLock;
use super::open::{OpenStoreError, file_error};
use super::record::Durability;
use super::shelf::{self, Shelves, Stored};

/// What the state of a directory is made of, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCheck {
    /// Nothing is wrong.
    pub sound: bool,
    /// The generation of the newest change that can be read; 0 when there is none.
    pub generation: u64,
    /// Every export, the newest first.
    pub exports: Vec<CheckedExport>,
    /// The database in use.
    pub database: CheckedDatabase,
    /// States that an upgrade kept, for `edgeward state rollback`.
    pub kept: Vec<PathBuf>,
    /// What was moved aside: inspect it, then remove it.
    pub aside: Vec<PathBuf>,
    /// The room on the disk that is held for the state.
    pub ballast_bytes: u64,
    /// Everything that is wrong, in words.
    pub problems: Vec<String>,
}

/// An export file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedExport {
    /// Where it lies.
    pub path: PathBuf,
    /// Its generation; none when it is damaged.
    pub generation: Option<u64>,
    /// Its checksum and those of all its records match.
    pub sound: bool,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedDatabase {
    /// Every record can be read, and it is no older than the exports.
    pub sound: bool,
    /// Its generation; none when it cannot be read.
    pub generation: Option<u64>,
    /// Its size on disk.
    pub bytes: u64,
}

/// What a database says, or why it says nothing.
pub(super) type Contents = Result<(u64, Vec<Stored>), String>;

/// Checks the state of a process that does not run.
///
/// # Errors
/// [`OpenStoreError::Newer`] for state of a newer version, others when files cannot be read.
pub fn check(options: &StoreOptions, _lock: &StateLock) -> Result<StateCheck, OpenStoreError> {
    let databases = Databases::of(options);
    let newest = databases.numbers()?.last().copied();
    let flat = options.state_dir.join("db");
    let directory = newest.map_or(flat, |number| databases.path(number));
    let missing = || Err("missing".to_owned());
    let (contents, bytes) = match directory.try_exists() {
        Ok(true) => {
            let copy = Copy::of(&directory).map_err(file_error("copy", &directory))?;
            match databases.examine(copy.0.clone()) {
                Condition::Newer { what, found, known } => {
                    return Err(OpenStoreError::Newer { what, found, known });
                }
                Condition::Failed(reason) | Condition::Full(reason) => (Err(reason), 0),
                Condition::Sound {
                    shelves,
                    generation,
                    ..
                } => (read(&shelves, generation), shelves.size_on_disk()),
            }
        }
        _ => (missing(), 0),
    };
    examine(options, contents, bytes)
}

/// What an open database says.
pub(super) fn read(shelves: &Shelves, generation: u64) -> Contents {
    let records = read_all(shelves, Durability::Committed)?;
    Ok((generation, records))
}

/// Compares a database with the exports beside it.
pub(super) fn examine(
    options: &StoreOptions,
    contents: Contents,
    bytes: u64,
) -> Result<StateCheck, OpenStoreError> {
    let (fs, state) = (options.fs.as_ref(), &options.state_dir);
    let directory = state.join("export");
    let mut problems = Vec::new();
    let (exports, newest) = check_exports(options, &directory, &mut problems)?;
    let exported = newest.as_ref().map(|export| export.generation);
    if newest.is_none() {
        problems.push(format!("{} has no sound export", directory.display()));
    }
    let failed = database_problem(options, &contents, newest.as_ref());
    problems.extend(
        failed
            .iter()
            .map(|problem| format!("the database {problem}")),
    );
    let generation = contents.ok().map(|(generation, _)| generation);
    let beside = fs.list(state).map_err(file_error("read", state))?;
    let ballast = Ballast::new(std::sync::Arc::clone(&options.fs), state, options.ballast);
    Ok(StateCheck {
        sound: problems.is_empty(),
        generation: generation.max(exported).unwrap_or(0),
        exports,
        database: CheckedDatabase {
            sound: failed.is_none(),
            generation,
            bytes,
        },
        kept: kept(fs, &directory)?,
        aside: beside.into_iter().filter(|path| is_aside(path)).collect(),
        ballast_bytes: ballast.bytes().0,
        problems,
    })
}

/// Checks every export; answers the newest sound one as well.
fn check_exports(
    options: &StoreOptions,
    directory: &Path,
    problems: &mut Vec<String>,
) -> Result<(Vec<CheckedExport>, Option<Export>), OpenStoreError> {
    let fs = options.fs.as_ref();
    let (mut checked, mut newest) = (Vec::new(), None);
    let paths = export::newest_first(fs, directory);
    for path in paths.map_err(file_error("read", directory))? {
        let found = match export::read(fs, &path) {
            Parsed::Newer(found) => {
                return Err(OpenStoreError::Newer {
                    what: "the export".to_owned(),
                    found,
                    known: shelf::LAYOUT,
                });
            }
            Parsed::Damaged => Err("its checksum does not match".to_owned()),
            Parsed::Sound(export, _) => match database::age(&export.records, &options.tables) {
                Ok(Age::Newer { what, found, known }) => {
                    return Err(OpenStoreError::Newer { what, found, known });
                }
                Ok(Age::Current | Age::Older) => Ok(export),
                Err(reason) => Err(reason),
            },
        };
        if let Err(problem) = &found {
            problems.push(format!("{}: {problem}", path.display()));
        }
        checked.push(CheckedExport {
            path,
            generation: found.as_ref().ok().map(|export| export.generation),
            sound: found.is_ok(),
        });
        newest = newest.or_else(|| found.ok());
    }
    Ok((checked, newest))
}

/// What is wrong with a database.
fn database_problem(
    options: &StoreOptions,
    contents: &Contents,
    export: Option<&Export>,
) -> Option<String> {
    let (generation, records) = match contents {
        Ok(contents) => contents,
        Err(reason) => return Some(format!("fails: {reason}")),
    };
    if let Err(reason) = database::age(records, &options.tables) {
        return Some(format!("is damaged: {reason}"));
    }
    let export = export?;
    let exported = export.generation;
    if *generation < exported {
        return Some(format!(
            "is at generation {generation}, the export at {exported}"
        ));
    }
    let differs = *generation == exported && *records != export.records;
    differs.then(|| format!("differs from the export of generation {exported}"))
}

/// The states that an upgrade kept.
pub(super) fn kept(fs: &dyn DurableFs, directory: &Path) -> Result<Vec<PathBuf>, OpenStoreError> {
    let mut paths = fs.list(directory).map_err(file_error("read", directory))?;
    paths.retain(|path| has_prefix(path, super::migrate::KEPT_PREFIX));
    Ok(paths)
}

fn is_aside(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let kinds = [".corrupt", ".replaced-", ".newer-"];
    name.is_some_and(|name| kinds.iter().any(|kind| name.contains(kind)))
}

/// A copy of a directory that nobody else reads, removed when dropped.
struct Copy(PathBuf);

impl Copy {
    fn of(directory: &Path) -> io::Result<Self> {
        let name = format!("edgeward-verify-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        // Fails where anything has that name: nothing is written through somebody's link.
        DirBuilder::new().mode(0o700).create(&path)?;
        let copy = Self(path);
        copy_files(directory, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a copy");
        }
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            DirBuilder::new().mode(0o700).create(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
