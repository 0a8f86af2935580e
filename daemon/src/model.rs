//! Model versions on this box: imported, proved, catalogued, loaded and scored.
//!
//! Must never serve a version that has not proved itself, never change a version once it is
//! catalogued, and never run code that came with a model.
//!
//! - [`signature`], [`mlmodel`]: what a model takes and gives, as its directory says
//! - [`scoring`]: from the JSON of an invocation to tensors and back
//! - [`artifacts`]: the files, each once, under its digest
//! - [`catalog`]: what the state store keeps of models
//! - [`samples`]: the models that are part of the binary
//!
//! ```text
//! {models}/artifacts/   files and manifests by digest
//! {models}/index/       links to the files of versions whose graph keeps tensors beside itself
//! ```
//!
//! The catalogue's record names a manifest by digest, and the manifest every file: whoever holds the
//! record can check all of the version.

pub mod artifacts;
pub mod catalog;
mod fingerprint;
mod import;
mod known_answers;
pub mod mlmodel;
mod on_demand;
mod onnx_files;
mod prove;
mod remove;
pub mod samples;
pub mod scoring;
mod sentence;
pub mod signature;
mod source;
mod version;
mod warm;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_base::clock::SharedClock;
use edgeward_base::digest::Digest;
use edgeward_base::durable::SharedFs;
use edgeward_base::names::ModelRef;
use edgeward_kernels::engine::{Engine, Session};
use edgeward_wire::manifest::{Manifest, ParseManifestError};
use tokio::sync::Mutex;

use crate::store::{Change, ReadStoreError, Store};
use crate::tasks::Tasks;

pub use artifacts::{ArtifactError, ArtifactWriter, Artifacts, FinishedArtifact};
pub use catalog::{ModelOrigin, ModelRecord, VerdictRecord};
pub use fingerprint::Fingerprint;
pub use import::ImportModelError;
pub use known_answers::ReadKnownAnswersError;
pub use onnx_files::ScanOnnxError;
pub use prove::{Compute, EngineRefusal, ProveModelError};
pub use remove::RemoveModelError;
pub use scoring::{
    BindModelError, InputForm, MOST_TEXTS, Mistake, Predictions, ScoreError, Scorer, ScoringInput,
    ScoringRequest, parse_csv_body, parse_scoring_body, read_values, write_values,
};
pub use sentence::ReadSentenceError;
pub use signature::{Column, ColumnType, Schema, Signature, TensorField};
pub use source::ReadSourceError;
pub use version::OpenVersionError;

use prove::Prover;
use version::{Known, Version};

/// What a model store needs to open.
#[derive(Clone)]
pub struct ModelStoreOptions {
    /// `{state}/models`; made when it is not there.
    pub directory: PathBuf,
    /// Keeps the catalogue; opened with the tables of [`ModelRecord`] and [`VerdictRecord`].
    pub store: Store,
    /// Where blocking work runs.
    pub tasks: Tasks,
    /// Through which files become durable.
    pub fs: SharedFs,
    /// Dates records and measures engines.
    pub clock: SharedClock,
    /// The engines, in the order in which they are tried: `edgeward_kernels::engines()`.
    pub engines: Vec<Arc<dyn Engine>>,
}

impl fmt::Debug for ModelStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStoreOptions")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// The model versions of this box. A clone is another handle to the same ones.
#[derive(Debug, Clone)]
pub struct ModelStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    artifacts: Artifacts,
    index: PathBuf,
    store: Store,
    tasks: Tasks,
    prover: Prover,
    /// One change of the catalogue at a time: two imports of one version must see each other.
    changing: Mutex<()>,
}

