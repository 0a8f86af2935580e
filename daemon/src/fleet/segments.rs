//! Sealed Parquet becomes segments for upload, and receipts delete it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use edgeward_base::digest::Digest;
use edgeward_base::durable::is_unreadable;
use edgeward_sync::ports::{PortError, SegmentSource};
use edgeward_wire::chunk::{CHUNK_BYTES, chunk_len};
use edgeward_wire::segment::{Receipt, SegmentManifest, SegmentName};
use tokio::sync::watch;

use crate::inference_table::{AskInferenceTablesError, InferenceTables, SealedSegment};
use crate::tasks::Tasks;

/// Offers what the inference tables have sealed.
#[derive(Debug)]
pub struct FleetSegments {
    tables: InferenceTables,
    tasks: Tasks,
    sealings: tokio::sync::Mutex<watch::Receiver<u64>>,
    /// Where the segments lie that were listed last.
    paths: Arc<Mutex<HashMap<SegmentName, PathBuf>>>,
    /// The segment that was noted last as one that may have landed.
    offered: Mutex<Option<SegmentName>>,
}

impl FleetSegments {
    /// Over the inference tables of this box.
    #[must_use]
    pub fn new(tables: InferenceTables, tasks: Tasks) -> Self {
        let sealings = tokio::sync::Mutex::new(tables.sealings());
        Self {
            tables,
            tasks,
            sealings,
            paths: Arc::default(),
            offered: Mutex::default(),
        }
    }

    /// Makes durable that a segment may have landed, before any of its bytes are sent: whichever
    /// chunk the registry still wants may be the one that completes it.
    async fn note_offered(&self, name: &SegmentName) -> Result<(), PortError> {
        let offered = || self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        if offered().as_ref() == Some(name) {
            return Ok(());
        }
        let noted = self.tables.offered(name).await;
        noted.map_err(|error| PortError::new("note that a segment is sent", error))?;
        *offered() = Some(name.clone());
        Ok(())
    }

    fn path_of(&self, name: &SegmentName) -> Option<PathBuf> {
        self.paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

fn manifest(segment: &SealedSegment) -> Result<SegmentManifest, PortError> {
    let date = segment.date.to_string().parse();
    Ok(SegmentManifest {
        name: segment.name.clone(),
        rows: segment.rows,
        date: date.map_err(|error| PortError::new("date a segment", error))?,
        size: segment.size,
        digest: segment.digest,
    })
}

/// What one read of a segment found.
enum Found {
    Chunk(Vec<u8>),
    /// The file is not the one that was sealed.
    Damaged,
}

/// Reads a chunk. The first one hashes the file: a damaged file must not be offered for ever.
fn read_chunk(path: &Path, segment: &SegmentManifest, index: u32) -> io::Result<Found> {
    let length = chunk_len(segment.size, index)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(io::ErrorKind::InvalidInput)?;
    let read = || {
        if index == 0 && Digest::of_file(path)? != segment.digest {
            return Ok(Found::Damaged);
        }
        let mut bytes = vec![0; length];
        File::open(path)?.read_exact_at(&mut bytes, u64::from(index) * CHUNK_BYTES)?;
        Ok(Found::Chunk(bytes))
    };
    match read() {
        Err(error) if is_beyond_repair(&error) => Ok(Found::Damaged),
        found => found,
    }
}

/// Whether reading again would answer the same: the file is gone, too short, or on a bad sector.
fn is_beyond_repair(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    ) || is_unreadable(error)
}

#[async_trait]
impl SegmentSource for FleetSegments {
    async fn sealed(&self) -> Result<Vec<SegmentManifest>, PortError> {
        let sealed = match self.tables.sealed().await {
            Ok(sealed) => sealed,
            // The process is ending: what is left is offered after the next start.
            Err(AskInferenceTablesError::Closed) => return Ok(Vec::new()),
            Err(error) => return Err(PortError::new("list sealed segments", error)),
        };
        let manifests = sealed.iter().map(manifest).collect::<Result<_, _>>()?;
        let paths = sealed
            .into_iter()
            .map(|segment| (segment.name, segment.path))
            .collect();
        *self.paths.lock().unwrap_or_else(PoisonError::into_inner) = paths;
        Ok(manifests)
    }

    async fn changed(&self) {
        if self.sealings.lock().await.changed().await.is_err() {
            // The row log is closed: nothing more will be sealed.
            std::future::pending::<()>().await;
        }
    }

    async fn read(&self, segment: &SegmentManifest, index: u32) -> Result<Vec<u8>, PortError> {
        let failed = "read a sealed segment";
        let path = self
            .path_of(&segment.name)
            .ok_or_else(|| PortError::new(failed, io::Error::from(io::ErrorKind::NotFound)))?;
        self.note_offered(&segment.name).await?;
        let wanted = segment.clone();
        let found = self
            .tasks
            .run_blocking("read segment", move || read_chunk(&path, &wanted, index))
            .await
            .map_err(|error| PortError::new(failed, error))?
            .map_err(|error| PortError::new(failed, error))?;
        match found {
            Found::Chunk(bytes) => Ok(bytes),
            Found::Damaged => {
                tracing::error!(segment = %segment.name, "sealed segment is damaged: set aside");
                // A gap of the same name may take its place, and has not been offered.
                self.offered
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                self.tables
                    .set_aside(&segment.name)
                    .await
                    .map_err(|error| PortError::new("set a damaged segment aside", error))?;
                Err(PortError::new(
                    failed,
                    io::Error::from(io::ErrorKind::InvalidData),
                ))
            }
        }
    }

    async fn landed(&self, segment: &SegmentManifest, _receipt: &Receipt) -> Result<(), PortError> {
        self.tables
            .landed(&segment.name)
            .await
            .map_err(|error| PortError::new("delete a landed segment", error))
    }
}
