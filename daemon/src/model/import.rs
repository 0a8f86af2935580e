//! Brings a model version into the store.
//!
//! ```text
//! collect files -> store artifacts -> manifest -> open and prove -> catalogue
//!                                                                   ^ the one step that shows
//! ```
//!
//! A failure at any step leaves the catalogue as it was; artifacts that were stored by then are
//! named by nobody and serve the next attempt. A version is immutable: importing the same files
//! again changes nothing, other files are refused.

use std::path::Path;

use edgeward_base::digest::Digest;
use edgeward_base::names::ModelRef;
use edgeward_wire::manifest::{Manifest, ManifestFile, ParseManifestError};

use super::artifacts::{ArtifactError, Artifacts};
use super::catalog::{ModelOrigin, ModelRecord, VerdictRecord};
use super::prove::{Compute, ProveModelError, Prover};
use super::source::{self, ReadSourceError};
use super::version::{self, Known, OpenVersionError};
use crate::store::{ChangeError, CommitStoreError, ReadStoreError};
use crate::tasks::JoinTaskError;

/// Why a model version was not imported. Nothing is in the catalogue that was not there before.
#[derive(Debug, thiserror::Error)]
pub enum ImportModelError {
    /// The path does not hold a model that can be served.
    #[error("cannot import the model")]
    Source(#[source] ReadSourceError),
    /// A file could not be stored.
    #[error("cannot store the model's files")]
    Artifact(#[source] ArtifactError),
    /// The files cannot make up a model version.
    #[error("the model's files cannot make up a version")]
    Manifest(#[source] ParseManifestError),
    /// The stored files cannot be used.
    #[error("cannot use the model's files")]
    Version(#[source] OpenVersionError),
    /// No engine can serve it.
    #[error("the model did not prove itself")]
    Prove(#[source] ProveModelError),
    /// The version is there with other content.
    #[error(
        "model version {model} is there with other content (manifest {there}, this one is {here}): \
         a version never changes, import it under another version"
    )]
    Immutable {
        /// The version.
        model: ModelRef,
        /// The manifest in the catalogue.
        there: Digest,
        /// The manifest of what was to be imported.
        here: Digest,
    },
    /// The catalogue cannot be read.
    #[error("cannot read the model catalogue")]
    Read(#[source] ReadStoreError),
    /// The record cannot be written.
    #[error("cannot record the model version")]
    Record(#[source] ChangeError),
    /// The catalogue was not changed.
    #[error("cannot commit the model version to the catalogue")]
    Commit(#[source] CommitStoreError),
    /// The work was interrupted.
    #[error("importing was interrupted")]
    Join(#[source] JoinTaskError),
}

impl ImportModelError {
    /// Whether fetching the version's files again would help.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Artifact(error) => error.is_lost(),
            Self::Version(error) => error.is_lost(),
            _ => false,
        }
    }

    /// Whether the same files will be refused whenever they are tried: the fault is in them, not in
    /// the state of the box.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Source(_) | Self::Manifest(_) | Self::Prove(_) | Self::Immutable { .. } => true,
            Self::Version(error) => {
                !error.is_lost() && !matches!(error, OpenVersionError::Link { .. })
            }
            Self::Artifact(_)
            | Self::Read(_)
            | Self::Record(_)
            | Self::Commit(_)
            | Self::Join(_) => false,
        }
    }
}

/// A version that is stored and proved, and not yet in the catalogue.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) record: ModelRecord,
    pub(super) verdicts: Vec<VerdictRecord>,
}

/// Stores the files that `path` holds, and their manifest.
pub(super) fn store_files(
    path: &Path,
    model: &ModelRef,
    artifacts: &Artifacts,
) -> Result<Manifest, ImportModelError> {
    let sources = source::collect(path).map_err(ImportModelError::Source)?;
    let mut files = Vec::with_capacity(sources.len());
    for file in sources {
        let stored = artifacts
            .put_file(&file.from)
            .map_err(ImportModelError::Artifact)?;
        files.push(ManifestFile {
            path: file.path,
            size: stored.size,
            digest: stored.digest,
        });
    }
    let manifest = Manifest {
        name: model.name.clone(),
        version: model.version,
        files,
    };
    manifest.validate().map_err(ImportModelError::Manifest)?;
    Ok(manifest)
}

/// Stores a manifest and has the version it names prove itself.
pub(super) fn stage(
    manifest: &Manifest,
    origin: ModelOrigin,
    artifacts: &Artifacts,
    index: &Path,
    prover: &Prover,
) -> Result<Staged, ImportModelError> {
    manifest.validate().map_err(ImportModelError::Manifest)?;
    let stored = artifacts
        .put_bytes(&manifest.bytes())
        .map_err(ImportModelError::Artifact)?;
    let version =
        version::open(manifest, Known::New, artifacts, index).map_err(ImportModelError::Version)?;
    let proved = prover
        .prove(&version, Compute::Any, |_, _| None)
        .map_err(ImportModelError::Prove)?;
    let record = ModelRecord {
        model: manifest.model(),
        manifest: stored.digest,
        manifest_size: stored.size,
        size: manifest.files.iter().map(|file| file.size).sum(),
        origin,
        imported_at: prover.clock.wall_micros(),
    };
    Ok(Staged {
        record,
        verdicts: proved.verdicts,
    })
}
