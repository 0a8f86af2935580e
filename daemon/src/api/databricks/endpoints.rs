//! `/api/2.0/serving-endpoints`: create, list, get, delete, and update of the configuration.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use edgeward_base::error::chain;
use edgeward_base::names::EndpointName;
use hyper::{HeaderMap, Response};
use serde_json::{Value, json};

use super::fields::{self, Fields};
use super::openapi::get_openapi;
use super::{objects, observe, provisioned, settings};
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, content_type, respond};
use crate::endpoint::{About, Creator, EndpointConfigInput, EndpointView, NewEndpoint};
use crate::gateway::{Caller, PermissionLevel, PrincipalKind, RateLimit};

pub(super) const ROOT: &str = "/api/2.0/serving-endpoints";

/// Fields of a creation that are known and not enforced yet.
const REFUSED: [&str; 5] = [
    "route_optimized",
    "budget_policy_id",
    "usage_policy_id",
    "email_notifications",
    "telemetry_config",
];

/// What a creation may refuse with besides: a model version that is not there, a registry's own endpoint.
pub(super) const CREATION: &[u16] = &[404, 409];

/// The routes. Trailing slashes are gone before a request gets here.
pub(crate) fn routes() -> Routes {
    let one = format!("{ROOT}/{{name}}");
    let list_all = Operation::get(ROOT, "listEndpoints", "The endpoints that you may see.");
    let make = Operation::post(ROOT, "createEndpoint", "Makes an endpoint.");
    let show = Operation::get(&one, "getEndpoint", "An endpoint and its state.");
    let remove = Operation::delete(&one, "deleteEndpoint", "Deletes an endpoint.");
    let update = "Gives an endpoint another configuration.";
    let update = Operation::put(format!("{one}/config"), "updateConfig", update);
    let describe = "What the endpoint takes and gives, as a document of OpenAPI.";
    let describe = Operation::get(format!("{one}/openapi"), "getOpenApi", describe);
    Routes::new("serving endpoints")
        .on(list_all.gives("EndpointList"), list)
        .on(
            make.takes("NewEndpoint")
                .gives("Endpoint")
                .refuses(CREATION),
            create,
        )
        .on(show.gives("Endpoint"), get_endpoint)
        .on(remove.gives("Nothing").refuses(&[409]), delete)
        .on(
            update
                .takes("EndpointConfigInput")
                .gives("Endpoint")
                .refuses(&[409]),
            update_config,
        )
        .on(describe.gives("OpenApi"), get_openapi)
        .merge(provisioned::routes())
        .merge(settings::routes())
        .merge(observe::routes())
}

async fn list(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    let views = services.endpoints.list();
    let snapshot = services.endpoints.snapshot();
    let listed = |view: &Arc<EndpointView>| {
        let routed = snapshot.endpoint(view.name.as_str()).map(Arc::as_ref);
        let policy = services.policies.of(view.id.as_str());
        objects::listed(view, routed, &policy)
    };
    let seen = views
        .iter()
        .filter(|view| access::may_view(&services, &caller, view));
    let endpoints: Vec<Value> = seen.map(listed).collect();
    respond::ok(&json!({ "endpoints": endpoints }))
}

pub(super) async fn get_endpoint(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::View)?;
    Ok(respond::ok(&shown(&services, &caller, &view)))
}

async fn create(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    access::require_admin(&caller, MAKE)?;
    let asked = Asked::read(json_body(&headers, &body)?)?;
    asked.make(&services, &caller).await
}

/// What only administrators may do.
pub(super) const MAKE: &str = "make serving endpoints";

/// An endpoint that somebody asks for.
pub(super) struct Asked {
    name: EndpointName,
    about: About,
    limits: Vec<RateLimit>,
    /// What it is to serve.
    pub(super) config: EndpointConfigInput,
}

