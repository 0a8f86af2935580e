//! What of an endpoint changes without loading a model: tags, rate limits, and the routes whose objects
//! would have no effect on this box and are refused by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use hyper::{HeaderMap, Response};
use serde_json::{Map, Value, json};

use super::endpoints::{ROOT, json_body, shown};
use super::fields::{self, FieldError, Fields};
use super::limits::{self, Form};
use super::objects;
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, respond};
use crate::endpoint::RoutedEntity;
use crate::gateway::{Caller, PermissionLevel, RateLimit};

/// Fields of an AI gateway that are known and not enforced yet.
const REFUSED: [&str; 4] = [
    "usage_tracking_config",
    "inference_table_config",
    "guardrails",
    "fallback_config",
];

pub(super) fn routes() -> Routes {
    let below = |path: &str| format!("{ROOT}/{{name}}/{path}");
    let tags = Operation::patch(below("tags"), "updateTags", "Adds and deletes tags.");
    let limits = "Sets the rate limits, in their older form.";
    let limits = Operation::put(below("rate-limits"), "setRateLimits", limits);
    let gateway = "Sets the AI gateway: its rate limits.";
    let gateway = Operation::put(below("ai-gateway"), "setAiGateway", gateway);
    let mail = "Sets who is notified: nobody, for a box sends no mail.";
    let mail = Operation::patch(below("notifications"), "setNotifications", mail);
    let telemetry = "Leaves telemetry out: rows go where `auto_capture_config` says.";
    let telemetry = Operation::patch(below("telemetry-config"), "setTelemetryConfig", telemetry);
    Routes::new("serving endpoints")
        .on(
            tags.takes("TagChanges").gives("TagList").refuses(&[409]),
            retag,
        )
        .on(
            limits.takes("EndpointRateLimits").gives("RateLimits"),
            set_rate_limits,
        )
        .on(
            gateway.takes("AiGateway").gives("RateLimits"),
            set_ai_gateway,
        )
        .on(
            mail.takes("NotificationsChange").gives("Notifications"),
            set_notifications,
        )
        .on(
            telemetry.takes("TelemetryChange").gives("Endpoint"),
            set_telemetry,
        )
}

/// Reads `[{"key": ..., "value": ...}]`.
pub(super) fn tags(
    list: Option<Value>,
    field: &str,
) -> Result<BTreeMap<String, Option<String>>, FieldError> {
    let list = match list {
        None => return Ok(BTreeMap::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(fields::error(field, "must be a list")),
    };
    let mut tags = BTreeMap::new();
    for tag in list {
        let mut fields = Fields::of(tag)?;
        let (key, value) = (fields.text("key")?, fields.text("value")?);
        fields.finish()?;
        let key = key.ok_or_else(|| fields::error("key", "is required"))?;
        if tags.insert(key, value).is_some() {
            return Err(fields::error(field, "has the same key twice"));
        }
    }
    Ok(tags)
}

/// The limits of a creation: of the endpoint, or of its AI gateway.
pub(super) fn limits_of_creation(fields: &mut Fields) -> Result<Vec<RateLimit>, FieldError> {
    let own = limits::read(fields.value("rate_limits"), Form::Endpoint)?;
    let gateway = fields.value("ai_gateway").map(gateway).transpose()?;
    match (own.is_empty(), gateway) {
        (_, None) => Ok(own),
        (true, Some(gateway)) => Ok(gateway),
        (false, Some(gateway)) if gateway.is_empty() => Ok(own),
        (false, Some(_)) => Err(fields::error(
            "rate_limits",
            "cannot stand beside those of ai_gateway",
        )),
    }
}

/// Reads the limits of an AI gateway, whose other parts are refused.
fn gateway(body: Value) -> Result<Vec<RateLimit>, FieldError> {
    let mut fields = Fields::of(body)?;
    let limits = limits::read(fields.value("rate_limits"), Form::Gateway)?;
    // What only says that something is off asks for nothing.
    for field in REFUSED {
        let off = match fields.value(field) {
            Some(Value::Object(parts)) => parts.values().all(|part| *part == Value::Bool(false)),
            Some(_) => false,
            None => true,
        };
        if !off {
            let mut asked = Fields::of(json!({ field: true }))?;
            asked.refuse(&[field])?;
        }
    }
    fields.finish()?;
    Ok(limits)
}

async fn retag(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    let add = tags(fields.value("add_tags"), "add_tags")?;
    let delete = match fields.value("delete_tags") {
        None => Vec::new(),
        Some(list) => serde_json::from_value(list)
            .map_err(|_| fields::error("delete_tags", "must be a list of keys"))?,
    };
    fields.finish()?;
    let view = services.endpoints.retag(view.name.clone(), add, delete);
    let tags = objects::tags(&view.await?.about);
    Ok(respond::ok(&json!({ "tags": tags })))
}

async fn set_rate_limits(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    let limits = limits::read(fields.value("rate_limits"), Form::Endpoint)?;
    fields.finish()?;
    let written = limits::write(limits.iter());
    services
        .policies
        .set_limits(view.id.as_str(), limits)
        .await?;
    Ok(respond::ok(&json!({ "rate_limits": written })))
}

async fn set_ai_gateway(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let limits = gateway(json_body(&headers, &body)?)?;
    if view.pending_config.is_none() {
        refuse_idle_tokens(&services, &name, &limits)?;
    }
    let written = limits::write(limits.iter());
    services
        .policies
        .set_limits(view.id.as_str(), limits)
        .await?;
    let mut answer = Map::new();
    if !written.is_empty() {
        answer.insert("rate_limits".to_owned(), Value::Array(written));
    }
    Ok(respond::ok(&answer))
}

/// A limit of tokens has no effect where no model counts any.
fn refuse_idle_tokens(
    services: &Services,
    name: &str,
    limits: &[RateLimit],
) -> Result<(), FieldError> {
    let snapshot = services.endpoints.snapshot();
    let entities = snapshot.endpoint(name).map(|routed| routed.entities());
    let counts = |entity: &Arc<RoutedEntity>| entity.scorer.session().texts().is_some();
    let counted = entities.is_none_or(|entities| entities.iter().any(counts));
    if counted || limits.iter().all(|limit| limit.tokens.is_none()) {
        return Ok(());
    }
    let problem = "would have no effect: no model of this endpoint counts tokens";
    Err(fields::error("tokens", problem))
}

/// This box sends no mail: only nobody can be notified.
async fn set_notifications(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    if let Some(notified) = fields.value("email_notifications") {
        let mut notified = Fields::of(notified)?;
        notified.refuse(&["on_update_success", "on_update_failure"])?;
        notified.finish()?;
    }
    fields.finish()?;
    let nobody = json!({"name": view.name, "email_notifications": {}});
    Ok(respond::ok(&nobody))
}

/// Rows go where `auto_capture_config` says: telemetry can only be left out.
async fn set_telemetry(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    fields.refuse(&["telemetry_config"])?;
    fields.finish()?;
    Ok(respond::ok(&shown(&services, &caller, &view)))
}
