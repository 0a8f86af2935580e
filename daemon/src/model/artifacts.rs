//! The files of model versions, each stored once under its digest.
//!
//! ```text
//! {models}/artifacts/{aa}/{digest}      a complete file: its BLAKE3 is its name, and aa begins it
//! {models}/artifacts/parts/{digest}.part   a download, preallocated, chunks at their places
//! {models}/artifacts/parts/{digest}.tmp    a copy under way; what a power cut left of one is removed at the start
//! ```
//!
//! A name in `artifacts/{aa}` appears by one rename, after the bytes were synced and their digest
//! was computed again from the file: half a file is never visible. Nothing there is ever changed in
//! place. Manifests are artifacts too.

mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edgeward_base::digest::{Digest, DigestHasher};
use edgeward_base::durable::{DurableFs, SharedFs, TEMPORARY_SUFFIX};

pub use writer::{ArtifactWriter, FinishedArtifact};

/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// Where the files of model versions lie. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Artifacts {
    directory: Arc<Path>,
    fs: SharedFs,
    seen: Arc<Mutex<HashMap<Digest, FileIdentity>>>,
}

/// What a file was when its digest was computed.
///
/// Artifacts appear by rename and are never written again, so a file with the same identity has the
/// same bytes unless the disk itself changed them; that is found at the next start of the process.
/// Hashing gigabytes at each load of a model scaled to zero would cost more than the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    /// Not the change time: a hard link changes that, and no byte.
    written: (i64, i64),
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A file that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFile {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file operation failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done, such as `read`.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// There is no such artifact.
    #[error("artifact {digest} is not on this box")]
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// The bytes on disk are not those of the digest.
    #[error("artifact {digest} is damaged: its bytes have digest {found}")]
    Damaged {
        /// What its name says.
        digest: Digest,
        /// What its bytes say.
        found: Digest,
    },
    /// The source changed while it was copied.
    #[error("{path} changed while it was read")]
    Changed {
        /// The source.
        path: PathBuf,
    },
    /// A chunk that does not lie within the file.
    #[error("artifact {digest} has {size} bytes: {length} bytes at {offset} do not lie in it")]
    Range {
        /// The artifact.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Where the chunk starts.
        offset: u64,
        /// How long the chunk is.
        length: u64,
    },
}

impl ArtifactError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether fetching the artifact again would help.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. })
    }
}

/// Removes copies that never finished; one that stays is in nobody's way.
fn remove_copies(fs: &dyn DurableFs, parts: &Path) {
    let mut paths = fs.list(parts).unwrap_or_default();
    paths.retain(|path| path.to_string_lossy().ends_with(TEMPORARY_SUFFIX));
    for path in paths {
        if let Err(error) = fs.remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished copy");
        }
    }
}