/// Why the model store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenModelStoreError {
    /// Its directory could not be made.
    #[error("cannot open the model store")]
    Artifacts(#[source] ArtifactError),
    /// The process cannot see its own executable.
    #[error("cannot tell which build this is")]
    Fingerprint(#[source] io::Error),
}

/// Why a model version cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadModelVersionError {
    /// The catalogue does not have it.
    #[error("model version {model} is not in the catalogue")]
    Unknown {
        /// The version.
        model: ModelRef,
    },
    /// The catalogue cannot be read.
    #[error("cannot read the model catalogue")]
    Read(#[source] ReadStoreError),
    /// Its manifest is missing or damaged.
    #[error("cannot read the manifest of model version {model}")]
    Manifest {
        /// The version.
        model: ModelRef,
        /// What is wrong.
        #[source]
        source: ReadManifestError,
    },
    /// A file of it is missing, damaged or unusable.
    #[error("cannot use the files of model version {model}")]
    Version {
        /// The version.
        model: ModelRef,
        /// What is wrong.
        #[source]
        source: OpenVersionError,
    },
    /// No engine of this build proved itself on it.
    #[error("model version {model} did not prove itself")]
    Prove {
        /// The version.
        model: ModelRef,
        /// What each engine said.
        #[source]
        source: ProveModelError,
    },
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// Its bytes are missing or damaged.
    #[error("cannot read the manifest's bytes")]
    Artifact(#[source] ArtifactError),
    /// Its bytes are no manifest.
    #[error("the artifact is no manifest")]
    Parse(#[source] ParseManifestError),
}

impl ModelStore {
    /// Opens the model store.
    ///
    /// # Errors
    /// [`OpenModelStoreError`].
    pub fn open(options: ModelStoreOptions) -> Result<Self, OpenModelStoreError> {
        let fingerprint =
            Fingerprint::of_this_process().map_err(OpenModelStoreError::Fingerprint)?;
        Self::open_as(options, fingerprint)
    }

    fn open_as(
        options: ModelStoreOptions,
        fingerprint: Fingerprint,
    ) -> Result<Self, OpenModelStoreError> {
        let artifacts = Artifacts::open(&options.directory, options.fs)
            .map_err(OpenModelStoreError::Artifacts)?;
        Ok(Self {
            shared: Arc::new(Shared {
                artifacts,
                index: options.directory.join("index"),
                store: options.store,
                tasks: options.tasks,
                prover: Prover {
                    engines: options.engines,
                    fingerprint,
                    clock: options.clock,
                },
                changing: Mutex::new(()),
            }),
        })
    }

    /// The files behind the versions: what the fleet fetches into and serves from.
    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.shared.artifacts
    }

    /// What the catalogue says of a version.
    ///
    /// # Errors
    /// [`ReadStoreError`].
    pub fn get(&self, model: &ModelRef) -> Result<Option<ModelRecord>, ReadStoreError> {
        self.shared.store.get(&model.to_string())
    }

    /// Every version in the catalogue, by name and number.
    ///
    /// # Errors
    /// [`ReadStoreError`].
    pub fn list(&self) -> Result<Vec<ModelRecord>, ReadStoreError> {
        let mut records: Vec<ModelRecord> = self.shared.store.list()?;
        records.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(records)
    }

    /// Whether a version with this manifest is in the catalogue.
    ///
    /// # Errors
    /// [`ReadStoreError`].
    pub fn has(&self, manifest: &Digest) -> Result<bool, ReadStoreError> {
        Ok(self
            .list()?
            .iter()
            .any(|record| record.manifest == *manifest))
    }

    /// The manifest of that digest.
    ///
    /// # Errors
    /// [`ReadManifestError`].
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, ReadManifestError> {
        let bytes = self
            .shared
            .artifacts
            .read_whole(digest)
            .map_err(ReadManifestError::Artifact)?;
        Manifest::parse(&bytes).map_err(ReadManifestError::Parse)
    }

    /// Imports a bare model file or an MLflow model directory as `model`. Importing the same
    /// content again changes nothing and answers the record that is there.
    ///
    /// # Errors
    /// [`ImportModelError`]; the catalogue is then as it was.
    ///
    /// # Cancel safety
    /// Dropped before it answers, the version is catalogued or it is not.
    pub async fn import(
        &self,
        path: &Path,
        model: &ModelRef,
    ) -> Result<ModelRecord, ImportModelError> {
        let _changing = self.shared.changing.lock().await;
        let (shared, path, wanted) = (Arc::clone(&self.shared), path.to_owned(), model.clone());
        let manifest = self
            .shared
            .tasks
            .run_blocking("model/store-files", move || {
                import::store_files(&path, &wanted, &shared.artifacts)
            })
            .await
            .map_err(ImportModelError::Join)??;
        self.catalogue(manifest, ModelOrigin::Local).await
    }

    /// Catalogues a version whose files are all artifacts of this box already, as the fleet brings
    /// them. Installing it again changes nothing.
    ///
    /// # Errors
    /// [`ImportModelError`]; [`is_lost`](ImportModelError::is_lost) says that a file is missing or
    /// damaged and has to be fetched again.
    pub async fn install(&self, manifest: &Manifest) -> Result<ModelRecord, ImportModelError> {
        let _changing = self.shared.changing.lock().await;
        self.catalogue(manifest.clone(), ModelOrigin::Registry)
            .await
    }

    /// Proves a version and commits it. The caller holds `changing`.
    async fn catalogue(
        &self,
        manifest: Manifest,
        origin: ModelOrigin,
    ) -> Result<ModelRecord, ImportModelError> {
        let (model, here) = (manifest.model(), manifest.digest());
        let there = self.get(&model).map_err(ImportModelError::Read)?;
        match there {
            Some(record) if record.manifest == here => return Ok(record),
            Some(record) => {
                return Err(ImportModelError::Immutable {
                    model,
                    there: record.manifest,
                    here,
                });
            }
            None => {}
        }
        let shared = Arc::clone(&self.shared);
        let staged = self
            .shared
            .tasks
            .run_blocking("model/prove", move || {
                let Shared {
                    artifacts,
                    index,
                    prover,
                    ..
                } = shared.as_ref();
                import::stage(&manifest, origin, artifacts, index, prover)
            })
            .await
            .map_err(ImportModelError::Join)??;
        let change = Change::new()
            .put(&staged.record)
            .map_err(ImportModelError::Record)?;
        self.shared
            .store
            .commit(change)
            .await
            .map_err(ImportModelError::Commit)?;
        self.remember(staged.verdicts);
        Ok(staged.record)
    }

    /// Loads a version and has it prove itself, unless this build on this processor has seen it do
    /// so. Blocking, and as slow as the model is big.
    ///
    /// # Errors
    /// [`LoadModelVersionError`].
    pub fn load(
        &self,
        model: &ModelRef,
        compute: Compute,
    ) -> Result<Arc<Scorer>, LoadModelVersionError> {
        let Shared { store, prover, .. } = self.shared.as_ref();
        let version = self.version(model)?;
        let known = |engine: &str, fingerprint: &str| {
            let key = VerdictRecord::key_of(&version.manifest, engine, fingerprint);
            // A verdict that cannot be read is made again.
            store.get::<VerdictRecord>(&key).ok().flatten()
        };
        let proved = prover.prove(&version, compute, known).map_err(|source| {
            LoadModelVersionError::Prove {
                model: model.clone(),
                source,
            }
        })?;
        self.remember(proved.verdicts);
        let (again, model) = (self.clone(), model.clone());
        let engines = (proved.engine, proved.standby);
        let load = Box::new(move || again.load_again(&model, engines));
        let clock = Arc::clone(&prover.clock);
        Ok(Arc::new(proved.scorer.on_demand(clock, load)))
    }

    /// Whether an engine of this box computes on a device.
    #[must_use]
    pub fn has_device(&self) -> bool {
        self.shared.prover.has_device()
    }

    /// The files of a version, all of them there and sound.
    fn version(&self, model: &ModelRef) -> Result<Version, LoadModelVersionError> {
        let Shared {
            artifacts, index, ..
        } = self.shared.as_ref();
        let record = self.get(model).map_err(LoadModelVersionError::Read)?;
        let record = record.ok_or_else(|| LoadModelVersionError::Unknown {
            model: model.clone(),
        })?;
        let manifest =
            self.manifest(&record.manifest)
                .map_err(|source| LoadModelVersionError::Manifest {
                    model: model.clone(),
                    source,
                })?;
        version::open(&manifest, Known::Catalogued, artifacts, index).map_err(|source| {
            LoadModelVersionError::Version {
                model: model.clone(),
                source,
            }
        })
    }

    /// Another session of a version that has proved itself on that engine in this process.
    fn load_again(
        &self,
        model: &ModelRef,
        (engine, standby): (&'static str, Option<&'static str>),
    ) -> Result<Arc<dyn Session>, LoadModelVersionError> {
        let version = self.version(model)?;
        let session = self.shared.prover.load(&version, engine, standby);
        session.map_err(|refusal| LoadModelVersionError::Prove {
            model: model.clone(),
            source: ProveModelError {
                refusals: vec![(engine, refusal)],
            },
        })
    }

    /// Records verdicts, so that the next start needs not make them again. Losing one costs a
    /// verification, so nobody waits for it.
    fn remember(&self, verdicts: Vec<VerdictRecord>) {
        if verdicts.is_empty() {
            return;
        }
        let store = self.shared.store.clone();
        let recorded = self.shared.tasks.spawn("model/verdict", async move {
            let mut change = Change::new();
            for verdict in &verdicts {
                match change.put(verdict) {
                    Ok(next) => change = next,
                    Err(error) => {
                        tracing::warn!(%error, "verdict not recorded");
                        return;
                    }
                }
            }
            if let Err(error) = store.record_progress(change).await {
                tracing::warn!(%error, "verdict not recorded");
            }
        });
        drop(recorded);
    }
}

#[cfg(test)]
mod tests;
