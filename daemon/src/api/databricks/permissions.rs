//! `/api/2.0/permissions/serving-endpoints/{id}`: who may do what with an endpoint.
//!
//! The path has the endpoint's id, not its name. Administrators and whoever made the endpoint may always
//! manage it: that is shown, and cannot be taken away.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use edgeward_base::names::Principal;
use hyper::{HeaderMap, Response};
use serde_json::{Value, json};

use super::endpoints::json_body;
use super::fields::{self, FieldError, Fields};
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, respond};
use crate::endpoint::{Creator, EndpointView};
use crate::gateway::{ADMINS, Caller, Grant, Grantee, MOST_GRANTS, PermissionLevel};

const ROOT: &str = "/api/2.0/permissions/serving-endpoints/{id}";

/// The routes behind a token.
pub(crate) fn routes() -> Routes {
    let show = Operation::get(ROOT, "getPermissions", "Who may do what.");
    let replace = Operation::put(ROOT, "setPermissions", "Replaces the grants.");
    let merge = Operation::patch(ROOT, "updatePermissions", "Adds to the grants.");
    let path = format!("{ROOT}/permissionLevels");
    let known = Operation::get(path, "getPermissionLevels", "What may be granted.");
    let changes = |operation: Operation| operation.takes("PermissionsChange").gives("Permissions");
    Routes::new("permissions")
        .on(show.gives("Permissions"), get_permissions)
        .on(changes(replace), set)
        .on(changes(merge), update)
        .on(known.gives("PermissionLevels"), levels)
}

/// The endpoint with that id, if the caller may do `wanted` with it.
fn find(
    services: &Services,
    caller: &Caller,
    id: &str,
    wanted: PermissionLevel,
) -> Result<Arc<EndpointView>, ApiError> {
    let views = services.endpoints.list();
    let mut views = views.iter();
    let view = views.find(|view| view.id.to_string() == id);
    let view = view.ok_or_else(|| {
        let id: String = id.chars().take(80).collect();
        ApiError::does_not_exist(format!("no serving endpoint has the id {id:?}"))
    })?;
    access::require(services, caller, view.name.as_str(), wanted)
}

async fn levels(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response<Body>, ApiError> {
    find(&services, &caller, &id, PermissionLevel::View)?;
    let level = |level: PermissionLevel| {
        let description = match level {
            PermissionLevel::View => "Can see the endpoint, its metrics and its logs",
            PermissionLevel::Query => "Can ask the endpoint",
            PermissionLevel::Manage => "Can change and delete the endpoint, and grant permissions",
        };
        json!({"permission_level": level.as_str(), "description": description})
    };
    let levels = PermissionLevel::ALL.map(level);
    Ok(respond::ok(&json!({ "permission_levels": levels })))
}

async fn get_permissions(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = find(&services, &caller, &id, PermissionLevel::View)?;
    Ok(respond::ok(&object(&services, &view)))
}

async fn set(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = find(&services, &caller, &id, PermissionLevel::Manage)?;
    let grants = grants(&view, json_body(&headers, &body)?)?;
    let id = view.id.as_str();
    services.policies.set_grants(id, grants).await?;
    Ok(respond::ok(&object(&services, &view)))
}

async fn update(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = find(&services, &caller, &id, PermissionLevel::Manage)?;
    let changed = grants(&view, json_body(&headers, &body)?)?;
    let id = view.id.as_str();
    services.policies.merge_grants(id, changed).await?;
    Ok(respond::ok(&object(&services, &view)))
}

/// `ObjectPermissions`.
fn object(services: &Services, view: &EndpointView) -> Value {
    let policy = services.policies.of(view.id.as_str());
    let inherited = json!([{
        "permission_level": PermissionLevel::Manage.as_str(),
        "inherited": true,
        "inherited_from_object": ["/serving-endpoints/"],
    }]);
    let mut list = vec![json!({"group_name": ADMINS, "all_permissions": inherited})];
    if let Some(to) = creator(view) {
        let level = PermissionLevel::Manage;
        list.push(entry(&Grant { to, level }));
    }
    list.extend(policy.grants.iter().map(entry));
    json!({
        "object_id": format!("/serving-endpoints/{}", view.id),
        "object_type": "serving-endpoint",
        "access_control_list": list,
    })
}

/// Whoever made the endpoint, if it was made on this box.
fn creator(view: &EndpointView) -> Option<Grantee> {
    match &view.creator {
        Creator::Principal(name) => Some(Grantee::User(name.clone())),
        Creator::ServicePrincipal(name) => Some(Grantee::ServicePrincipal(name.clone())),
        Creator::Registry => None,
    }
}

fn entry(grant: &Grant) -> Value {
    let (field, name) = match &grant.to {
        Grantee::User(name) => ("user_name", name),
        Grantee::Group(name) => ("group_name", name),
        Grantee::ServicePrincipal(name) => ("service_principal_name", name),
    };
    let level = json!([{"permission_level": grant.level.as_str(), "inherited": false}]);
    json!({field: name, "display_name": name, "all_permissions": level})
}

/// Reads `{"access_control_list": [...]}`, without what holds anyway.
fn grants(view: &EndpointView, body: Value) -> Result<Vec<Grant>, FieldError> {
    let mut fields = Fields::of(body)?;
    let list = fields.value("access_control_list");
    fields.finish()?;
    let list = match list {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(fields::error("access_control_list", "must be a list")),
    };
    if list.len() > MOST_GRANTS {
        let problem = format!("has at most {MOST_GRANTS} elements");
        return Err(fields::error("access_control_list", problem));
    }
    let mut grants: Vec<Grant> = Vec::with_capacity(list.len());
    for element in list {
        let grant = grant(element)?;
        let admins = matches!(&grant.to, Grantee::Group(name) if name.as_str() == ADMINS);
        let always = admins || creator(view).as_ref() == Some(&grant.to);
        if always && grant.level != PermissionLevel::Manage {
            let problem =
                "cannot be less than CAN_MANAGE for admins and for whoever made the endpoint";
            return Err(fields::error("permission_level", problem));
        }
        if grants.iter().any(|known| known.to == grant.to) {
            let problem = "names the same principal twice";
            return Err(fields::error("access_control_list", problem));
        }
        if !always {
            grants.push(grant);
        }
    }
    Ok(grants)
}

fn grant(element: Value) -> Result<Grant, FieldError> {
    let mut fields = Fields::of(element)?;
    let mut to = Vec::new();
    for field in ["user_name", "group_name", "service_principal_name"] {
        if let Some(name) = fields.text(field)? {
            let name: Result<Principal, _> = name.parse();
            let name = name.map_err(|problem| fields::error(field, problem.to_string()))?;
            to.push(match field {
                "user_name" => Grantee::User(name),
                "group_name" => Grantee::Group(name),
                _ => Grantee::ServicePrincipal(name),
            });
        }
    }
    let level = fields.text("permission_level")?;
    fields.finish()?;
    let level = level.and_then(|level| level.parse().ok());
    let level = level.ok_or_else(|| {
        let problem = "must be CAN_VIEW, CAN_QUERY or CAN_MANAGE";
        fields::error("permission_level", problem)
    })?;
    match (to.pop(), to.is_empty()) {
        (Some(to), true) => Ok(Grant { to, level }),
        _ => Err(fields::error(
            "access_control_list",
            "must name one of user_name, group_name and service_principal_name in each element",
        )),
    }
}
