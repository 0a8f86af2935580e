//! A download that arrives in chunks, in any order, over several boots.
//!
//! The file is preallocated, so that a full disk is known before the first chunk and not after the
//! last. Which chunks are there is remembered by the caller; a mark may be written only after
//! [`ArtifactWriter::sync`].

use std::path::PathBuf;

use edgeward_base::digest::Digest;
use edgeward_base::durable::{DurableFile, parent};

use super::{ArtifactError, Artifacts};

/// The open file of a download.
#[derive(Debug)]
pub struct ArtifactWriter {
    artifacts: Artifacts,
    digest: Digest,
    size: u64,
    path: PathBuf,
    file: Box<dyn DurableFile>,
    resumed: bool,
}

/// What became of a download whose chunks are all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedArtifact {
    /// Its digest is right and it stands under its name, durably.
    Complete,
    /// Its digest is wrong: the file was removed, and every chunk has to come again.
    Mismatch,
}

impl ArtifactWriter {
    pub(super) fn open(
        artifacts: Artifacts,
        digest: Digest,
        size: u64,
    ) -> Result<Self, ArtifactError> {
        let path = artifacts.part_path(&digest, ".part");
        let there = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size);
        if there {
            let file = artifacts
                .fs
                .open(&path)
                .map_err(ArtifactError::io("open", &path))?;
            return Ok(Self {
                artifacts,
                digest,
                size,
                path,
                file,
                resumed: true,
            });
        }
        // Another length is a preallocation that a power cut interrupted.
        match artifacts.fs.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ArtifactError::io("remove", &path)(error));
            }
            _ => {}
        }
        let mut file = artifacts
            .fs
            .create_new(&path)
            .map_err(ArtifactError::io("create", &path))?;
        let reserved = file.preallocate(size).and_then(|()| file.sync_all());
        if let Err(error) = reserved {
            // What could not be reserved is of no use; the first error is the one that tells why.
            drop(artifacts.fs.remove(&path));
            return Err(ArtifactError::io("reserve", &path)(error));
        }
        artifacts
            .fs
            .sync_dir(parent(&path))
            .map_err(ArtifactError::io("sync", parent(&path)))?;
        Ok(Self {
            artifacts,
            digest,
            size,
            path,
            file,
            resumed: false,
        })
    }

    /// Whether an earlier download goes on. When not, no chunk is there, whatever the caller
    /// remembers.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Writes a chunk at its place.
    ///
    /// # Errors
    /// [`ArtifactError::Range`], [`ArtifactError::Io`].
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ArtifactError> {
        let length = bytes.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ArtifactError::Range {
                digest: self.digest,
                size: self.size,
                offset,
                length,
            });
        }
        self.file
            .write_at(offset, bytes)
            .map_err(ArtifactError::io("write", &self.path))
    }

    /// Makes the chunks written so far durable.
    ///
    /// # Errors
    /// [`ArtifactError::Io`]: the chunks since the last sync are then not there.
    pub fn sync(&mut self) -> Result<(), ArtifactError> {
        self.file
            .sync_data()
            .map_err(ArtifactError::io("sync", &self.path))
    }

    /// Verifies the whole and puts it under its name.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn finish(mut self) -> Result<FinishedArtifact, ArtifactError> {
        self.file
            .sync_all()
            .map_err(ArtifactError::io("sync", &self.path))?;
        drop(self.file);
        match self.artifacts.publish(&self.digest, &self.path) {
            Ok(()) => Ok(FinishedArtifact::Complete),
            Err(ArtifactError::Damaged { .. }) => {
                let path = &self.path;
                self.artifacts
                    .fs
                    .remove(path)
                    .map_err(ArtifactError::io("remove", path))?;
                Ok(FinishedArtifact::Mismatch)
            }
            Err(error) => Err(error),
        }
    }
}
