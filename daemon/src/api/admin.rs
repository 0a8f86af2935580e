//! Admin: `/api/edgeward/v1` on the admin socket, for the command line.
//!
//! Whoever may open the socket (mode 0600) may do everything here; there is no token. Each route
//! belongs to one verb of the command line. The API only grows within version 1.
//!
//! | route | verb |
//! |---|---|
//! | `GET /status` | `edgeward status` |
//! | `GET /metrics` | none: Prometheus's text format, for a scraper on the box |
//! | `GET, POST /tokens`, `DELETE /tokens/{id}` | `edgeward token list`, `create`, `revoke` |
//! | `GET, POST /models` | `edgeward model list`, `import` |
//! | `GET /endpoints`, `GET /endpoints/{name}` | `edgeward endpoint list`, `get` |
//! | `POST /logs/seal`, `GET /logs/verify` | `edgeward logs seal`, `verify` |
//! | `GET /state/verify` | `edgeward state verify` |

use std::fmt::Debug;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use axum::routing::{delete, get, post};
use axum::{Router, body::Bytes};
use edgeward_base::names::{ModelRef, ModelVersion};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::databricks::endpoints;
use super::error::ApiError;
use super::listen::Handler;
use super::{MANAGEMENT_BODY, MANAGEMENT_BODY_TIME, Services, body, content_type, respond};
use crate::gateway::{ParseTokenIdError, PermissionLevel, PrincipalKind, TokenId, TokenOwner};
use crate::serving::AdmitError;

pub mod client;
mod types;

pub use types::{
    CreateToken, CreatedToken, EndpointSummary, ImportModel, ImportedModel, InFlight, ModelSummary,
    Status, TokenList,
};

/// Where every route of the admin socket begins.
pub const ROOT: &str = "/api/edgeward/v1";

/// What only the whole process can tell or do: `app` implements it.
pub trait Process: Debug + Send + Sync {
    /// What `edgeward status` shows beside endpoints, models and requests: boot id, rows, fleet.
    /// An object; its fields become fields of the status.
    fn status(&self) -> Value;

    /// Every number of the process, in Prometheus's text format.
    fn metrics(&self) -> String;

    /// Seals every open row segment; answers how many rows were sealed, as an object.
    fn seal_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>>;

    /// Checks every row file; answers the account, as an object.
    fn verify_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>>;

    /// Checks the database and every export; answers what was found, as an object.
    fn verify_state(&self) -> BoxFuture<'_, Result<Value, ProcessError>>;
}

/// Why the process could not do it; the text is for the person at the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProcessError(pub String);

/// Answers the requests of the admin socket.
pub(crate) struct Admin(Router);

impl Admin {
    pub(crate) fn new(services: Services) -> Self {
        let routes = Router::new()
            .route("/status", get(status))
            .route("/tokens", get(list_tokens).post(create_token))
            .route("/tokens/{id}", delete(revoke_token))
            .route("/models", get(list_models).post(import_model))
            .route("/endpoints", get(list_endpoints))
            .route("/endpoints/{name}", get(get_endpoint))
            .route("/metrics", get(metrics))
            .route("/logs/seal", post(seal_logs))
            .route("/logs/verify", get(verify_logs))
            .route("/state/verify", get(verify_state));
        let router = Router::new()
            .nest(ROOT, routes)
            .fallback(async |uri: Uri| ApiError::no_route(uri.path()))
            .method_not_allowed_fallback(async |method: Method| {
                ApiError::method_not_allowed(method.as_str(), None)
            })
            .with_state(services);
        Self(router)
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, bytes) = match receive(request).await {
            Ok(read) => read,
            Err(error) => return error.into_response(),
        };
        let request = Request::from_parts(head, Body::from(bytes));
        match self.0.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    fn refuse(&self, _: &Parts, ceiling: usize) -> Response<Body> {
        ApiError::from(AdmitError::TooManyRequests { ceiling }).into_response()
    }
}

/// Reads a request whole.
async fn receive(request: Request<Incoming>) -> Result<(Parts, Bytes), ApiError> {
    let (head, mut incoming) = request.into_parts();
    match body::read(
        &mut incoming,
        None,
        MANAGEMENT_BODY,
        MANAGEMENT_BODY_TIME,
        None,
    )
    .await
    {
        Ok(bytes) => Ok((head, bytes)),
        Err(error) => {
            body::discard(&mut incoming).await;
            Err(ApiError::from(error))
        }
    }
}

