//! What clients and the fleet are told about endpoints: read-only pictures, made by the owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgeward_base::digest::Digest;
use edgeward_base::names::{EndpointName, ModelRef};
use edgeward_wire::ordering::Generation;
use serde::Serialize;

use crate::endpoint::about::About;
use crate::endpoint::config::{AutoCapture, Route, ServedEntityConfig};
use crate::endpoint::record::{Creator, EndpointId, ManagedBy, ServedEntityId};
use crate::endpoint::state::{ConfigUpdate, Ready};

/// One endpoint at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView {
    /// Its name.
    pub name: EndpointName,
    /// Its id; stays for the endpoint's life.
    pub id: EndpointId,
    /// Who created it.
    pub creator: Creator,
    /// Milliseconds since 1970, UTC.
    pub creation_timestamp: i64,
    /// Milliseconds since 1970, UTC.
    pub last_updated_timestamp: i64,
    /// `state` of the JSON.
    pub state: EndpointState,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Whether a local edit stands over what the registry wants.
    pub drift: bool,
    /// The applied configuration; where there is none, the one that failed. Absent while a new
    /// endpoint is being staged.
    pub config: Option<ConfigView>,
    /// The configuration that is being staged.
    pub pending_config: Option<PendingConfigView>,
    /// Digest of the applied configuration.
    pub effective_hash: Option<Digest>,
    /// Why the endpoint does not serve, or why its last change failed.
    pub failure: Option<String>,
    /// What people say of it.
    pub about: About,
}

/// `state` of an endpoint's JSON, computed from the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EndpointState {
    /// `READY` or `NOT_READY`.
    pub ready: Ready,
    /// `NOT_UPDATING`, `IN_PROGRESS` or `UPDATE_FAILED`.
    pub config_update: ConfigUpdate,
}

/// A configuration with the standing of its entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigView {
    /// Counts the configurations that were applied, from 1; for one that is not applied, the
    /// number that it would have.
    pub config_version: u64,
    /// The entities in the order of the configuration.
    pub served_entities: Vec<ServedEntityView>,
    /// The traffic split.
    pub routes: Vec<Route>,
    /// Where requests are logged, if that was ever asked for.
    pub auto_capture: Option<AutoCapture>,
}

/// A configuration that is being staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingConfigView {
    /// The configuration.
    pub config: ConfigView,
    /// Milliseconds since 1970, UTC.
    pub start_time: i64,
}

/// One served entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedEntityView {
    /// 32 hexadecimal digits.
    pub id: ServedEntityId,
    /// Its configuration.
    pub config: ServedEntityConfig,
    /// `state.deployment`.
    pub deployment: Deployment,
    /// `state.deployment_state_message`: empty when there is nothing to say.
    pub message: String,
    /// Who created it.
    pub creator: Creator,
    /// Milliseconds since 1970, UTC: when this configuration was applied or asked for.
    pub creation_timestamp: i64,
}

/// `state.deployment` of a served entity, spelled as in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// Its model is being loaded for the first time.
    Creating,
    /// It serves.
    Ready,
    /// Its model is being loaded again after a start.
    Recovering,
    /// Its model cannot serve.
    Failed,
    /// Its own model could serve, but another of the same change could not.
    Aborted,
}

impl Deployment {
    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "DEPLOYMENT_CREATING",
            Self::Ready => "DEPLOYMENT_READY",
            Self::Recovering => "DEPLOYMENT_RECOVERING",
            Self::Failed => "DEPLOYMENT_FAILED",
            Self::Aborted => "DEPLOYMENT_ABORTED",
        }
    }
}

/// All endpoints at one moment, whether they serve or not.
#[derive(Debug, Default)]
pub struct EndpointViews {
    pub(super) endpoints: BTreeMap<EndpointName, Arc<EndpointView>>,
    pub(super) applied_desired: Option<Generation>,
    pub(super) restoring: usize,
}

impl EndpointViews {
    /// The endpoint of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<EndpointView>> {
        self.endpoints.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EndpointView>> {
        self.endpoints.values()
    }

    /// The model versions that an endpoint serves or is about to serve: none of them may be taken
    /// off the box.
    #[must_use]
    pub fn models_in_use(&self) -> BTreeSet<ModelRef> {
        self.iter()
            .flat_map(|view| {
                let pending = view.pending_config.as_ref().map(|pending| &pending.config);
                view.config.iter().chain(pending)
            })
            .flat_map(|config| &config.served_entities)
            .map(|entity| entity.config.model.clone())
            .collect()
    }

    /// The generation of the desired set that was last applied as a whole.
    #[must_use]
    pub const fn applied_desired(&self) -> Option<Generation> {
        self.applied_desired
    }

    /// How many stored endpoints are still being brought back after the start.
    #[must_use]
    pub const fn restoring(&self) -> usize {
        self.restoring
    }
}
