//! Access: what a caller may do with an endpoint, on the routes that are no predictions.
//!
//! Predictions are authorised on their own way, by `serving`.

use std::sync::Arc;

use super::Services;
use super::databricks::unknown;
use super::error::ApiError;
use crate::endpoint::EndpointView;
use crate::gateway::{Caller, PermissionLevel};
use crate::serving::level_of;

/// The most that the caller may do with an endpoint.
pub(crate) fn level(
    services: &Services,
    caller: &Caller,
    view: &EndpointView,
) -> Option<PermissionLevel> {
    level_of(&services.policies, caller, view.id.as_str(), &view.creator)
}

/// Whether the caller may see an endpoint.
pub(crate) fn may_view(services: &Services, caller: &Caller, view: &EndpointView) -> bool {
    level(services, caller, view) >= Some(PermissionLevel::View)
}

/// The endpoint of that name, if the caller may do `wanted` with it.
///
/// # Errors
/// 404 when there is no such endpoint, 403 when it is not for the caller.
pub(crate) fn require(
    services: &Services,
    caller: &Caller,
    name: &str,
    wanted: PermissionLevel,
) -> Result<Arc<EndpointView>, ApiError> {
    let view = services.endpoints.get(name).ok_or_else(|| unknown(name))?;
    if level(services, caller, &view) >= Some(wanted) {
        return Ok(view);
    }
    Err(ApiError::forbidden(format!(
        "{} has no {wanted} permission on serving endpoint {name}",
        caller.principal
    )))
}

/// Whether the caller may do what concerns no endpoint that exists.
///
/// # Errors
/// 403 unless the caller is an administrator.
pub(crate) fn require_admin(caller: &Caller, what: &str) -> Result<(), ApiError> {
    if caller.is_admin() {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "{} is not in the group admins, whose members may {what}",
        caller.principal
    )))
}
