//! Where segments are staged, verified and land.
//!
//! A segment is staged in one file named by its digest, below `{registry}/staging`. When its last
//! chunk is there, the whole is hashed, opened as Parquet and its rows counted; only then it lands:
//! it is written to [`ARRIVING`], made durable, and linked under its name if nothing stands there.
//! The landing place is the record of what has landed: there is no index that could differ from it.
//!
//! A table's folder therefore never holds a part of a file, not even after a power cut: readers take
//! every file that they find there, whatever its name ends with.
//!
//! Staged chunks are not durable: after a restart the device is asked for them again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use edgeward_base::digest::Digest;
use edgeward_base::durable::{DurableFile, SharedFs};
use edgeward_base::names::DeviceId;
use edgeward_sync::ports::{LandError, LandingProgress, LandingSink, PortError};
use edgeward_wire::ack::{RejectCode, Rejection};
use edgeward_wire::chunk::{CHUNK_BYTES, ChunkSet};
use edgeward_wire::segment::SegmentManifest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::tasks::Tasks;

/// Segments that may be staged at once; the one that was written to longest ago is dropped, and
/// its device asked again.
const MOST_STAGED: usize = 64;

/// Where files are written before they get their name: in the landing place, for a link does not
/// leave its file system, and in none of its catalogs. What stands there at a start
/// did not land, or has its name already.
const ARRIVING: &str = ".arriving";

/// Why the landing place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenLandingError {
    /// A folder cannot be made, or what an earlier process staged cannot be removed.
    #[error("cannot prepare {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The landing folder cannot be opened.
    #[error("cannot open the landing folder {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: object_store::Error,
    },
}

/// Stages and lands segments.
#[derive(Debug)]
pub struct Landing {
    objects: Arc<dyn ObjectStore>,
    staging: PathBuf,
    staged: Mutex<HashMap<Digest, Staged>>,
    fs: SharedFs,
    tasks: Tasks,
}

#[derive(Debug)]
struct Staged {
    file: Box<dyn DurableFile>,
    chunks: ChunkSet,
    /// Counts up with every use.
    used: u64,
}

impl Landing {
    /// Lands into the folder `landing`, staging below `directory`.
    ///
    /// # Errors
    /// [`OpenLandingError`].
    pub fn open(
        directory: &Path,
        landing: &Path,
        fs: SharedFs,
        tasks: Tasks,
    ) -> Result<Self, OpenLandingError> {
        let staging = directory.join("staging");
        for path in [&staging, &landing.join(ARRIVING)] {
            fs.create_dir_all(path)
                .and_then(|()| fs.list(path))
                .and_then(|left| left.iter().try_for_each(|path| fs.remove(path)))
                .map_err(|source| OpenLandingError::Folder {
                    path: path.clone(),
                    source,
                })?;
        }
        let objects = LocalFileSystem::new_with_prefix(landing)
            .map_err(|source| OpenLandingError::Open {
                path: landing.to_owned(),
                source,
            })?
            .with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
            staging,
            staged: Mutex::new(HashMap::new()),
            fs,
            tasks,
        })
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.staging.join(format!("{digest}.part"))
    }

    /// The digest of what stands under the segment's name.
    async fn standing(&self, object: &ObjectPath) -> Result<Option<Digest>, PortError> {
        let found = match self.objects.get(object).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| PortError::new("look for a landed segment", error))?,
        };
        let bytes = found
            .bytes()
            .await
            .map_err(|error| PortError::new("read a landed segment", error))?;
        Ok(Some(Digest::of(&bytes)))
    }

    /// Opens a staging file, or gives the chunks of the one that is open.
    fn stage(&self, segment: &SegmentManifest) -> io::Result<ChunkSet> {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = staged
            .values()
            .map(|staged| staged.used)
            .max()
            .unwrap_or_default()
            + 1;
        if let Some(open) = staged.get_mut(&segment.digest) {
            open.used = now;
            return Ok(open.chunks.clone());
        }
        if staged.len() >= MOST_STAGED
            && let Some(oldest) = staged.iter().min_by_key(|(_, s)| s.used).map(|(d, _)| *d)
        {
            staged.remove(&oldest);
            self.fs.remove(&self.path_of(&oldest))?;
        }
        let chunks = ChunkSet::empty(segment.size)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let path = self.path_of(&segment.digest);
        let file = match self.fs.create_new(&path) {
            // Left by a staging that failed: its chunks are not known any more.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.fs.remove(&path)?;
                self.fs.create_new(&path)?
            }
            file => file?,
        };
        let open = Staged {
            file,
            chunks: chunks.clone(),
            used: now,
        };
        staged.insert(segment.digest, open);
        Ok(chunks)
    }

    fn write_chunk(&self, digest: &Digest, index: u32, bytes: &[u8]) -> io::Result<()> {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        // Not offered in this process: the device offers it again and is asked for everything.
        let Some(open) = staged.get_mut(digest) else {
            return Ok(());
        };
        open.file.write_at(u64::from(index) * CHUNK_BYTES, bytes)?;
        open.chunks.insert(index);
        Ok(())
    }

    /// Writes the file where no reader looks, then gives it its name if nothing has it.
    async fn put(
        &self,
        digest: &Digest,
        object: &ObjectPath,
        bytes: Bytes,
    ) -> Result<(), object_store::Error> {
        let arriving = ObjectPath::from_iter([ARRIVING, &digest.to_string()]);
        let named = match self.objects.put(&arriving, bytes.into()).await {
            Ok(_) => self.objects.rename_if_not_exists(&arriving, object).await,
            Err(error) => Err(error),
        };
        if named.is_err()
            && let Err(error) = self.objects.delete(&arriving).await
        {
            tracing::debug!(%arriving, %error, "what did not land is removed at the next start");
        }
        named
    }

    /// Reads the staged bytes back, without the staging file afterwards.
    fn take(&self, digest: &Digest) -> io::Result<Bytes> {
        let path = self.path_of(digest);
        let bytes = self.fs.read(&path)?;
        self.staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
        self.fs.remove(&path)?;
        Ok(Bytes::from(bytes))
    }
}