/// Answers an admin socket that has one route: `POST` of a JSON request, answered by JSON. The
/// registry's verbs travel so.
pub async fn answer<Q: DeserializeOwned, A: Serialize>(
    request: Request<Incoming>,
    route: &str,
    verb: impl AsyncFnOnce(Q) -> Result<A, ApiError>,
) -> Response<Body> {
    let answered = async {
        let (head, bytes) = receive(request).await?;
        if head.uri.path().strip_prefix(ROOT) != Some(route) {
            return Err(ApiError::no_route(head.uri.path()));
        }
        if head.method != Method::POST {
            return Err(ApiError::method_not_allowed(
                head.method.as_str(),
                Some("POST"),
            ));
        }
        let request = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("the request is no verb: {error}")))?;
        verb(request).await
    };
    match answered.await {
        Ok(value) => respond::ok(&value),
        Err(error) => error.into_response(),
    }
}

async fn status(State(services): State<Services>) -> Result<Response<Body>, ApiError> {
    let endpoints = services.endpoints.list();
    let admission = services.serving.admission();
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        endpoints: endpoints
            .iter()
            .map(|view| EndpointSummary::of(view))
            .collect(),
        models: models(&services)?,
        in_flight: InFlight {
            requests: admission.requests(),
            bytes: admission.bytes().0,
            draining: admission.draining(),
        },
        process: services.process.status(),
    };
    Ok(respond::ok(&status))
}

/// For a scraper on the box, through a Unix socket; the public listeners show no such page.
async fn metrics(State(services): State<Services>) -> Response<Body> {
    let kind = [(hyper::header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, services.process.metrics()).into_response()
}

async fn list_tokens(State(services): State<Services>) -> Response<Body> {
    respond::ok(&TokenList {
        tokens: services.tokens.list(),
    })
}

async fn create_token(
    State(services): State<Services>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let wanted: CreateToken = read(&headers, &body)?;
    let owner = TokenOwner {
        principal: wanted.principal,
        kind: match wanted.service_principal {
            true => PrincipalKind::ServicePrincipal,
            false => PrincipalKind::User,
        },
        groups: wanted.groups,
    };
    let made = services.tokens.create(owner, wanted.expires).await?;
    Ok(respond::ok(&CreatedToken {
        token: made.token,
        view: made.view,
    }))
}

async fn revoke_token(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let id: TokenId = id
        .parse()
        .map_err(|error: ParseTokenIdError| ApiError::invalid(error.to_string()))?;
    services.tokens.revoke(&id).await?;
    Ok(respond::ok(&json!({})))
}

async fn list_models(State(services): State<Services>) -> Result<Response<Body>, ApiError> {
    Ok(respond::ok(&json!({ "models": models(&services)? })))
}

async fn import_model(
    State(services): State<Services>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let wanted: ImportModel = read(&headers, &body)?;
    if !wanted.path.is_absolute() {
        return Err(ApiError::invalid(
            "`path` must be absolute: the daemon does not know where the command line stands",
        ));
    }
    let version = ModelVersion::new(wanted.version)
        .ok_or_else(|| ApiError::invalid("`version` must be a whole number from 1"))?;
    let model = ModelRef {
        name: wanted.name,
        version,
    };
    let record = services.models.import(&wanted.path, &model).await?;
    Ok(respond::ok(&ImportedModel {
        model: ModelSummary::of(&record),
    }))
}

/// Whoever reaches this socket may do everything.
const ALL: Option<PermissionLevel> = Some(PermissionLevel::Manage);

async fn list_endpoints(State(services): State<Services>) -> Response<Body> {
    let views = services.endpoints.list();
    let detailed = views
        .iter()
        .map(|view| endpoints::detailed(&services, view, ALL));
    let detailed: Vec<Value> = detailed.collect();
    respond::ok(&json!({ "endpoints": detailed }))
}

async fn get_endpoint(
    State(services): State<Services>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = services.endpoints.get(&name);
    let view = view.ok_or_else(|| endpoints::unknown(&name))?;
    Ok(respond::ok(&endpoints::detailed(&services, &view, ALL)))
}

async fn seal_logs(State(services): State<Services>) -> Result<Response<Body>, ApiError> {
    process_answer(services.process.seal_logs().await)
}

async fn verify_logs(State(services): State<Services>) -> Result<Response<Body>, ApiError> {
    process_answer(services.process.verify_logs().await)
}

async fn verify_state(State(services): State<Services>) -> Result<Response<Body>, ApiError> {
    process_answer(services.process.verify_state().await)
}

fn process_answer(answer: Result<Value, ProcessError>) -> Result<Response<Body>, ApiError> {
    match answer {
        Ok(value) => Ok(respond::ok(&value)),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

fn models(services: &Services) -> Result<Vec<ModelSummary>, ApiError> {
    let records = services.models.list()?;
    Ok(records.iter().map(ModelSummary::of).collect())
}

/// The body as `T`; serde's error names the field.
fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    content_type::expect_json(headers)?;
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))
}
