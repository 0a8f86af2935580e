//! What the server and its models are: metadata, configuration, readiness, statistics, repository.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use edgeward_base::names::ModelVersion;
use edgeward_kernels::tensor::{DataType, TensorSpec};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::datatype::Datatype;
use super::request::extents;
use crate::api::databricks::unknown;
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, respond};
use crate::endpoint::{ConfigUpdate, Deployment, EndpointView, RoutedEndpoint, RoutedEntity};
use crate::gateway::{Caller, PermissionLevel};
use crate::serving::{ServeError, Tally, level_of};

/// What is spoken beyond the core of the protocol.
const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
];

/// How long a request waits for a model that is on its way.
const LOADING_TIME: Duration = Duration::from_secs(30);

/// The routes. A model may be named with or without one of its versions.
pub(crate) fn routes() -> Routes {
    let repository = "/v2/repository/models/{model}";
    let about = Operation::get("/v2", "serverMetadata", "What this server is.");
    let all = "How all models do.";
    let all = Operation::get("/v2/models/stats", "allStatistics", all);
    let list = "Every model with each of its versions.";
    let list = Operation::post("/v2/repository/index", "repositoryIndex", list);
    let loads = "Answers once the model serves.";
    let loads = Operation::post(format!("{repository}/load"), "loadModel", loads);
    let unloads = "Is refused: an endpoint keeps its models loaded.";
    let unloads = Operation::post(format!("{repository}/unload"), "unloadModel", unloads);
    let live = Operation::get(LIVE, "live", "Whether the server answers.").open();
    let readiness = "Whether every model is back after a start.";
    let readiness = Operation::get(READY, "ready", readiness).open();
    let routes = Routes::new("Open Inference Protocol")
        .beside(live.gives("Nothing"))
        .beside(readiness.gives("Nothing").refuses(&[400]))
        .on(about.gives("ServerMetadata"), server)
        .on(all.gives("ModelStatistics"), all_statistics)
        .on(
            list.may_take("IndexRequest").gives("RepositoryIndex"),
            index,
        )
        .on(loads.may_take("LoadRequest").gives("Nothing"), load)
        .on(unloads.may_take("UnloadRequest").gives("Nothing"), unload);
    let versions = [("", ""), ("/versions/{version}", "OfVersion")];
    versions
        .into_iter()
        .fold(routes, |routes, (version, suffix)| {
            of_model(routes, &format!("/v2/models/{{model}}{version}"), suffix)
        })
}

fn of_model(routes: Routes, model: &str, suffix: &str) -> Routes {
    let named = |id: &str| format!("{id}{suffix}");
    let about = "What the model takes and gives.";
    let about = Operation::get(model, named("modelMetadata"), about);
    let serves = "Whether the model serves.";
    let serves = Operation::get(format!("{model}/ready"), named("modelReady"), serves);
    let configured = "The model's configuration.";
    let configured = Operation::get(format!("{model}/config"), named("modelConfig"), configured);
    let counted = "How the model does.";
    let counted = Operation::get(format!("{model}/stats"), named("modelStatistics"), counted);
    routes
        .on(about.gives("ModelMetadata"), metadata)
        .on(serves.gives("Nothing"), ready)
        .on(configured.gives("ModelConfig"), config)
        .on(counted.gives("ModelStatistics"), statistics)
        .beside(super::operation(model, suffix))
}

const LIVE: &str = "/v2/health/live";
const READY: &str = "/v2/health/ready";

/// Answers the probes, which need no token; `None` for any other path.
pub(crate) fn probe(services: &Services, method: &Method, path: &str) -> Option<Response<Body>> {
    let good = match path {
        LIVE => true,
        READY => {
            let restored = services.endpoints.list().restoring() == 0;
            restored && !services.serving.admission().draining()
        }
        _ => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        let allowed = Some("GET, HEAD");
        return Some(ApiError::method_not_allowed(method.as_str(), allowed).into_response());
    }
    if !good {
        // 4xx by the protocol; clients repeat a 503.
        return Some(ApiError::bad_request("the server is not ready").into_response());
    }
    Some(respond::raw_json(StatusCode::OK, Bytes::from_static(b"{}")))
}

/// A model of a path, with its version where the path has one.
#[derive(Debug, Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

/// A model that serves: its endpoint, and the entities that the path means.
struct Found {
    endpoint: Arc<RoutedEndpoint>,
    entities: Vec<Arc<RoutedEntity>>,
}

