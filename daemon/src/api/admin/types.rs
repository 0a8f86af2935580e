//! What the admin API and its client say to each other.

use std::path::PathBuf;

use edgeward_base::digest::Digest;
use edgeward_base::names::{EndpointName, ModelName, ModelRef, Principal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::EndpointView;
use crate::gateway::TokenView;
use crate::model::ModelRecord;

/// `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Every endpoint.
    pub endpoints: Vec<EndpointSummary>,
    /// Every model version in the catalogue.
    pub models: Vec<ModelSummary>,
    /// What is being answered now.
    pub in_flight: InFlight,
    /// What the process says of itself: boot id, rows, fleet.
    #[serde(flatten)]
    pub process: Value,
}

/// Requests in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// How many.
    pub requests: usize,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Whether new ones are refused because the process is shutting down.
    pub draining: bool,
}

/// One endpoint in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSummary {
    /// Its name.
    pub name: EndpointName,
    /// `READY` or `NOT_READY`.
    pub ready: String,
    /// `NOT_UPDATING`, `IN_PROGRESS` or `UPDATE_FAILED`.
    pub config_update: String,
    /// The configuration that is shown; absent while the first one is staged.
    pub config_version: Option<u64>,
    /// Why it does not serve, or why its last change failed.
    pub failure: Option<String>,
}

impl EndpointSummary {
    pub(super) fn of(view: &EndpointView) -> Self {
        Self {
            name: view.name.clone(),
            ready: view.state.ready.as_str().to_owned(),
            config_update: view.state.config_update.as_str().to_owned(),
            config_version: view.config.as_ref().map(|config| config.config_version),
            failure: view.failure.clone(),
        }
    }
}

/// One model version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// `catalog.schema.model/version`.
    pub model: ModelRef,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// All of its files, in bytes.
    pub size: u64,
    /// Microseconds since 1970, UTC.
    pub imported_at: i64,
}

impl ModelSummary {
    pub(super) fn of(record: &ModelRecord) -> Self {
        Self {
            model: record.model.clone(),
            manifest: record.manifest,
            size: record.size,
            imported_at: record.imported_at,
        }
    }
}

/// `POST /models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportModel {
    /// An `.onnx` file or an MLflow model directory on the daemon's machine; absolute.
    pub path: PathBuf,
    /// `catalog.schema.model`.
    pub name: ModelName,
    /// From 1.
    pub version: u64,
}

/// The answer to [`ImportModel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedModel {
    /// The version as it is in the catalogue now.
    pub model: ModelSummary,
}

/// `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Whose token it is to be.
    pub principal: Principal,
    /// Milliseconds since 1970, UTC; never when absent.
    #[serde(default)]
    pub expires: Option<i64>,
    /// The groups that whoever sends it is a member of.
    #[serde(default)]
    pub groups: Vec<Principal>,
    /// Whether the principal is a program.
    #[serde(default)]
    pub service_principal: bool,
}

/// The answer to [`CreateToken`]: the only time the token's text is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The text to send as `Authorization: Bearer {token}`.
    pub token: String,
    /// What is shown of it from now on.
    #[serde(flatten)]
    pub view: TokenView,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

/// `GET /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// All tokens, oldest first.
    pub tokens: Vec<TokenView>,
}
