//! Manifests and model files on their way to this box: chunks into artifacts.
//!
//! A blob is downloaded into the preallocated file of an [`ArtifactWriter`]. Which of its chunks are
//! there is recorded as progress, after the bytes were synced: the record never claims a chunk that
//! a power cut could take, and a chunk that it does not know is fetched again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use edgeward_base::digest::Digest;
use edgeward_sync::ports::{BlobFinish, BlobProgress, BlobStore, PortError, StageError};
use edgeward_wire::ack::{RejectCode, Rejection};
use edgeward_wire::chunk::{CHUNK_BYTES, ChunkSet};

use super::record::BlobRow;
use crate::model::{ArtifactError, ArtifactWriter, Artifacts, FinishedArtifact};
use crate::store::{Change, Store};
use crate::tasks::Tasks;

/// Chunks between two syncs: 16 MiB, what a slow link brings in some seconds.
const CHUNKS_A_SYNC: u32 = 64;

/// Downloads into the artifacts of the model store.
#[derive(Debug, Clone)]
pub struct FleetBlobs {
    artifacts: Artifacts,
    store: Store,
    tasks: Tasks,
    /// Blobs that are being downloaded. The agent fetches a few at a time.
    open: Arc<Mutex<HashMap<Digest, Download>>>,
}

#[derive(Debug)]
struct Download {
    writer: ArtifactWriter,
    chunks: ChunkSet,
    /// Chunks written since the last sync.
    unsynced: u32,
}

impl FleetBlobs {
    /// Downloads into `artifacts`, remembering progress in `store`.
    #[must_use]
    pub fn new(artifacts: Artifacts, store: Store, tasks: Tasks) -> Self {
        Self {
            artifacts,
            store,
            tasks,
            open: Arc::default(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> Result<T, ArtifactError> + Send + 'static,
    ) -> Result<T, StageError> {
        let this = self.clone();
        self.tasks
            .run_blocking(doing, move || work(&this))
            .await
            .map_err(|error| PortError::new(doing, error))?
            .map_err(|error| stage_error(doing, error))
    }

    /// The chunks on disk of a blob that is not complete.
    fn chunks(
        &self,
        digest: Digest,
        size: u64,
        known: Option<BlobRow>,
    ) -> Result<ChunkSet, ArtifactError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.entry(digest) {
            Entry::Occupied(download) => Ok(download.get().chunks.clone()),
            Entry::Vacant(place) => {
                let writer = self.artifacts.writer(&digest, size)?;
                let chunks = known
                    .filter(|row| writer.resumed() && row.size == size)
                    .and_then(|row| ChunkSet::from_bitmap(size, &row.bitmap))
                    .or_else(|| ChunkSet::empty(size))
                    .ok_or(ArtifactError::Range {
                        digest,
                        size,
                        offset: 0,
                        length: 0,
                    })?;
                let download = Download {
                    writer,
                    chunks: chunks.clone(),
                    unsynced: 0,
                };
                place.insert(download);
                Ok(chunks)
            }
        }
    }

    /// Writes a chunk; answers the bitmap when it was just synced.
    fn write_chunk(
        &self,
        digest: &Digest,
        index: u32,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>, ArtifactError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let download = open
            .get_mut(digest)
            .ok_or(ArtifactError::Missing { digest: *digest })?;
        download
            .writer
            .write_at(u64::from(index) * CHUNK_BYTES, bytes)?;
        download.chunks.insert(index);
        download.unsynced += 1;
        if download.unsynced < CHUNKS_A_SYNC {
            return Ok(None);
        }
        download.writer.sync()?;
        download.unsynced = 0;
        Ok(Some(download.chunks.bitmap()))
    }

    fn finish_download(&self, digest: &Digest) -> Result<BlobFinish, ArtifactError> {
        let download = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
        let Some(download) = download else {
            // Finished before, or never begun: what lies under the name decides.
            return match self.artifacts.verify(digest) {
                Ok(_) => Ok(BlobFinish::Complete),
                Err(ArtifactError::Missing { .. } | ArtifactError::Damaged { .. }) => {
                    Ok(BlobFinish::Mismatch)
                }
                Err(error) => Err(error),
            };
        };
        match download.writer.finish()? {
            FinishedArtifact::Complete => Ok(BlobFinish::Complete),
            FinishedArtifact::Mismatch => Ok(BlobFinish::Mismatch),
        }
    }
}

/// A full disk is said to the registry; anything else is tried again.
fn stage_error(doing: &'static str, error: ArtifactError) -> StageError {
    match &error {
        ArtifactError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            StageError::Refused(Rejection::new(RejectCode::NoSpace, error.to_string()))
        }
        _ => StageError::Later(PortError::new(doing, error)),
    }
}

#[async_trait]
impl BlobStore for FleetBlobs {
    async fn progress(&self, digest: &Digest, size: u64) -> Result<BlobProgress, StageError> {
        let known = self
            .store
            .get::<BlobRow>(&digest.to_string())
            .map_err(|error| PortError::new("read download progress", error))?;
        let digest = *digest;
        self.blocking("open download", move |this| {
            if this.artifacts.size(&digest)? == Some(size) {
                return Ok(BlobProgress::Complete);
            }
            this.chunks(digest, size, known).map(BlobProgress::Partial)
        })
        .await
    }

    async fn write(
        &self,
        digest: &Digest,
        size: u64,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        let (digest, bytes) = (*digest, bytes.to_vec());
        let synced = self
            .blocking("write chunk", move |this| {
                this.write_chunk(&digest, index, &bytes)
            })
            .await?;
        if let Some(bitmap) = synced {
            let failed = "record download progress";
            let change = Change::new()
                .put(&BlobRow {
                    digest,
                    size,
                    bitmap,
                })
                .map_err(|error| PortError::new(failed, error))?;
            self.store
                .record_progress(change)
                .await
                .map_err(|error| PortError::new(failed, error))?;
        }
        Ok(())
    }

    async fn finish(&self, digest: &Digest, _size: u64) -> Result<BlobFinish, StageError> {
        let digest = *digest;
        let finished = self
            .blocking("finish download", move |this| this.finish_download(&digest))
            .await?;
        let forgotten = Change::new().delete::<BlobRow>(&digest.to_string());
        self.store
            .record_progress(forgotten)
            .await
            .map_err(|error| PortError::new("forget download progress", error))?;
        Ok(finished)
    }

    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, StageError> {
        let digest = *digest;
        self.blocking("read blob", move |this| this.artifacts.read_whole(&digest))
            .await
    }
}
