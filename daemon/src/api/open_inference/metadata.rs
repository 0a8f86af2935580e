//! What the server and its models are: metadata, configuration, readiness, statistics, repository.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use edgeward_kernels::tensor::TensorSpec;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::datatype::Datatype;
use super::models::{self, Counted, EXTENSIONS, Found};
use super::tensors::extents_of;
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, respond};
use crate::gateway::Caller;
use crate::serving::Tally;

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
    let unloads = "Gives the model's memory back until the next request.";
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
        .on(
            unloads
                .may_take("UnloadRequest")
                .gives("Nothing")
                .refuses(&[409]),
            unload,
        );
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
        READY => models::ready(services),
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

impl Named {
    fn find(&self, services: &Services, caller: &Caller) -> Result<Found, ApiError> {
        Found::of(services, caller, &self.model, self.version.as_deref())
    }
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
    named.find(&services, &caller)?;
    Ok(respond::ok(&json!({})))
}

async fn metadata(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, ApiError> {
    let found = named.find(&services, &caller)?;
    let first = found.first()?;
    let session = first.scorer.session();
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| {
            let datatype = Datatype::name(spec.data_type);
            json!({"name": spec.name, "datatype": datatype, "shape": extents_of(spec)})
        };
        specs.iter().map(tensor).collect()
    };
    Ok(respond::ok(&json!({
        "name": found.endpoint.name,
        "versions": found.versions(),
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
    let found = named.find(&services, &caller)?;
    let first = found.first()?;
    let session = first.scorer.session();
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| {
            json!({
                "name": spec.name,
                "data_type": format!("TYPE_{}", models::type_name(spec)),
                "dims": extents_of(spec),
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
    let found = named.find(&services, &caller)?;
    let all: Vec<Value> = found.statistics(&services).iter().map(counted).collect();
    Ok(respond::ok(&json!({ "model_stats": all })))
}

async fn all_statistics(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    let all = models::all_statistics(&services, &caller);
    let all: Vec<Value> = all.iter().map(counted).collect();
    respond::ok(&json!({ "model_stats": all }))
}

fn counted(
    Counted {
        name,
        version,
        counts,
    }: &Counted,
) -> Value {
    let tally = |tally: Tally| json!({"count": tally.count, "ns": tally.micros * 1_000});
    json!({
        "name": name,
        "version": version.to_string(),
        "last_inference": counts.last_millis,
        "inference_count": counts.rows,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": tally(counts.success),
            "fail": tally(counts.fail),
            "queue": tally(counts.queue),
            "compute_input": tally(counts.input),
            "compute_infer": tally(counts.infer),
            "compute_output": tally(counts.output),
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
    let entries = models::index(&services, &caller, only_ready).into_iter();
    let entries: Vec<Value> = entries
        .map(|entry| {
            json!({
                "name": entry.name,
                "version": entry.version.to_string(),
                "state": entry.state,
                "reason": entry.reason,
            })
        })
        .collect();
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
        Some(_) => return Err(models::own_configuration()),
    }
    no_more(&fields, "parameters")?;
    models::load(&services, &caller, &named.model).await?;
    Ok(respond::ok(&json!({})))
}

async fn unload(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let mut fields = object(&body)?;
    let parameters = fields.remove("parameters");
    no_more(&fields, "parameters")?;
    let known =
        |(name, value): (&String, &Value)| name == models::UNLOAD_DEPENDENTS && value.is_boolean();
    match &parameters {
        None => {}
        Some(Value::Object(given)) if given.iter().all(known) => {}
        Some(_) => {
            return Err(ApiError::bad_request(
                "parameters must be an object of unload_dependents, true or false",
            ));
        }
    }
    models::unload(&services, &caller, &named.model).await?;
    Ok(respond::ok(&json!({})))
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
