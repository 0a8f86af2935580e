//! One endpoint in the owner's memory, and the view of it that others are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgeward_base::names::ServedEntityName;
use edgeward_wire::ack::Rejection;
use tokio_util::sync::CancellationToken;

use crate::endpoint::config::{EndpointConfig, ServedEntityConfig};
use crate::endpoint::error::reasons;
use crate::endpoint::record::{EndpointRecord, ServedEntityId};
use crate::endpoint::routing::RoutedEndpoint;
use crate::endpoint::state::{Effect, Event, State, step};
use crate::endpoint::view::{
    ConfigView, Deployment, EndpointState, EndpointView, PendingConfigView, ServedEntityView,
};

use super::ChangeId;

/// Why served entities do not serve.
pub(super) type Failures = BTreeMap<ServedEntityName, Rejection>;

/// One endpoint.
#[derive(Debug)]
pub(super) struct Slot {
    /// What is stored of it, or will be once its first change is answered.
    pub(super) record: EndpointRecord,
    /// Whether the store has a record of it.
    pub(super) stored: bool,
    /// Where it stands.
    pub(super) state: State,
    /// What requests are routed to, when something is applied and loaded.
    pub(super) routed: Option<Routed>,
    /// The change that is being staged.
    pub(super) change: Option<ChangeId>,
    /// Why the stored configuration could not be brought back.
    pub(super) load_failures: Failures,
}

/// What requests are routed to.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) endpoint: Arc<RoutedEndpoint>,
    /// Cancelled when nobody uses it any more.
    pub(super) released: CancellationToken,
}

impl Slot {
    pub(super) fn new(record: EndpointRecord, stored: bool) -> Self {
        Self {
            record,
            stored,
            state: State::NotReady,
            routed: None,
            change: None,
            load_failures: Failures::new(),
        }
    }

    /// Takes one step and says what is to be done.
    pub(super) fn advance(&mut self, event: Event) -> &'static [Effect] {
        match step(self.state, event) {
            Ok((state, effects)) => {
                self.state = state;
                effects
            }
            Err(error) => {
                // Only a mistake in the owner leads here. The endpoint stays as it is.
                tracing::error!(endpoint = %self.record.name, %error, "impossible endpoint event");
                debug_assert!(false, "{error}");
                &[]
            }
        }
    }

    /// The number that the next applied configuration gets.
    pub(super) fn next_version(&self) -> u64 {
        self.record
            .applied
            .as_ref()
            .map_or(1, |applied| applied.version.saturating_add(1))
    }

    /// The endpoint as others are shown it.
    pub(super) fn view(&self) -> EndpointView {
        let record = &self.record;
        let staging = record.change.as_ref().filter(|_| self.change.is_some());
        let failed = record
            .change
            .as_ref()
            .filter(|change| !change.failures.is_empty());
        let config = match (&record.applied, failed) {
            (Some(applied), _) => Some(self.config_view(
                &applied.config,
                applied.version,
                applied.applied_timestamp,
                |entity| self.applied_standing(entity),
            )),
            (None, Some(change)) => Some(self.config_view(
                &change.config,
                self.next_version(),
                change.start_time,
                |entity| failed_standing(&change.failures, entity),
            )),
            (None, None) => None,
        };
        let pending_config = staging.map(|change| PendingConfigView {
            config: self.config_view(
                &change.config,
                self.next_version(),
                change.start_time,
                |_| (Deployment::Creating, String::new()),
            ),
            start_time: change.start_time,
        });
        EndpointView {
            name: record.name.clone(),
            id: record.id.clone(),
            creator: record.creator.clone(),
            creation_timestamp: record.creation_timestamp,
            last_updated_timestamp: record.last_updated_timestamp,
            state: EndpointState {
                ready: self.state.ready(),
                config_update: self.state.config_update(),
            },
            managed_by: record.managed_by,
            drift: record.drift,
            config,
            pending_config,
            effective_hash: record
                .applied
                .as_ref()
                .map(|applied| applied.config.effective_hash()),
            failure: self.failure(),
            about: record.about.clone(),
        }
    }

    fn failure(&self) -> Option<String> {
        let failures = match &self.record.change {
            Some(change) if !change.failures.is_empty() => &change.failures,
            _ => &self.load_failures,
        };
        (!failures.is_empty()).then(|| reasons(failures))
    }

    /// How an entity of the applied configuration stands.
    fn applied_standing(&self, entity: &ServedEntityName) -> (Deployment, String) {
        if self.state.serves() {
            let message = match self.state {
                State::Failed { .. } => self.failure().map_or_else(String::new, |reason| {
                    format!("serves on; the last change failed: {reason}")
                }),
                _ => String::new(),
            };
            (Deployment::Ready, message)
        } else if self.load_failures.is_empty() {
            (Deployment::Recovering, String::new())
        } else {
            failed_standing(&self.load_failures, entity)
        }
    }

    fn config_view(
        &self,
        config: &EndpointConfig,
        config_version: u64,
        since: i64,
        standing: impl Fn(&ServedEntityName) -> (Deployment, String),
    ) -> ConfigView {
        let entity = |entity: &ServedEntityConfig| {
            let (deployment, message) = standing(&entity.name);
            ServedEntityView {
                id: ServedEntityId::of(&self.record.id, &entity.name, &entity.model),
                config: entity.clone(),
                deployment,
                message,
                creator: self.record.creator.clone(),
                creation_timestamp: since,
            }
        };
        ConfigView {
            config_version,
            served_entities: config.served_entities.iter().map(entity).collect(),
            routes: config.routes.clone(),
            auto_capture: config.auto_capture.clone(),
        }
    }
}

/// How an entity of a configuration that could not be loaded stands.
fn failed_standing(failures: &Failures, entity: &ServedEntityName) -> (Deployment, String) {
    match failures.get(entity) {
        Some(failure) => (Deployment::Failed, failure.to_string()),
        None => (
            Deployment::Aborted,
            "given up because another served entity failed".to_owned(),
        ),
    }
}
