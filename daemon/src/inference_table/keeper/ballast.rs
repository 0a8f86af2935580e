//! A file that is given up when the disk is full, so that something can be deleted.
//!
//! Whatever the keeper deletes, it writes an account first, and an account is written beside the
//! old one: on a disk without a free byte nothing could ever go. Owns `{rows}/ballast`. Must never
//! be given up for rows: the next ones would take its place at once.

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{SharedFs, Space, parent};

/// Room for a file of gaps and for the account of some thousand segments.
const SIZE: u64 = 1 << 20;

/// The file that is given up.
#[derive(Debug)]
pub(super) struct RowBallast {
    fs: SharedFs,
    path: PathBuf,
}

impl RowBallast {
    pub(super) fn new(fs: SharedFs, rows: &Path) -> Self {
        let path = rows.join("ballast");
        Self { fs, path }
    }

    /// Gives it up. Answers whether that made room.
    pub(super) fn release(&self) -> bool {
        let removed = self
            .fs
            .remove(&self.path)
            .and_then(|()| self.fs.sync_dir(parent(&self.path)));
        if removed.is_ok() {
            tracing::warn!("the disk is full: the ballast of the row log is given up");
        }
        removed.is_ok()
    }

    /// Lays it down again, when the disk has room for it above `floor`.
    pub(super) fn restore(&self, space: Option<Space>, floor: u64) {
        let room = space.is_some_and(|space| space.free.0 > floor.saturating_add(SIZE));
        // Its length, not its blocks: a file system that compresses has fewer.
        let is_there = std::fs::metadata(&self.path).is_ok_and(|file| file.len() >= SIZE);
        if !room || is_there {
            return;
        }
        // Half of it is none.
        drop(self.fs.remove(&self.path));
        let folder = parent(&self.path);
        let made = self
            .fs
            .create_dir_all(folder)
            .and_then(|()| self.fs.create_new(&self.path))
            .and_then(|mut file| {
                file.preallocate(SIZE)?;
                file.sync_all()
            })
            .and_then(|()| self.fs.sync_dir(folder));
        if let Err(error) = made {
            tracing::warn!(%error, "the row log has no ballast");
            drop(self.fs.remove(&self.path));
        }
    }
}

/// Whether an error means that the disk is full.
pub(super) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(one) = error {
        if let Some(io) = one.downcast_ref::<io::Error>() {
            let kind = io.kind();
            if matches!(
                kind,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                return true;
            }
        }
        error = one.source();
    }
    false
}
