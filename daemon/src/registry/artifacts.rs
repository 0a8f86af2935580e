//! The registry's blobs, for the agent that answers requests for chunks.

use async_trait::async_trait;
use edgeward_base::digest::Digest;
use edgeward_sync::ports::{ArtifactChunk, ArtifactSource, PortError};
use edgeward_wire::chunk::{CHUNK_BYTES, chunk_count, chunk_len};

use crate::model::{ArtifactError, Artifacts};
use crate::tasks::Tasks;

/// Reads manifests and model files out of the model store's artifacts.
#[derive(Debug)]
pub struct RegistryArtifacts {
    artifacts: Artifacts,
    tasks: Tasks,
}

impl RegistryArtifacts {
    /// Serves `artifacts`.
    #[must_use]
    pub fn new(artifacts: Artifacts, tasks: Tasks) -> Self {
        Self { artifacts, tasks }
    }
}

#[async_trait]
impl ArtifactSource for RegistryArtifacts {
    async fn read(&self, digest: &Digest, index: u32) -> Result<Option<ArtifactChunk>, PortError> {
        let (artifacts, digest) = (self.artifacts.clone(), *digest);
        let read = move || -> Result<Option<ArtifactChunk>, ArtifactError> {
            let Some(size) = artifacts.size(&digest)? else {
                return Ok(None);
            };
            let (Some(total), Some(length)) = (chunk_count(size), chunk_len(size, index)) else {
                return Ok(None);
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let bytes = artifacts.read(&digest, u64::from(index) * CHUNK_BYTES, length)?;
            Ok(Some(ArtifactChunk { total, bytes }))
        };
        self.tasks
            .run_blocking("read chunk", read)
            .await
            .map_err(|error| PortError::new("read a chunk", error))?
            .map_err(|error| PortError::new("read a chunk", error))
    }
}
