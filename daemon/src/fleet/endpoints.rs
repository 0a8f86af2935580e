//! `endpoints` documents become commands to the owner of endpoints.

use std::collections::BTreeMap;

use async_trait::async_trait;
use edgeward_base::digest::Digest;
use edgeward_base::names::EndpointName;
use edgeward_sync::ports::{AppliedDocument, ApplyOutcome, EndpointSink, PortError};
use edgeward_wire::desired::{EndpointDocument, EndpointsDocument};
use edgeward_wire::ordering::Kind;
use edgeward_wire::reported::{self, ReportedEndpoint, ReportedEntity};

use super::record::AppliedRow;
use crate::endpoint::{
    AutoCaptureInput, EndpointConfigInput, EndpointError, EndpointView, EndpointViews, Endpoints,
    ManagedBy, ProvisionedInput, RouteInput, RoutedEndpoint, ServedEntityInput,
};

/// Hands desired endpoints to their owner and says what runs.
#[derive(Debug)]
pub struct FleetEndpoints {
    endpoints: Endpoints,
    views: tokio::sync::Mutex<tokio::sync::watch::Receiver<std::sync::Arc<EndpointViews>>>,
}

impl FleetEndpoints {
    /// Over the owner of endpoints.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        let views = tokio::sync::Mutex::new(endpoints.watch());
        Self { endpoints, views }
    }
}

#[async_trait]
impl EndpointSink for FleetEndpoints {
    async fn apply(
        &self,
        document: &EndpointsDocument,
        applied: &AppliedDocument,
    ) -> Result<ApplyOutcome, PortError> {
        let beside = AppliedRow::change(Kind::Endpoints, applied)
            .map_err(|error| PortError::new("apply endpoints", error))?;
        let desired: BTreeMap<EndpointName, EndpointConfigInput> = document
            .endpoints
            .iter()
            .map(|(name, endpoint)| (name.clone(), config_input(endpoint)))
            .collect();
        let generation = applied.identity.generation;
        let outcome = self.endpoints.apply_desired(desired, generation, beside);
        match outcome.await {
            Ok(()) => Ok(ApplyOutcome::Applied),
            Err(error) if is_for_good(&error) => Ok(ApplyOutcome::Rejected(error.rejection())),
            Err(error) => Err(PortError::new("apply endpoints", error)),
        }
    }

    async fn running(&self) -> Result<BTreeMap<EndpointName, ReportedEndpoint>, PortError> {
        let (views, routing) = (self.endpoints.list(), self.endpoints.snapshot());
        let routed = |view: &EndpointView| routing.endpoint(view.name.as_str()).cloned();
        Ok(views
            .iter()
            .filter_map(|view| {
                Some((
                    view.name.clone(),
                    reported_endpoint(view, routed(view).as_deref())?,
                ))
            })
            .collect())
    }

    async fn changed(&self) {
        if self.views.lock().await.changed().await.is_err() {
            // The owner is gone: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether asking again with the same document would fail the same way.
fn is_for_good(error: &EndpointError) -> bool {
    match error {
        EndpointError::Invalid { .. }
        | EndpointError::MissingVersion { .. }
        | EndpointError::OtherManifest { .. }
        | EndpointError::AlreadyExists(_)
        | EndpointError::About(_)
        | EndpointError::NotFound(_)
        | EndpointError::ManagedByRegistry { .. }
        | EndpointError::Staging(_)
        | EndpointError::Record(_)
        | EndpointError::Route(_) => true,
        EndpointError::UpdateInProgress(_)
        | EndpointError::Superseded { .. }
        | EndpointError::Store(_)
        | EndpointError::Catalogue(_)
        | EndpointError::Busy
        | EndpointError::Closed => false,
    }
}

fn config_input(document: &EndpointDocument) -> EndpointConfigInput {
    EndpointConfigInput {
        served_entities: document
            .served_entities
            .iter()
            .map(|entity| ServedEntityInput {
                name: Some(entity.name.to_string()),
                entity_name: entity.entity_name.to_string(),
                entity_version: entity.entity_version.to_string(),
                manifest: Some(entity.manifest),
                workload_size: entity.workload_size.clone(),
                workload_type: entity.workload_type.clone(),
                scale_to_zero_enabled: entity.scale_to_zero_enabled,
                provisioned: ProvisionedInput::default(),
            })
            .collect(),
        routes: document
            .traffic_config
            .routes
            .iter()
            .map(|route| RouteInput {
                served_entity_name: route.served_entity_name.to_string(),
                traffic_percentage: i64::from(route.traffic_percentage.get()),
            })
            .collect(),
        auto_capture: document
            .auto_capture_config
            .as_ref()
            .map(|capture| AutoCaptureInput {
                enabled: Some(capture.enabled),
                catalog_name: Some(capture.catalog_name.clone()),
                schema_name: Some(capture.schema_name.clone()),
                table_name_prefix: Some(capture.table_name_prefix.clone()),
            }),
    }
}

/// What is said of an endpoint; nothing while none of its configurations was ever applied.
fn reported_endpoint(
    view: &EndpointView,
    routed: Option<&RoutedEndpoint>,
) -> Option<ReportedEndpoint> {
    let effective_hash: Digest = view.effective_hash?;
    let config = view.config.as_ref()?;
    let share = |name| {
        let route = config
            .routes
            .iter()
            .find(|route| route.served_entity_name == name);
        route.map_or(0, |route| route.traffic_percentage.get())
    };
    let verified = |name: &str| {
        let entity = routed?.entity(name)?;
        Some(entity.scorer.verdict().verified.as_str().to_owned())
    };
    let managed_by = match view.managed_by {
        ManagedBy::Registry { .. } => reported::ManagedBy::Registry,
        ManagedBy::Local => reported::ManagedBy::Local,
    };
    Some(ReportedEndpoint {
        config_version: config.config_version,
        effective_hash,
        managed_by,
        served_entities: config
            .served_entities
            .iter()
            .map(|entity| ReportedEntity {
                name: entity.config.name.clone(),
                entity_name: entity.config.model.name.clone(),
                entity_version: entity.config.model.version,
                traffic_percentage: share(entity.config.name.clone()),
                verified: verified(entity.config.name.as_str()),
            })
            .collect(),
    })
}
