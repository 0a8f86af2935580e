//! What the server's models are and how they do, for a caller who may see them: what the dialect says of
//! them over HTTP and over gRPC alike. Changes nothing.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::names::{EndpointName, ModelVersion};
use edgeward_kernels::tensor::{DataType, TensorSpec};

use super::datatype::Datatype;
use crate::api::databricks::unknown;
use crate::api::error::ApiError;
use crate::api::{Services, access};
use crate::endpoint::{ConfigUpdate, Deployment, EndpointView, RoutedEndpoint, RoutedEntity};
use crate::gateway::{Caller, PermissionLevel};
use crate::serving::{EntityStatistics, ServeError, level_of};

/// What is spoken beyond the core of the protocol.
pub(super) const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
];

/// How long a request waits for a model that is on its way.
const LOADING_TIME: Duration = Duration::from_secs(30);

/// Whether the process takes requests.
pub(super) fn ready(services: &Services) -> bool {
    let restored = services.endpoints.list().restoring() == 0;
    restored && !services.serving.admission().draining()
}

/// A model that serves: its endpoint, and the entities that were asked for.
pub(super) struct Found {
    pub(super) endpoint: Arc<RoutedEndpoint>,
    pub(super) entities: Vec<Arc<RoutedEntity>>,
}

impl Found {
    /// The entities of an endpoint that the caller may see: those of a version, or all.
    ///
    /// # Errors
    /// 404 and 403 of [`access::require`], 400 when the endpoint does not serve, 404 when it has no
    /// such version.
    pub(super) fn of(
        services: &Services,
        caller: &Caller,
        model: &str,
        version: Option<&str>,
    ) -> Result<Self, ApiError> {
        let view = access::require(services, caller, model, PermissionLevel::View)?;
        let snapshot = services.endpoints.snapshot();
        let endpoint = snapshot.endpoint(model).cloned();
        let endpoint = endpoint.ok_or_else(|| {
            let (name, reason) = (&view.name, reason(&view));
            ApiError::bad_request(format!("serving endpoint {name} is not ready{reason}"))
        })?;
        let asked = version.map(|version| version.parse::<ModelVersion>().ok());
        let entities: Vec<Arc<RoutedEntity>> = endpoint
            .entities()
            .iter()
            .filter(|entity| asked.is_none_or(|asked| asked == Some(entity.model.version)))
            .cloned()
            .collect();
        if entities.is_empty() {
            return Err(ApiError::from(ServeError::UnknownVersion {
                endpoint: endpoint.name.clone(),
                version: version.unwrap_or_default().chars().take(80).collect(),
            }));
        }
        Ok(Self { endpoint, entities })
    }

    /// The entity that speaks for the others: the first of the configuration.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(super) fn first(&self) -> Result<&RoutedEntity, ApiError> {
        let first = self.entities.first();
        first
            .map(Arc::as_ref)
            .ok_or_else(|| unknown(self.endpoint.name.as_str()))
    }

    /// The versions of the entities, each once.
    pub(super) fn versions(&self) -> Vec<String> {
        let mut versions: Vec<ModelVersion> =
            self.entities.iter().map(|e| e.model.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions.iter().map(ToString::to_string).collect()
    }

    /// How each entity does.
    pub(super) fn statistics(&self, services: &Services) -> Vec<Counted> {
        let counted = |entity: &Arc<RoutedEntity>| Counted {
            name: self.endpoint.name.clone(),
            version: entity.model.version,
            counts: services.serving.statistics(entity),
        };
        self.entities.iter().map(counted).collect()
    }
}

fn reason(view: &EndpointView) -> String {
    let failure = view.failure.as_ref();
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

/// What a configuration calls the type of a tensor.
pub(super) fn type_name(spec: &TensorSpec) -> &'static str {
    match spec.data_type {
        DataType::String => "STRING",
        other => Datatype::name(other),
    }
}

/// How a served entity does.
pub(super) struct Counted {
    pub(super) name: EndpointName,
    pub(super) version: ModelVersion,
    pub(super) counts: EntityStatistics,
}

