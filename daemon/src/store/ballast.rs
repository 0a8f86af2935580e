//! Ballast: room on the disk that the state keeps for itself.
//!
//! `{state}/ballast-0` and `{state}/ballast-1` hold nothing. sled writes when it opens, so a full
//! disk would keep a sound state from being opened: then one of them is removed and the open tried
//! again. What was given back is taken again before anything else can fill it.
//!
//! Must never be given back for rows.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::SharedFs;
use edgeward_base::units::ByteCount;

/// Two: a start takes one, and a change on a full disk the other.
const FILES: [&str; 2] = ["ballast-0", "ballast-1"];

/// Less room than this helps nobody.
const LEAST: ByteCount = ByteCount::kib(64);

/// The ballast of one state directory.
#[derive(Clone, Debug)]
pub(super) struct Ballast {
    fs: SharedFs,
    state: PathBuf,
    size: ByteCount,
}

impl Ballast {
    pub(super) fn new(fs: SharedFs, state: &Path, size: ByteCount) -> Self {
        let state = state.to_path_buf();
        Self { fs, state, size }
    }

    /// Gives the room of one file back. Answers whether there was one.
    pub(super) fn release(&self) -> bool {
        self.paths().any(|path| match self.remove(&path) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "the disk is full: gave back ballast");
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot give back ballast");
                false
            }
        })
    }

    /// Makes the files that are missing, or too small, while more than `floor` is free. On a disk
    /// without that much room they are made as large as they can be.
    pub(super) fn restore(&self, floor: ByteCount) {
        for path in self.paths() {
            let held = self.fs.size(&path).unwrap_or_default();
            let free = self.fs.space(&self.state).map(|space| space.free);
            let free = free.unwrap_or_default();
            if held >= self.size || free < floor || free <= held {
                continue;
            }
            if let Err(error) = self.make(&path, free) {
                tracing::warn!(path = %path.display(), %error, "cannot make ballast");
            }
        }
    }

    /// The room that is held.
    pub(super) fn bytes(&self) -> ByteCount {
        let sizes = self.paths().map(|path| self.fs.size(&path));
        ByteCount(sizes.flatten().map(|size| size.0).sum())
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        FILES.iter().map(|name| self.state.join(name))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fs.remove(path)?;
        // A file system may keep freed blocks until its journal is written.
        self.fs.sync_dir(&self.state)
    }

    /// Makes a file of the wanted size, or the largest half, quarter, ... that fits.
    fn make(&self, path: &Path, free: ByteCount) -> io::Result<()> {
        let mut size = self.size;
        loop {
            if size <= free {
                match self.try_make(path, size) {
                    Err(error) if is_full(&error) => {}
                    done => return done,
                }
            }
            if size <= LEAST {
                return Ok(());
            }
            size = ByteCount(size.0 / 2);
        }
    }

    fn try_make(&self, path: &Path, size: ByteCount) -> io::Result<()> {
        match self.fs.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.fs.create_new(path)?;
        let filled = file.preallocate(size.0).and_then(|()| file.sync_all());
        drop(file);
        match filled {
            Ok(()) => self.fs.sync_dir(&self.state),
            Err(error) => {
                self.fs.remove(path)?;
                Err(error)
            }
        }
    }
}

/// Whether a full disk, or a full quota, is behind the error.
pub(super) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<sled::Error>() {
            Some(sled::Error::Io(io)) => Some(io),
            _ => error.downcast_ref::<io::Error>(),
        };
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if io.is_some_and(|io| full.contains(&io.kind())) {
            return true;
        }
        cause = error.source();
    }
    false
}
