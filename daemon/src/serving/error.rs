//! Why an invocation has no prediction.

use std::time::Duration;

use edgeward_base::names::{EndpointName, Principal};

use super::admission::AdmitError;
use super::compute::ComputeError;
use crate::gateway::{OverLimit, PermissionLevel};
use crate::model::ScoreError;

/// Why an invocation has no prediction.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no endpoint of that name.
    #[error("serving endpoint {0:?} does not exist")]
    UnknownEndpoint(String),
    /// The endpoint has no served entity of that name.
    #[error("serving endpoint {endpoint} has no served entity {served_entity:?}")]
    UnknownServedEntity {
        /// The endpoint.
        endpoint: EndpointName,
        /// What was asked for, cut to a length that is safe to print.
        served_entity: String,
    },
    /// The endpoint serves no such version.
    #[error("serving endpoint {endpoint} serves no version {version:?}")]
    UnknownVersion {
        /// The endpoint.
        endpoint: EndpointName,
        /// What was asked for, cut to a length that is safe to print.
        version: String,
    },
    /// Two served entities of the endpoint serve versions of the same number.
    #[error(
        "more than one served entity of serving endpoint {endpoint} serves a version {version}: ask \
         without a version, or for a served entity by its name"
    )]
    AmbiguousVersion {
        /// The endpoint.
        endpoint: EndpointName,
        /// What was asked for.
        version: String,
    },
    /// The endpoint exists, its models are on their way.
    #[error("serving endpoint {0} is loading its models")]
    Loading(EndpointName),
    /// The endpoint exists and will not serve before somebody changes it.
    #[error("serving endpoint {endpoint} is not ready: {reason}")]
    NotReady {
        /// The endpoint.
        endpoint: EndpointName,
        /// Why.
        reason: String,
    },
    /// The endpoint is not for whoever asks.
    #[error("{} has no {level} permission on serving endpoint {endpoint}", who(principal.as_ref()))]
    Forbidden {
        /// Who asks, if that is known.
        principal: Option<Principal>,
        /// The endpoint.
        endpoint: EndpointName,
        /// What it takes.
        level: PermissionLevel,
    },
    /// The endpoint takes no more calls in this minute.
    #[error("the endpoint takes no more calls now")]
    OverLimit(#[from] OverLimit),
    /// There is no room now.
    #[error("the request was not admitted")]
    NotAdmitted(#[from] AdmitError),
    /// The body was refused or the model failed.
    #[error("the model gave no prediction")]
    Score(#[from] ScoreError),
    /// The compute pool took no job or lost it.
    #[error("the prediction was not computed")]
    Compute(#[from] ComputeError),
    /// The prediction took too long.
    #[error("the prediction took longer than {0:?}")]
    TimedOut(Duration),
}

fn who(principal: Option<&Principal>) -> &str {
    principal.map_or("nobody", Principal::as_str)
}