/// How every model does that the caller may see.
pub(super) fn all_statistics(services: &Services, caller: &Caller) -> Vec<Counted> {
    let snapshot = services.endpoints.snapshot();
    let seen = |endpoint: &&Arc<RoutedEndpoint>| {
        let (id, creator) = (endpoint.id.as_str(), &endpoint.creator);
        level_of(&services.policies, caller, id, creator) >= Some(PermissionLevel::View)
    };
    let mut endpoints: Vec<&Arc<RoutedEndpoint>> = snapshot.endpoints().filter(seen).collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |endpoint: &Arc<RoutedEndpoint>| {
        let found = Found {
            endpoint: Arc::clone(endpoint),
            entities: endpoint.entities().to_vec(),
        };
        found.statistics(services)
    };
    endpoints.into_iter().flat_map(of).collect()
}

/// One version of a model, serving or not.
pub(super) struct Listed {
    pub(super) name: EndpointName,
    pub(super) version: ModelVersion,
    pub(super) state: &'static str,
    pub(super) reason: String,
}

/// Every model that the caller may see with each of its versions; `only_ready`: those that serve.
pub(super) fn index(services: &Services, caller: &Caller, only_ready: bool) -> Vec<Listed> {
    let views = services.endpoints.list();
    let mut entries = Vec::new();
    let seen = |view: &&Arc<EndpointView>| access::may_view(services, caller, view);
    for view in views.iter().filter(seen) {
        let pending = view.pending_config.as_ref().map(|pending| &pending.config);
        let Some(shown) = view.config.as_ref().or(pending) else {
            continue;
        };
        for entity in &shown.served_entities {
            let (state, reason) = match entity.deployment {
                Deployment::Ready => ("READY", String::new()),
                Deployment::Creating | Deployment::Recovering => ("LOADING", String::new()),
                Deployment::Failed | Deployment::Aborted => ("UNAVAILABLE", entity.message.clone()),
            };
            if only_ready && state != "READY" {
                continue;
            }
            entries.push(Listed {
                name: view.name.clone(),
                version: entity.config.model.version,
                state,
                reason,
            });
        }
    }
    entries
}

/// A model's own configuration, or files of it, in a request to load it.
pub(super) fn own_configuration() -> ApiError {
    ApiError::bad_request(
        "parameters: config and files cannot be given here: import a model version and change \
         the serving endpoint's configuration",
    )
}

/// Waits until the model serves. What is served is the endpoint's configuration's to say.
///
/// # Errors
/// 503 when it takes too long, and those of [`Found::of`].
pub(super) async fn load(
    services: &Services,
    caller: &Caller,
    model: &str,
) -> Result<(), ApiError> {
    access::require(services, caller, model, PermissionLevel::View)?;
    let mut changes = services.endpoints.watch();
    let settled = changes.wait_for(|views| views.get(model).is_none_or(|view| settled(view)));
    let settled = async { settled.await.is_ok() };
    if tokio::time::timeout(LOADING_TIME, settled).await != Ok(true) {
        return Err(ApiError::unavailable("the model is still loading"));
    }
    let found = Found::of(services, caller, model, None)?;
    for entity in &found.entities {
        services.serving.wake(entity).await?;
    }
    Ok(())
}

/// Whether none of an endpoint's models is on its way.
fn settled(view: &EndpointView) -> bool {
    let config = view
        .config
        .iter()
        .flat_map(|config| &config.served_entities);
    let mut standing = config.map(|entity| entity.deployment);
    let loading = |deployment| matches!(deployment, Deployment::Creating | Deployment::Recovering);
    view.state.config_update != ConfigUpdate::InProgress && !standing.any(loading)
}

/// The one parameter of a request to unload a model. No model here depends on another, so it says nothing.
pub(super) const UNLOAD_DEPENDENTS: &str = "unload_dependents";

/// Lets the models of an endpoint go, as when they scale to zero: it serves on, and the next request, or a
/// request to load them, brings them back.
///
/// # Errors
/// 403 without the permission to manage the endpoint, 409 when another endpoint serves a model too and keeps
/// it, and those of [`Found::of`].
pub(super) async fn unload(
    services: &Services,
    caller: &Caller,
    model: &str,
) -> Result<(), ApiError> {
    access::require(services, caller, model, PermissionLevel::Manage)?;
    let found = Found::of(services, caller, model, None)?;
    if services.serving.let_go(&found.endpoint).await {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "a model of serving endpoint {model} stays: another endpoint serves it too, or it was asked meanwhile"
    )))
}
