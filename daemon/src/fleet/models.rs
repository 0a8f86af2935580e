//! `models` documents become versions in the catalogue.

use async_trait::async_trait;
use edgeward_base::error::chain;
use edgeward_sync::ports::{ModelSink, PortError, StageError};
use edgeward_wire::ack::{RejectCode, Rejection};
use edgeward_wire::desired::ModelEntry;
use edgeward_wire::manifest::Manifest;
use edgeward_wire::reported::ReportedModel;

use crate::model::{ImportModelError, ModelStore};

/// Installs model versions and says which are there.
#[derive(Debug, Clone)]
pub struct FleetModels {
    models: ModelStore,
}

impl FleetModels {
    /// Over the model store.
    #[must_use]
    pub fn new(models: ModelStore) -> Self {
        Self { models }
    }
}

#[async_trait]
impl ModelSink for FleetModels {
    async fn install(&self, _entry: &ModelEntry, manifest: &Manifest) -> Result<(), StageError> {
        match self.models.install(manifest).await {
            Ok(_) => Ok(()),
            Err(error) => Err(stage_error(error)),
        }
    }

    async fn running(&self) -> Result<Vec<ReportedModel>, PortError> {
        let records = self
            .models
            .list()
            .map_err(|error| PortError::new("list model versions", error))?;
        Ok(records
            .into_iter()
            .map(|record| ReportedModel {
                name: record.model.name,
                version: record.model.version,
                manifest: record.manifest,
            })
            .collect())
    }
}

/// What asking again cannot change is refused; the rest is tried again.
fn stage_error(error: ImportModelError) -> StageError {
    let code = match &error {
        ImportModelError::Prove(_) => RejectCode::VerificationFailed,
        ImportModelError::Immutable { .. } => RejectCode::DigestMismatch,
        lost if lost.is_lost() => return StageError::Later(PortError::new("install model", error)),
        ImportModelError::Source(_)
        | ImportModelError::Manifest(_)
        | ImportModelError::Version(_) => RejectCode::Invalid,
        ImportModelError::Artifact(_)
        | ImportModelError::Read(_)
        | ImportModelError::Record(_)
        | ImportModelError::Commit(_)
        | ImportModelError::Join(_) => {
            return StageError::Later(PortError::new("install model", error));
        }
    };
    StageError::Refused(Rejection::new(code, chain(&error)))
}