impl Asked {
    /// Reads the body of a creation.
    pub(super) fn read(body: Value) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body)?;
        fields.refuse(&REFUSED)?;
        let name = fields.text("name")?;
        let config = fields.value("config");
        let about = About {
            description: fields.text("description")?,
            tags: settings::tags(fields.value("tags"), "tags")?,
        };
        let limits = settings::limits_of_creation(&mut fields)?;
        fields.finish()?;
        let name = name.ok_or_else(|| fields::error("name", "is required"))?;
        let name: EndpointName = name
            .parse()
            .map_err(|problem| fields::error("name", format!("cannot be used: {problem}")))?;
        let config = config.ok_or_else(|| fields::error("config", "is required"))?;
        Ok(Self {
            name,
            about,
            limits,
            config: EndpointConfigInput::from_json(&config)?,
        })
    }

    /// Makes it, and answers with it.
    pub(super) async fn make(
        self,
        services: &Services,
        caller: &Caller,
    ) -> Result<Response<Body>, ApiError> {
        let is_program = caller.kind == PrincipalKind::ServicePrincipal;
        let creator = Creator::of(caller.principal.clone(), is_program);
        let new = NewEndpoint {
            about: self.about,
            ..NewEndpoint::new(self.name, self.config, creator)
        };
        let view = make(services, new, self.limits).await?;
        Ok(respond::ok(&shown(services, caller, &view)))
    }
}

/// Makes an endpoint, which has its limits before it serves.
async fn make(
    services: &Services,
    new: NewEndpoint,
    limits: Vec<RateLimit>,
) -> Result<Arc<EndpointView>, ApiError> {
    let id = new.id.clone();
    let limited = !limits.is_empty();
    if limited {
        services.policies.set_limits(id.as_str(), limits).await?;
    }
    let made = services.endpoints.create(new).await;
    if limited && made.is_err() {
        forget(services, id.as_str()).await;
    }
    Ok(made?)
}

async fn update_config(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let config = EndpointConfigInput::from_json(&json_body(&headers, &body)?)?;
    update(&services, &caller, &view, config).await
}

/// Gives an endpoint another configuration, and answers with it.
pub(super) async fn update(
    services: &Services,
    caller: &Caller,
    view: &EndpointView,
    config: EndpointConfigInput,
) -> Result<Response<Body>, ApiError> {
    let author = caller.principal.clone();
    let updated = services
        .endpoints
        .update_config(view.name.clone(), config, author);
    Ok(respond::ok(&shown(services, caller, &*updated.await?)))
}

pub(super) async fn delete(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    services.endpoints.delete(view.name.clone()).await?;
    forget(&services, view.id.as_str()).await;
    // mlflow reads the body as JSON.
    Ok(respond::ok(&json!({})))
}

/// Forgets the policy of an id that no endpoint has. Where that fails, the next start does it.
async fn forget(services: &Services, id: &str) {
    if let Err(error) = services.policies.forget(id).await {
        tracing::warn!(error = %chain(&error), "the policy of an endpoint that is gone stays stored");
    }
}

/// An endpoint as the caller sees it.
pub(super) fn shown(services: &Services, caller: &Caller, view: &EndpointView) -> Value {
    let level = access::level(services, caller, view);
    detailed(services, view, level)
}

/// An endpoint as somebody sees it who has that permission.
pub(crate) fn detailed(
    services: &Services,
    view: &EndpointView,
    level: Option<PermissionLevel>,
) -> Value {
    let snapshot = services.endpoints.snapshot();
    let routed = snapshot.endpoint(view.name.as_str()).map(Arc::as_ref);
    let policy = services.policies.of(view.id.as_str());
    objects::detailed(view, routed, &policy, level)
}

/// 404 for an endpoint.
pub(crate) fn unknown(name: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    ApiError::does_not_exist(format!("serving endpoint {name:?} does not exist"))
}

/// The body as JSON.
pub(super) fn json_body(headers: &HeaderMap, body: &Bytes) -> Result<Value, ApiError> {
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
        let (router, _) = routes().finish();
        assert!(router.has_routes());
        assert_eq!(unknown("x").into_response().status(), 404);
    }
}
