//! `/api/2.0/serving-endpoints`: create, list, get, delete, and update of the configuration.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::routing::{get, put};
use bytes::Bytes;
use edgeward_base::names::{EndpointName, Principal};
use hyper::{HeaderMap, Response, Uri};
use serde_json::{Value, json};

use super::fields::{self, Fields};
use super::objects;
use super::openapi::get_openapi;
use crate::api::error::ApiError;
use crate::api::{Services, content_type, respond};
use crate::endpoint::EndpointConfigInput;

const ROOT: &str = "/api/2.0/serving-endpoints";

/// Fields of a creation that are known and not enforced yet.
const REFUSED: [&str; 9] = [
    "ai_gateway",
    "tags",
    "description",
    "rate_limits",
    "route_optimized",
    "budget_policy_id",
    "usage_policy_id",
    "email_notifications",
    "telemetry_config",
];

/// The routes. Trailing slashes are gone before a request gets here.
pub(crate) fn routes() -> Router<Services> {
    let endpoint = || get(get_endpoint).delete(delete);
    Router::new()
        .route(ROOT, get(list).post(create))
        .route(&format!("{ROOT}/{{name}}"), endpoint())
        .route(&format!("{ROOT}/{{name}}/config"), put(update_config))
        .route(&format!("{ROOT}/{{name}}/openapi"), get(get_openapi))
        // `POST .../pt` makes provisioned-throughput endpoints, which are not served here; every
        // other method means an endpoint that is called `pt`.
        .route(&format!("{ROOT}/pt"), endpoint_called_pt())
}

fn endpoint_called_pt() -> axum::routing::MethodRouter<Services> {
    let called_pt = || Path("pt".to_owned());
    get(move |services| get_endpoint(services, called_pt()))
        .delete(move |services| delete(services, called_pt()))
        .post(async |uri: Uri| ApiError::no_route(uri.path()))
}

async fn list(State(services): State<Services>) -> Response<Body> {
    let views = services.endpoints.list();
    let endpoints: Vec<Value> = views.iter().map(|view| objects::listed(view)).collect();
    respond::ok(&json!({ "endpoints": endpoints }))
}

async fn get_endpoint(
    State(services): State<Services>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = services.endpoints.get(&name);
    let view = view.ok_or_else(|| unknown(&name))?;
    Ok(respond::ok(&objects::detailed(&view)))
}

async fn create(
    State(services): State<Services>,
    Extension(author): Extension<Principal>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    fields.refuse(&REFUSED)?;
    let name = fields.text("name")?;
    let config = fields.value("config");
    fields.finish()?;
    let name = name.ok_or_else(|| fields::error("name", "is required"))?;
    let name: EndpointName = name
        .parse()
        .map_err(|problem| fields::error("name", format!("cannot be used: {problem}")))?;
    let config = config.ok_or_else(|| fields::error("config", "is required"))?;
    let config = EndpointConfigInput::from_json(&config)?;
    let view = services.endpoints.create(name, config, author).await?;
    Ok(respond::ok(&objects::detailed(&view)))
}

async fn update_config(
    State(services): State<Services>,
    Path(name): Path<String>,
    Extension(author): Extension<Principal>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let name = existing(&name)?;
    let config = EndpointConfigInput::from_json(&json_body(&headers, &body)?)?;
    let view = services
        .endpoints
        .update_config(name, config, author)
        .await?;
    Ok(respond::ok(&objects::detailed(&view)))
}

async fn delete(
    State(services): State<Services>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    services.endpoints.delete(existing(&name)?).await?;
    // mlflow reads the body as JSON.
    Ok(respond::ok(&json!({})))
}

/// The name of an endpoint that may exist.
fn existing(name: &str) -> Result<EndpointName, ApiError> {
    name.parse().map_err(|_| unknown(name))
}

/// 404 for an endpoint.
pub(crate) fn unknown(name: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    ApiError::does_not_exist(format!("serving endpoint {name:?} does not exist"))
}

/// The body as JSON.
fn json_body(headers: &HeaderMap, body: &Bytes) -> Result<Value, ApiError> {
    content_type::expect_json(headers)?;
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn the_routes_can_be_built() {
        // axum panics on routes that overlap; `pt` overlaps `{name}` on purpose.
        let router: Router<Services> = routes();
        assert!(router.has_routes());
        assert_eq!(unknown("x").into_response().status(), 404);
    }
}
