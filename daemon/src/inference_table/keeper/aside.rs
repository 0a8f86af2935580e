//! Rows that an older version must not see.
//!
//! Version 0 takes the log and the accounts of a later version for damage, and reads no other
//! version's magic. So a way back takes the rows out of its sight, and the next start of a version
//! that knows of this brings them back beside those of the older one:
//!
//! ```text
//! {rows}/wal, ... --edgeward state rollback--> {rows}/newer/wal, ... --start--> {rows}/wal, ...
//! ```
//!
//! File by file; no name is in both, since each start of the process has a boot of its own. May be
//! cut short anywhere and repeated.
//!
//! Must never let recovery look at a boot of which some files are still away.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, parent};
use edgeward_base::names::BootId;

use super::ledger::{Folders, Ledger};
use super::recover::find;

/// Where they lie meanwhile, below `{rows}`.
const NEWER: &str = "newer";
/// What is taken away: all that an older version looks at.
const FOLDERS: [&str; 4] = ["wal", "account", "parquet", "quarantine"];

/// Takes the rows out of the sight of an older version. Answers where they lie, if there are any.
///
/// # Errors
/// What the file system answers; what was moved by then comes back at the next start.
pub fn put_aside(fs: &dyn DurableFs, rows: &Path) -> io::Result<Option<PathBuf>> {
    let aside = rows.join(NEWER);
    let moved = move_files(fs, rows, &aside)?;
    Ok((moved > 0).then_some(aside))
}

impl Ledger {
    /// Brings back what a rollback took away. Answers the boots of which files are still away.
    pub(super) fn take_back(&self) -> (io::Result<usize>, BTreeSet<BootId>) {
        let rows = parent(&self.folders.wal);
        let aside = rows.join(NEWER);
        let moved = move_files(self.fs.as_ref(), &aside, rows);
        let left = match &moved {
            Ok(_) => BTreeSet::new(),
            Err(_) => {
                let found = find(self.fs.as_ref(), &Folders::of(&aside));
                found.map(|found| found.boots()).unwrap_or_default()
            }
        };
        (moved, left)
    }
}

/// Moves every file below the folders of `from` to its place below `to`, durably. Answers how many there were.
fn move_files(fs: &dyn DurableFs, from: &Path, to: &Path) -> io::Result<usize> {
    let mut moved = 0;
    let mut folders = FOLDERS.map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        let (source, target) = (from.join(&folder), to.join(&folder));
        let mut files = Vec::new();
        for path in fs.list(&source)? {
            let name = folder.join(path.file_name().unwrap_or_default());
            match fs.list(&path) {
                Ok(_) => folders.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => files.push(name),
                Err(error) => return Err(error),
            }
        }
        if files.is_empty() {
            continue;
        }
        fs.create_dir_all(&target)?;
        for file in &files {
            fs.rename(&from.join(file), &to.join(file))?;
        }
        fs.sync_dir(&target)?;
        fs.sync_dir(&source)?;
        moved += files.len();
    }
    Ok(moved)
}

#[cfg(test)]
mod tests;
