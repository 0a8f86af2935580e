//! The file operations that must survive a power cut, behind a trait.
//!
//! Everything that promises durability writes through [`DurableFs`], so that a test can make the
//! k-th operation fail ([`FaultFs`]) and prove that nothing acknowledged is lost and nothing half
//! written is trusted.
//!
//! Two rules that every user of this module keeps:
//!
//! - a failed write or sync is never retried on the same file: Linux drops the dirty pages of a
//!   failed `fsync`, so a second one that succeeds proves nothing;
//! - a new name is durable only after its directory is synced.

mod fault;
mod real;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::units::ByteCount;

pub use fault::{Change, FaultFs, Operation};
pub use real::RealFs;

/// A file that is open for writing.
pub trait DurableFile: Send + Debug {
    /// Writes all bytes at the end of what was written so far.
    ///
    /// # Errors
    /// As the operating system answers. Part of the bytes may be in the file.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes all bytes at `offset`, without moving the end used by [`DurableFile::append`].
    ///
    /// # Errors
    /// As the operating system answers. Part of the bytes may be in the file.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reserves blocks for the first `length` bytes and makes the file that long, filled with
    /// zeros, so that a later data sync needs no change of the file's size.
    ///
    /// # Errors
    /// As the operating system answers, `StorageFull` before all.
    fn preallocate(&mut self, length: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// As the operating system answers.
    fn set_len(&mut self, length: u64) -> io::Result<()>;

    /// Makes the file's data durable (`fdatasync`).
    ///
    /// # Errors
    /// As the operating system answers; the file must not be trusted or written afterwards.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Makes the file's data and metadata durable (`fsync`).
    ///
    /// # Errors
    /// As the operating system answers; the file must not be trusted or written afterwards.
    fn sync_all(&mut self) -> io::Result<()>;
}

/// A file system whose changes can be made durable, and made to fail.
pub trait DurableFs: Send + Sync + Debug {
    /// Creates a directory and those above it; each new one is synced into its parent.
    ///
    /// # Errors
    /// As the operating system answers.
    fn create_dir_all(&self, directory: &Path) -> io::Result<()>;

    /// Creates a file that must not be there yet, readable by its owner alone.
    ///
    /// # Errors
    /// As the operating system answers, `AlreadyExists` before all.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>>;

    /// Opens a file that is there for writing; appends start at its end.
    ///
    /// # Errors
    /// As the operating system answers, `NotFound` before all.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// As the operating system answers, `NotFound` before all.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Puts a file in the place of another name, atomically. Durable after [`DurableFs::sync_dir`].
    ///
    /// # Errors
    /// As the operating system answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`DurableFs::sync_dir`].
    ///
    /// # Errors
    /// As the operating system answers.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the operating system answers.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// The entries of a directory, in the order of their names; empty when it is not there.
    ///
    /// # Errors
    /// As the operating system answers.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// The room on the disk that holds `directory`, which must exist.
    ///
    /// # Errors
    /// As the operating system answers.
    fn space(&self, directory: &Path) -> io::Result<Space>;

    /// The bytes that a file takes of the disk: its blocks, not its length.
    ///
    /// # Errors
    /// As the operating system answers, `NotFound` before all.
    fn size(&self, path: &Path) -> io::Result<ByteCount>;
}

/// The room on a disk, for a process without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The whole disk.
    pub total: ByteCount,
    /// What may still be written.
    pub free: ByteCount,
    /// How many files may still be made; `u64::MAX` where the file system does not say.
    pub free_files: u64,
}

impl Space {
    /// How many files may still be made, where the file system says.
    #[must_use]
    pub fn known_files(self) -> Option<u64> {
        (self.free_files != u64::MAX).then_some(self.free_files)
    }
}

/// A file system that many owners write through.
pub type SharedFs = Arc<dyn DurableFs>;

/// Name of the temporary file that [`write_atomic`] writes before it renames.
///
/// Whoever lists a directory skips these names: they are what a power cut left behind.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Replaces the file at `path` by `bytes`: all of them or none, also across a power cut.
///
/// Writes a temporary file beside it, syncs it, renames it, and syncs the directory. When this
/// answers `Ok`, the bytes are durable.
///
/// # Errors
/// As the operating system answers. The old file is still there, unless the rename went through
/// and syncing the directory failed: then either may be there after a power cut.
pub fn write_atomic(fs: &dyn DurableFs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(name);
    match fs.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs.create_new(&temporary)?;
    file.append(bytes)?;
    file.sync_all()?;
    drop(file);
    fs.rename(&temporary, path)?;
    fs.sync_dir(parent(path))
}

/// Whether the disk itself cannot read: a bad sector, or damage of the file system's own data.
/// Another try would answer the same.
#[must_use]
pub fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::NODATA]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The directory that holds `path`; `.` for a bare file name.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests;
