//! Why an endpoint could not be made, changed or deleted.

use std::collections::BTreeMap;

use edgeward_base::digest::Digest;
use edgeward_base::error::chain;
use edgeward_base::names::{EndpointName, ModelRef, ServedEntityName};
use edgeward_wire::ack::{RejectCode, Rejection};
use edgeward_wire::ordering::Generation;

use crate::endpoint::about::AboutError;
use crate::endpoint::config::ValidateConfigError;
use crate::endpoint::routing::RouteConfigError;
use crate::store::{ChangeError, CommitStoreError, ReadStoreError};

/// Why a change to endpoints was refused or failed. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The configuration breaks a rule. Nothing has happened.
    #[error("endpoint {endpoint}: {reason}")]
    Invalid {
        /// The endpoint.
        endpoint: EndpointName,
        /// The rule.
        reason: ValidateConfigError,
    },
    /// The model catalogue has no such version. Nothing has happened.
    #[error(
        "endpoint {endpoint}: served entity {entity} names {model}, which is not in the model catalogue"
    )]
    MissingVersion {
        /// The endpoint.
        endpoint: EndpointName,
        /// The served entity.
        entity: ServedEntityName,
        /// The version that is missing.
        model: ModelRef,
    },
    /// The catalogue's version is not the one that was meant. Nothing has happened.
    #[error(
        "endpoint {endpoint}: {model} has manifest {found} in the model catalogue, {wanted} was asked for"
    )]
    OtherManifest {
        /// The endpoint.
        endpoint: EndpointName,
        /// The version.
        model: ModelRef,
        /// The manifest that the catalogue has.
        found: Digest,
        /// The manifest that was asked for.
        wanted: Digest,
    },
    /// There is an endpoint of that name.
    #[error("endpoint {0} already exists")]
    AlreadyExists(EndpointName),
    /// It cannot be described so.
    #[error("the endpoint cannot be described so")]
    About(#[from] AboutError),
    /// There is no endpoint of that name.
    #[error("endpoint {0} does not exist")]
    NotFound(EndpointName),
    /// A change of the endpoint is being staged.
    #[error("endpoint {0} is being updated: wait until its config_update is not IN_PROGRESS")]
    UpdateInProgress(EndpointName),
    /// The endpoint belongs to the registry, and local edits are not let through.
    #[error(
        "endpoint {endpoint} is managed by the registry (generation {generation}): change it there, or set endpoint.local_edits = \"allow\" on this box"
    )]
    ManagedByRegistry {
        /// The endpoint.
        endpoint: EndpointName,
        /// The desired set that it comes from.
        generation: Generation,
    },
    /// Something newer took the place of this change before it was applied.
    #[error("the change was given up: {by} took its place")]
    Superseded {
        /// What took its place.
        by: String,
    },
    /// A desired set could not be staged: none of it was applied.
    #[error("{}", all_reasons(.0))]
    Staging(BTreeMap<EndpointName, BTreeMap<ServedEntityName, Rejection>>),
    /// The change cannot be written as a record.
    #[error("the change cannot be stored")]
    Record(#[from] ChangeError),
    /// The store did not take the change.
    #[error("the change was not stored")]
    Store(#[source] CommitStoreError),
    /// The change cannot be routed: a mistake of this program.
    #[error("the change cannot be routed")]
    Route(#[from] RouteConfigError),
    /// The model catalogue could not be read.
    #[error("the model catalogue cannot be read")]
    Catalogue(#[source] ReadStoreError),
    /// Too many changes wait. Nothing has happened.
    #[error("too many endpoint changes wait: retry")]
    Busy,
    /// The process is shutting down. Nothing has happened.
    #[error("endpoints are closed: the server is shutting down")]
    Closed,
}

impl EndpointError {
    /// What the fleet is told when a desired set ends so.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        Rejection::new(self.reject_code(), chain(self))
    }

    fn reject_code(&self) -> RejectCode {
        match self {
            Self::Invalid { .. } | Self::AlreadyExists(_) | Self::About(_) | Self::NotFound(_) => {
                RejectCode::Invalid
            }
            Self::MissingVersion { .. } => RejectCode::MissingArtifact,
            Self::OtherManifest { .. } => RejectCode::DigestMismatch,
            Self::UpdateInProgress(_) | Self::ManagedByRegistry { .. } => RejectCode::LocalOverride,
            Self::Superseded { .. } => RejectCode::StaleGeneration,
            Self::Staging(failed) => failed
                .values()
                .flat_map(BTreeMap::values)
                .next()
                .map_or(RejectCode::Invalid, |failure| failure.code.clone()),
            Self::Record(_) | Self::Store(_) => not_stored(),
            Self::Route(_) | Self::Catalogue(_) | Self::Busy | Self::Closed => {
                RejectCode::Other("INTERNAL".to_owned())
            }
        }
    }
}

/// The code of a change that the store did not take.
pub(super) fn not_stored() -> RejectCode {
    RejectCode::Other("NOT_STORED".to_owned())
}

/// Failures by served entity as one line.
pub(super) fn reasons(failures: &BTreeMap<ServedEntityName, Rejection>) -> String {
    let lines: Vec<String> = failures
        .iter()
        .map(|(entity, failure)| format!("{entity}: {failure}"))
        .collect();
    lines.join("; ")
}

fn all_reasons(failed: &BTreeMap<EndpointName, BTreeMap<ServedEntityName, Rejection>>) -> String {
    let lines: Vec<String> = failed
        .iter()
        .map(|(endpoint, failures)| format!("endpoint {endpoint}: {}", reasons(failures)))
        .collect();
    lines.join("; ")
}

/// Why the stored endpoints could not be read at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenEndpointsError {
    /// Their records.
    #[error("cannot read the stored endpoints")]
    Endpoints(#[source] ReadStoreError),
    /// The record of the desired set.
    #[error("cannot read which desired set was applied")]
    Desired(#[source] ReadStoreError),
}