/// Whether the bytes are a Parquet file with as many rows as the manifest says.
fn is_parquet_with(rows: u64, bytes: Bytes) -> Result<(), String> {
    let reader = SerializedFileReader::new(bytes).map_err(|error| error.to_string())?;
    let found = reader.metadata().file_metadata().num_rows();
    if u64::try_from(found) == Ok(rows) {
        Ok(())
    } else {
        Err(format!(
            "the file has {found} rows, its manifest says {rows}"
        ))
    }
}

#[async_trait]
impl LandingSink for Landing {
    async fn progress(
        &self,
        device: &DeviceId,
        segment: &SegmentManifest,
    ) -> Result<LandingProgress, LandError> {
        let object = ObjectPath::from(segment.object(device));
        match self.standing(&object).await? {
            Some(digest) if digest == segment.digest => Ok(LandingProgress::Landed),
            Some(_) => Err(LandError::Refused(taken(&object))),
            None => self
                .stage(segment)
                .map(LandingProgress::Staging)
                .map_err(|error| PortError::new("stage a segment", error).into()),
        }
    }

    async fn write(
        &self,
        _device: &DeviceId,
        segment: &SegmentManifest,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), LandError> {
        self.write_chunk(&segment.digest, index, bytes)
            .map_err(|error| PortError::new("write a staged chunk", error).into())
    }

    async fn land(&self, device: &DeviceId, segment: &SegmentManifest) -> Result<(), LandError> {
        let object = ObjectPath::from(segment.object(device));
        let bytes = self
            .take(&segment.digest)
            .map_err(|error| PortError::new("read a staged segment", error))?;
        let (rows, whole) = (segment.rows, bytes.clone());
        let checked = self
            .tasks
            .run_blocking("verify segment", move || {
                (Digest::of(&whole), is_parquet_with(rows, whole))
            })
            .await
            .map_err(|error| PortError::new("verify a staged segment", error))?;
        match checked {
            (digest, _) if digest != segment.digest => return Err(LandError::Mismatch),
            (_, Err(detail)) => {
                return Err(LandError::Refused(Rejection::new(
                    RejectCode::Invalid,
                    detail,
                )));
            }
            (_, Ok(())) => {}
        }
        match self.put(&segment.digest, &object, bytes).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => match self.standing(&object).await? {
                Some(digest) if digest == segment.digest => Ok(()),
                _ => Err(LandError::Refused(taken(&object))),
            },
            Err(error) => Err(PortError::new("land a segment", error).into()),
        }
    }
}

/// Other bytes stand under the segment's name: a cloned disk, or counters that were set back.
fn taken(object: &ObjectPath) -> Rejection {
    Rejection::new(
        RejectCode::GenerationConflict,
        format!("{object} has landed with other bytes; two boxes share an identity"),
    )
}