impl Found {
    fn of(services: &Services, caller: &Caller, named: &Named) -> Result<Self, ApiError> {
        let level = PermissionLevel::View;
        let view = access::require(services, caller, &named.model, level)?;
        let snapshot = services.endpoints.snapshot();
        let endpoint = snapshot.endpoint(&named.model).cloned();
        let endpoint = endpoint.ok_or_else(|| {
            let (name, reason) = (&view.name, reason(&view));
            ApiError::bad_request(format!("serving endpoint {name} is not ready{reason}"))
        })?;
        let version = named.version.as_deref();
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
    fn first(&self) -> Result<&RoutedEntity, ApiError> {
        let first = self.entities.first();
        first
            .map(Arc::as_ref)
            .ok_or_else(|| unknown(self.endpoint.name.as_str()))
    }
}

fn reason(view: &EndpointView) -> String {
    let failure = view.failure.as_ref();
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

async fn server() -> Response<Body> {
    respond::ok(&json!({
        "name": "edgeward",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

async fn ready(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    Found::of(&services, &caller, &named)?;
    Ok(respond::ok(&json!({})))
}

async fn metadata(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(&services, &caller, &named)?;
    let first = found.first()?;
    let session = first.scorer.session();
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| {
            let datatype = Datatype::name(spec.data_type);
            json!({"name": spec.name, "datatype": datatype, "shape": extents(spec)})
        };
        specs.iter().map(tensor).collect()
    };
    let mut versions: Vec<ModelVersion> = found.entities.iter().map(|e| e.model.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    Ok(respond::ok(&json!({
        "name": found.endpoint.name,
        "versions": versions,
        "platform": first.scorer.engine(),
        "inputs": tensors(session.inputs()),
        "outputs": tensors(session.outputs()),
    })))
}

async fn config(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(&services, &caller, &named)?;
    let first = found.first()?;
    let session = first.scorer.session();
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| {
            let data_type = match spec.data_type {
                DataType::String => "STRING",
                other => Datatype::name(other),
            };
            json!({
                "name": spec.name,
                "data_type": format!("TYPE_{data_type}"),
                "dims": extents(spec),
            })
        };
        specs.iter().map(tensor).collect()
    };
    Ok(respond::ok(&json!({
        "name": found.endpoint.name,
        "platform": first.scorer.engine(),
        "backend": first.scorer.engine(),
        // The batch is an axis like any other: `dims` has it.
        "max_batch_size": 0,
        "input": tensors(session.inputs()),
        "output": tensors(session.outputs()),
    })))
}

async fn statistics(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(&services, &caller, &named)?;
    let of = |entity: &Arc<RoutedEntity>| entity_statistics(&services, &found.endpoint, entity);
    let all: Vec<Value> = found.entities.iter().map(of).collect();
    Ok(respond::ok(&json!({ "model_stats": all })))
}

async fn all_statistics(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    let snapshot = services.endpoints.snapshot();
    let seen = |endpoint: &&Arc<RoutedEndpoint>| {
        let (id, creator) = (endpoint.id.as_str(), &endpoint.creator);
        level_of(&services.policies, &caller, id, creator) >= Some(PermissionLevel::View)
    };
    let mut endpoints: Vec<&Arc<RoutedEndpoint>> = snapshot.endpoints().filter(seen).collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |endpoint: &Arc<RoutedEndpoint>| -> Vec<Value> {
        let entities = endpoint.entities().iter();
        entities
            .map(|entity| entity_statistics(&services, endpoint, entity))
            .collect()
    };
    let all: Vec<Value> = endpoints.into_iter().flat_map(of).collect();
    respond::ok(&json!({ "model_stats": all }))
}

fn entity_statistics(
    services: &Services,
    endpoint: &RoutedEndpoint,
    entity: &RoutedEntity,
) -> Value {
    let counted = services.serving.statistics(entity);
    let tally = |tally: Tally| json!({"count": tally.count, "ns": tally.micros * 1_000});
    json!({
        "name": endpoint.name,
        "version": entity.model.version.to_string(),
        "last_inference": counted.last_millis,
        "inference_count": counted.rows,
        "execution_count": counted.executions,
        "inference_stats": {
            "success": tally(counted.success),
            "fail": tally(counted.fail),
            "queue": tally(counted.queue),
            "compute_input": tally(counted.input),
            "compute_infer": tally(counted.infer),
            "compute_output": tally(counted.output),
            "cache_hit": tally(Tally::default()),
            "cache_miss": tally(Tally::default()),
        },
        "batch_stats": [],
    })
}

/// Every model with each of its versions, also those that do not serve; with `{"ready": true}` only those that do.
async fn index(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let mut fields = object(&body)?;
    let only_ready = match fields.remove("ready") {
        None => false,
        Some(Value::Bool(only)) => only,
        Some(_) => return Err(ApiError::bad_request("ready must be true or false")),
    };
    no_more(&fields, "ready")?;
    let views = services.endpoints.list();
    let mut entries = Vec::new();
    let seen = |view: &&Arc<EndpointView>| access::may_view(&services, &caller, view);
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
            entries.push(json!({
                "name": view.name,
                "version": entity.config.model.version.to_string(),
                "state": state,
                "reason": reason,
            }));
        }
    }
    Ok(respond::ok(&entries))
}

/// Answers once the model serves. What is served is the endpoint's configuration's to say: a model that
/// is not there, and a configuration of its own, are refused.
async fn load(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let mut fields = object(&body)?;
    match fields.remove("parameters") {
        None => {}
        Some(Value::Object(parameters)) if parameters.is_empty() => {}
        Some(_) => {
            return Err(ApiError::bad_request(
                "parameters: config and files cannot be given here: import a model version and change \
                 the serving endpoint's configuration",
            ));
        }
    }
    no_more(&fields, "parameters")?;
    access::require(&services, &caller, &named.model, PermissionLevel::View)?;
    let mut changes = services.endpoints.watch();
    let settled =
        changes.wait_for(|views| views.get(&named.model).is_none_or(|view| settled(view)));
    let settled = tokio::time::timeout(LOADING_TIME, settled).await;
    if !matches!(settled, Ok(Ok(_))) {
        return Err(ApiError::unavailable("the model is still loading"));
    }
    Found::of(&services, &caller, &named)?;
    Ok(respond::ok(&json!({})))
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

/// A served entity is loaded for as long as its endpoint has it: unloading it alone would leave an endpoint
/// that says it serves and does not.
async fn unload(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    access::require(&services, &caller, &named.model, PermissionLevel::Manage)?;
    Err(ApiError::bad_request(format!(
        "serving endpoint {} keeps its models loaded: delete it, or change its configuration",
        named.model
    )))
}

/// A body that is an object, or nothing.
fn object(body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body must be a JSON object: {error}")))
}

fn no_more(fields: &Map<String, Value>, known: &str) -> Result<(), ApiError> {
    fields.keys().next().map_or(Ok(()), |name| {
        let name: String = name.chars().take(80).collect();
        Err(ApiError::bad_request(format!(
            "the body has {name:?}: {known} is known"
        )))
    })
}
