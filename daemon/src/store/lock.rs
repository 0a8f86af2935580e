//! The lock on the state directory: one process owns its files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Name of the lock file in the state directory.
const LOCK_FILE: &str = "lock";

/// Proof that this process owns the state directory. Released when dropped, and by the operating
/// system when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// The state directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockStateError {
    /// Another process owns it.
    #[error("state directory {} is in use by process {owner}", directory.display())]
    Held {
        /// The state directory.
        directory: PathBuf,
        /// The process number that the owner wrote down; `unknown` when it is unreadable.
        owner: String,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock state directory {}", directory.display())]
    Io {
        /// The state directory.
        directory: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
}

impl StateLock {
    /// Locks the state directory, which must be there, without waiting.
    ///
    /// # Errors
    /// [`LockStateError::Held`] when another process, or another store of this one, owns it.
    pub fn acquire(directory: &Path) -> Result<Self, LockStateError> {
        let directory = directory.to_path_buf();
        let io = |source| LockStateError::Io {
            directory: directory.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(LOCK_FILE))
            .map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockStateError::Held {
                    directory,
                    owner: read_owner(&mut file),
                });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        // Only the message for others needs the number: a full disk must not stop the start.
        let written = file.set_len(0);
        let number = format!("{}\n", std::process::id());
        if let Err(error) = written.and_then(|()| file.write_all(number.as_bytes())) {
            tracing::warn!(%error, "cannot write the process number into the lock");
        }
        Ok(Self { _file: file })
    }
}

fn read_owner(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
