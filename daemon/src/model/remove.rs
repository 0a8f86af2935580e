//! Takes a model version out of the catalogue, and the files that no other version has.

use std::collections::BTreeSet;

use edgeward_base::digest::Digest;
use edgeward_base::names::ModelRef;

use super::{ArtifactError, ModelRecord, ModelStore, ReadManifestError};
use crate::store::{Change, CommitStoreError, ReadStoreError, Record};
use crate::tasks::JoinTaskError;

/// Why a model version was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveModelError {
    /// The catalogue does not have it.
    #[error("model version {model} is not in the catalogue")]
    Unknown {
        /// The version.
        model: ModelRef,
    },
    /// An endpoint serves it.
    #[error("model version {model} is in use by a serving endpoint")]
    InUse {
        /// The version.
        model: ModelRef,
    },
    /// The catalogue cannot be read.
    #[error("cannot read the model catalogue")]
    Read(#[source] ReadStoreError),
    /// The manifest of a version that stays cannot be read, so its files are not known.
    #[error("cannot tell which files model version {model} has")]
    Manifest {
        /// The version.
        model: ModelRef,
        /// What is wrong.
        #[source]
        source: ReadManifestError,
    },
    /// The catalogue was not changed.
    #[error("cannot commit the removal")]
    Commit(#[source] CommitStoreError),
    /// The version is gone from the catalogue, and a file of it is still there.
    #[error("cannot remove a file of the model version")]
    Artifact(#[source] ArtifactError),
    /// The work was interrupted.
    #[error("removing was interrupted")]
    Join(#[source] JoinTaskError),
}

impl ModelStore {
    /// Removes a version and those of its files that no other version has. `in_use` is what the
    /// endpoints serve.
    ///
    /// # Errors
    /// [`RemoveModelError`]; only with [`RemoveModelError::Artifact`] is the version gone.
    pub async fn remove(
        &self,
        model: &ModelRef,
        in_use: &BTreeSet<ModelRef>,
    ) -> Result<(), RemoveModelError> {
        let _changing = self.shared.changing.lock().await;
        if in_use.contains(model) {
            return Err(RemoveModelError::InUse {
                model: model.clone(),
            });
        }
        let records = self.list().map_err(RemoveModelError::Read)?;
        let (gone, stay): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.model == *model);
        let Some(gone) = gone.into_iter().next() else {
            return Err(RemoveModelError::Unknown {
                model: model.clone(),
            });
        };
        let mut kept = BTreeSet::new();
        for record in &stay {
            kept.extend(
                self.digests(record)
                    .map_err(|source| RemoveModelError::Manifest {
                        model: record.model.clone(),
                        source,
                    })?,
            );
        }
        // A version whose own manifest is damaged can still be removed; its files then stay.
        let orphans: Vec<Digest> = self
            .digests(&gone)
            .unwrap_or_else(|_| vec![gone.manifest])
            .into_iter()
            .filter(|digest| !kept.contains(digest))
            .collect();
        let change = Change::new().delete::<ModelRecord>(&gone.key());
        self.shared
            .store
            .commit(change)
            .await
            .map_err(RemoveModelError::Commit)?;
        let (artifacts, view) = (
            self.artifacts().clone(),
            self.shared.index.join(gone.manifest.to_string()),
        );
        let removed = self.shared.tasks.run_blocking("model/remove", move || {
            drop(std::fs::remove_dir_all(view));
            orphans
                .iter()
                .try_for_each(|digest| artifacts.remove(digest))
        });
        removed
            .await
            .map_err(RemoveModelError::Join)?
            .map_err(RemoveModelError::Artifact)
    }

    /// The digests of a version's manifest and files.
    fn digests(&self, record: &ModelRecord) -> Result<Vec<Digest>, ReadManifestError> {
        let files = self.manifest(&record.manifest)?.files;
        Ok(std::iter::once(record.manifest)
            .chain(files.iter().map(|file| file.digest))
            .collect())
    }
}