impl Artifacts {
    /// The artifacts under `{models}/artifacts`; the directory is made when it is not there.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn open(models: &Path, fs: SharedFs) -> Result<Self, ArtifactError> {
        let directory: Arc<Path> = models.join("artifacts").into();
        let parts = directory.join("parts");
        fs.create_dir_all(&parts)
            .map_err(ArtifactError::io("create", &parts))?;
        remove_copies(fs.as_ref(), &parts);
        Ok(Self {
            directory,
            fs,
            seen: Arc::default(),
        })
    }

    /// Where an artifact lies, or would lie.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (aa, _) = name.split_at_checked(2).unwrap_or((&name, ""));
        self.directory.join(aa).join(&name)
    }

    fn part_path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.directory
            .join("parts")
            .join(format!("{digest}{suffix}"))
    }

    /// The size of a complete artifact; `None` when it is not on this box.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, ArtifactError> {
        let path = self.path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArtifactError::io("look at", &path)(error)),
        }
    }

    /// Verifies an artifact's digest, at most once per process and file, and answers where it lies.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Damaged`], [`ArtifactError::Io`].
    pub fn verify(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        let path = self.path(digest);
        let identity = match FileIdentity::of(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { digest: *digest });
            }
            identity => identity.map_err(ArtifactError::io("look at", &path))?,
        };
        if self.seen().get(digest) == Some(&identity) {
            return Ok(path);
        }
        let found = Digest::of_file(&path).map_err(ArtifactError::io("read", &path))?;
        if found != *digest {
            return Err(ArtifactError::Damaged {
                digest: *digest,
                found,
            });
        }
        self.seen().insert(*digest, identity);
        Ok(path)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, FileIdentity>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a copy of a file. Durable when it returns. One that is there and sound is kept; one
    /// that is damaged is replaced.
    ///
    /// # Errors
    /// [`ArtifactError::Changed`], [`ArtifactError::Damaged`] when the disk gave other bytes back
    /// than were written, [`ArtifactError::Io`].
    pub fn put_file(&self, source: &Path) -> Result<StoredFile, ArtifactError> {
        let digest = Digest::of_file(source).map_err(ArtifactError::io("read", source))?;
        if self.verify(&digest).is_ok() {
            let size = self
                .size(&digest)?
                .ok_or(ArtifactError::Missing { digest })?;
            return Ok(StoredFile { digest, size });
        }
        let mut from = File::open(source).map_err(ArtifactError::io("open", source))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut hasher = DigestHasher::new();
        let mut size = 0;
        self.write(&digest, |append| {
            loop {
                let read = from
                    .read(&mut buffer)
                    .map_err(ArtifactError::io("read", source))?;
                let Some(filled) = buffer.get(..read).filter(|filled| !filled.is_empty()) else {
                    break;
                };
                hasher.update(filled);
                size += filled.len() as u64;
                append(filled)?;
            }
            if hasher.finish() == digest {
                Ok(())
            } else {
                Err(ArtifactError::Changed {
                    path: source.to_owned(),
                })
            }
        })?;
        Ok(StoredFile { digest, size })
    }

    /// Stores bytes. Durable when it returns.
    ///
    /// # Errors
    /// As [`Artifacts::put_file`].
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<StoredFile, ArtifactError> {
        let stored = StoredFile {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        if self.verify(&stored.digest).is_err() {
            self.write(&stored.digest, |append| append(bytes))?;
        }
        Ok(stored)
    }

    /// Writes a temporary file, syncs it, verifies it, and puts it under its name.
    fn write(
        &self,
        digest: &Digest,
        fill: impl FnOnce(
            &mut dyn FnMut(&[u8]) -> Result<(), ArtifactError>,
        ) -> Result<(), ArtifactError>,
    ) -> Result<(), ArtifactError> {
        let temporary = self.part_path(digest, TEMPORARY_SUFFIX);
        match self.fs.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ArtifactError::io("remove", &temporary)(error));
            }
            _ => {}
        }
        let mut file = self
            .fs
            .create_new(&temporary)
            .map_err(ArtifactError::io("create", &temporary))?;
        let filled = fill(&mut |bytes| {
            file.append(bytes)
                .map_err(ArtifactError::io("write", &temporary))
        });
        let synced = filled.and_then(|()| {
            file.sync_all()
                .map_err(ArtifactError::io("sync", &temporary))
        });
        drop(file);
        synced
            .and_then(|()| self.publish(digest, &temporary))
            // The error that tells why is the first one; a copy that stays goes at the next start.
            .inspect_err(|_| drop(self.fs.remove(&temporary)))
    }

    /// Verifies a synced file and renames it to its name.
    fn publish(&self, digest: &Digest, temporary: &Path) -> Result<(), ArtifactError> {
        let found = Digest::of_file(temporary).map_err(ArtifactError::io("read", temporary))?;
        if found != *digest {
            return Err(ArtifactError::Damaged {
                digest: *digest,
                found,
            });
        }
        let path = self.path(digest);
        let directory = edgeward_base::durable::parent(&path);
        self.fs
            .create_dir_all(directory)
            .map_err(ArtifactError::io("create", directory))?;
        self.fs
            .rename(temporary, &path)
            .map_err(ArtifactError::io("rename", temporary))?;
        self.fs
            .sync_dir(directory)
            .map_err(ArtifactError::io("sync", directory))
    }

    /// Reads a part of a complete artifact, less at its end. Its digest is not checked again: whoever
    /// receives the parts checks the whole.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Io`].
    pub fn read(
        &self,
        digest: &Digest,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { digest: *digest });
            }
            file => file.map_err(ArtifactError::io("open", &path))?,
        };
        let size = file
            .metadata()
            .map_err(ArtifactError::io("look at", &path))?
            .len();
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        file.read_exact_at(&mut bytes, offset)
            .map_err(ArtifactError::io("read", &path))?;
        Ok(bytes)
    }

    /// Reads a whole small artifact and checks its digest.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Damaged`], [`ArtifactError::Io`].
    pub fn read_whole(&self, digest: &Digest) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(digest);
        let bytes = match self.fs.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { digest: *digest });
            }
            bytes => bytes.map_err(ArtifactError::io("read", &path))?,
        };
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(ArtifactError::Damaged {
                digest: *digest,
                found,
            })
        }
    }

    /// Opens the download of an artifact of `size` bytes, or goes on with one.
    ///
    /// # Errors
    /// [`ArtifactError::Io`]; `StorageFull` when there is no room for the whole.
    pub fn writer(&self, digest: &Digest, size: u64) -> Result<ArtifactWriter, ArtifactError> {
        ArtifactWriter::open(self.clone(), *digest, size)
    }

    /// Removes an artifact. One that is not there is fine.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<(), ArtifactError> {
        let path = self.path(digest);
        self.seen().remove(digest);
        match self.fs.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(ArtifactError::io("remove", &path)),
        }
    }
}

#[cfg(test)]
mod tests;
