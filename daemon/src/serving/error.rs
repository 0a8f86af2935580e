//! Why an invocation has no prediction.

use std::time::Duration;

use edgeward_base::names::EndpointName;

use super::admission::AdmitError;
use super::compute::ComputeError;
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
