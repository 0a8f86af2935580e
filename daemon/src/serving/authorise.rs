//! Authorise: whether a caller may ask an endpoint, and once more in this minute.

use edgeward_base::names::EndpointName;

use super::Core;
use super::error::ServeError;
use crate::endpoint::{Creator, RoutedEndpoint};
use crate::gateway::{Caller, PermissionLevel, Policies, PrincipalKind, granted};

/// The most that the caller may do with the endpoint of that id, which `creator` made.
#[must_use]
pub fn level_of(
    policies: &Policies,
    caller: &Caller,
    id: &str,
    creator: &Creator,
) -> Option<PermissionLevel> {
    let is_program = caller.kind == PrincipalKind::ServicePrincipal;
    if *creator == Creator::of(caller.principal.clone(), is_program) {
        return Some(PermissionLevel::Manage);
    }
    granted(caller, &policies.of(id).grants)
}

/// Lets a caller through who may ask the endpoint.
pub(super) fn permit_query(
    core: &Core,
    caller: Option<&Caller>,
    name: &EndpointName,
    id: &str,
    creator: &Creator,
) -> Result<(), ServeError> {
    let level = caller.and_then(|caller| level_of(&core.policies, caller, id, creator));
    if level >= Some(PermissionLevel::Query) {
        return Ok(());
    }
    Err(ServeError::Forbidden {
        principal: caller.map(|caller| caller.principal.clone()),
        endpoint: name.clone(),
        level: PermissionLevel::Query,
    })
}

/// Lets a caller through who may ask the endpoint, once more in this minute, which is counted.
pub(super) fn authorise(
    core: &Core,
    caller: Option<&Caller>,
    endpoint: &RoutedEndpoint,
) -> Result<(), ServeError> {
    let id = endpoint.id.as_str();
    permit_query(core, caller, &endpoint.name, id, &endpoint.creator)?;
    let policy = core.policies.of(id);
    if let Some(caller) = caller.filter(|_| !policy.limits.is_empty()) {
        policy.limits.take(caller, core.clock.monotonic())?;
    }
    Ok(())
}
