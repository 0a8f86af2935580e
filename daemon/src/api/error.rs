//! The one map from domain errors to HTTP.
//!
//! Every error leaves as `{"error_code": ..., "message": ...}` (below `/v1` and `/v2` in the form of their
//! clients, [`ErrorForm`]) with a code that mlflow knows (it
//! shows any other as 500) and a status that makes no client repeat a hopeless request: a client's
//! mistake and a model's failure are 4xx, only what passes by itself is 429 or 503, and those two
//! carry an integer `Retry-After`. What is conflicting or hopeless says `x-should-retry: false` to
//! the clients that read it. The causes of an internal error are logged, not sent.
//!
//! | status | error_code |
//! |---|---|
//! | 400 | BAD_REQUEST, INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS |
//! | 401, 403 | UNAUTHENTICATED, PERMISSION_DENIED |
//! | 404 | RESOURCE_DOES_NOT_EXIST, ENDPOINT_NOT_FOUND for an unknown route |
//! | 405, 408, 413, 415 | BAD_REQUEST |
//! | 409 | RESOURCE_CONFLICT |
//! | 429 | RESOURCE_EXHAUSTED, REQUEST_LIMIT_EXCEEDED of a rate limit |
//! | 503 | TEMPORARILY_UNAVAILABLE |
//! | 500, 504 | INTERNAL_ERROR, DEADLINE_EXCEEDED |
//! | 501 | NOT_IMPLEMENTED, of gRPC alone |

use std::borrow::Cow;
use std::error::Error;

use bytes::Bytes;
use edgeward_base::error::chain;
use hyper::StatusCode;
use serde_json::json;

use super::body::ReadBodyError;
use super::content_type::ContentTypeError;
use super::databricks::FieldError;
use super::encoding::EncodingError;
use super::open_inference::grpc::ReadMessageError;
use crate::endpoint::{EndpointError, ValidateConfigError};
use crate::gateway::{
    ChangePolicyError, CreateTokenError, LoginError, OverLimit, RevokeTokenError,
};
use crate::model::{ImportModelError, Mistake, ScoreError};
use crate::serving::{AdmitError, ComputeError, ServeError};
use crate::store::ReadStoreError;

mod grpc;
#[cfg(test)]
mod tests;

/// Seconds after which a client may come again. What is short now is short for a moment.
const RETRY_AFTER: u32 = 1;

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// One of the codes in the module's table.
    pub error_code: &'static str,
    /// For a person; names the field and what is allowed.
    pub message: String,
    /// Seconds, for what passes by itself.
    pub retry_after: Option<u32>,
    /// The methods that a route takes, for one that it does not.
    pub allow: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, error_code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error_code,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// 400: the body or a parameter cannot be read.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// 400: a value is not allowed.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE", message)
    }

    /// 404: what the route names does not exist.
    pub(crate) fn does_not_exist(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST", message)
    }

    /// 404: there is no such route.
    pub(crate) fn no_route(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "ENDPOINT_NOT_FOUND",
            format!("no API is served at {path}"),
        )
    }

    /// 405: the route exists, not for this method. `allow` is what it takes, where the router does not say it.
    pub(crate) fn method_not_allowed(method: &str, allow: Option<&'static str>) -> Self {
        let method: String = method.chars().take(40).collect();
        let message = format!("this route does not take {method}");
        Self {
            allow,
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "BAD_REQUEST", message)
        }
    }

    /// 401: no token was sent.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "send a token of this server as `Authorization: Bearer {token}`",
        )
    }

    /// 403: the token is none of this server, or good and not for this.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    /// 415: the body is not of the kind that the route takes.
    pub(crate) fn unsupported_media(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_REQUEST", message)
    }

    /// 501: known to clients, and not done here; of gRPC alone.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message)
    }

    /// 409: what stands now does not allow it.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "RESOURCE_CONFLICT", message)
    }

    /// 503: passes by itself.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "TEMPORARILY_UNAVAILABLE",
                message,
            )
        }
    }

    /// 429: too much at once.
    fn exhausted(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
        }
    }

    /// 500: a fault of this program or its disk. Its causes go to the log.
    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            format!("{error}; the server's log has the causes"),
        )
    }

    /// An error of the central side, which names its code itself; the status follows from the code.
    pub(crate) fn coded(error_code: &'static str, error: &(dyn Error + 'static)) -> Self {
        let message = chain(error);
        match error_code {
            "RESOURCE_DOES_NOT_EXIST" => Self::does_not_exist(message),
            "INVALID_PARAMETER_VALUE" => Self::invalid(message),
            "TEMPORARILY_UNAVAILABLE" => Self::unavailable(message),
            _ => Self::internal(error),
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn worth_retrying(&self) -> bool {
        self.retry_after.is_some() || self.status == StatusCode::REQUEST_TIMEOUT
    }

    /// The JSON body, as the clients of a dialect read it.
    #[must_use]
    pub(crate) fn body(&self, form: ErrorForm) -> Bytes {
        let message = without_retry_words(&self.message);
        let body = match form {
            ErrorForm::Databricks => json!({"error_code": self.error_code, "message": message}),
            ErrorForm::OpenInference => json!({"error": message}),
            ErrorForm::OpenAi => json!({"error": {
                "message": message,
                "type": self.openai_type(),
                "param": null,
                "code": self.error_code,
            }}),
        };
        body.to_string().into()
    }

    /// `type` of OpenAI's errors.
    fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// What the body of an error looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// `{"error_code": ..., "message": ...}`, which the clients of OpenAI read too.
    Databricks,
    /// `{"error": "..."}`, below `/v2`.
    OpenInference,
    /// `{"error": {"message", "type", "param", "code"}}`, below `/v1`.
    OpenAi,
}

impl ErrorForm {
    /// That of the dialect which a path belongs to.
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if below("/v2") {
            Self::OpenInference
        } else if below("/v1") {
            Self::OpenAi
        } else {
            Self::Databricks
        }
    }
}

/// What databricks-sdk takes for a passing fault wherever it stands in a message: it then repeats
/// the request for five minutes. A message may quote a model or a client, so it is checked here.
const RETRY_WORDS: [(&str, &str); 7] = [
    ("Unexpected error", "unforeseen failure"),
    (
        "Please try again later or try a faster operation.",
        "this takes too long",
    ),
    (
        "RPC token bucket limit has been exceeded",
        "a rate limit was reached",
    ),
    ("ClusterNotReadyException", "not ready"),
    ("Unknown worker environment", "unknown environment"),
    (
        "There is no worker environment with id",
        "no environment has the id",
    ),
    (
        "does not have any associated worker environments",
        "has no environments",
    ),
];

fn without_retry_words(message: &str) -> Cow<'_, str> {
    RETRY_WORDS
        .iter()
        .fold(Cow::Borrowed(message), |text, (words, instead)| {
            if text.contains(words) {
                Cow::Owned(text.replace(words, instead))
            } else {
                text
            }
        })
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<ContentTypeError> for ApiError {
    fn from(error: ContentTypeError) -> Self {
        Self::unsupported_media(error.to_string())
    }
}

impl From<EncodingError> for ApiError {
    fn from(error: EncodingError) -> Self {
        Self::unsupported_media(error.to_string())
    }
}

impl From<ReadBodyError> for ApiError {
    fn from(error: ReadBodyError) -> Self {
        let message = error.to_string();
        match error {
            ReadBodyError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BAD_REQUEST", message)
            }
            ReadBodyError::NotAdmitted(error) => error.into(),
            ReadBodyError::TimedOut { .. } => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "BAD_REQUEST", message)
            }
            ReadBodyError::Encoding(_) | ReadBodyError::Broken(_) => {
                Self::bad_request(chain(&error))
            }
        }
    }
}

impl From<ReadMessageError> for ApiError {
    fn from(error: ReadMessageError) -> Self {
        match error {
            ReadMessageError::Body(error) => error.into(),
            ReadMessageError::Framing(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<AdmitError> for ApiError {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::TooManyRequests { .. } | AdmitError::OutOfMemory { .. } => {
                Self::exhausted(error.to_string())
            }
            AdmitError::Draining => Self::unavailable(error.to_string()),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::forbidden(error.to_string()),
            LoginError::TooMany { after_seconds } => Self {
                retry_after: Some(after_seconds),
                ..Self::exhausted(error.to_string())
            },
        }
    }
}

impl From<OverLimit> for ApiError {
    fn from(over: OverLimit) -> Self {
        Self {
            retry_after: Some(over.after_seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "REQUEST_LIMIT_EXCEEDED",
                over.to_string(),
            )
        }
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        match error {
            ServeError::UnknownEndpoint(_)
            | ServeError::UnknownServedEntity { .. }
            | ServeError::UnknownVersion { .. } => Self::does_not_exist(message),
            ServeError::AmbiguousVersion { .. } => Self::bad_request(message),
            ServeError::Forbidden { .. } => Self::forbidden(message),
            ServeError::OverLimit(over) => over.into(),
            ServeError::Loading(_) => Self::unavailable(message),
            ServeError::NotReady { .. } => Self::bad_request(message),
            ServeError::NotAdmitted(error) => error.into(),
            ServeError::Score(error) => error.into(),
            ServeError::Compute(ComputeError::QueueFull { .. } | ComputeError::Displaced) => {
                Self::exhausted(chain(&error))
            }
            ServeError::Compute(ComputeError::Closed) => Self::unavailable(chain(&error)),
            ServeError::Compute(ComputeError::Panicked { .. }) => Self::internal(&error),
            ServeError::TimedOut(_) => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", message)
            }
        }
    }
}

impl From<ScoreError> for ApiError {
    fn from(error: ScoreError) -> Self {
        if let ScoreError::Load { .. } = error {
            return Self::internal(&error);
        }
        match error.mistake() {
            Some(Mistake::InvalidParameterValue) => Self::invalid(error.to_string()),
            Some(Mistake::BadRequest) => Self::bad_request(error.to_string()),
            // mlflow repeats a 500; a model that fails on rows fails on them again.
            None => Self::bad_request(chain(&error)),
        }
    }
}

impl From<ValidateConfigError> for ApiError {
    fn from(error: ValidateConfigError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<EndpointError> for ApiError {
    fn from(error: EndpointError) -> Self {
        let message = error.to_string();
        match error {
            EndpointError::Invalid { .. } => Self::invalid(message),
            EndpointError::About(error) => Self::invalid(error.to_string()),
            EndpointError::MissingVersion { .. } | EndpointError::NotFound(_) => {
                Self::does_not_exist(message)
            }
            EndpointError::AlreadyExists(_) => {
                Self::new(StatusCode::BAD_REQUEST, "RESOURCE_ALREADY_EXISTS", message)
            }
            EndpointError::OtherManifest { .. }
            | EndpointError::UpdateInProgress(_)
            | EndpointError::ManagedByRegistry { .. }
            | EndpointError::Superseded { .. } => Self::conflict(message),
            EndpointError::Staging(_) => Self::bad_request(message),
            EndpointError::Busy => Self::exhausted(message),
            EndpointError::Closed => Self::unavailable(message),
            EndpointError::Record(_)
            | EndpointError::Store(_)
            | EndpointError::Route(_)
            | EndpointError::Catalogue(_) => Self::internal(&error),
        }
    }
}

impl From<ChangePolicyError> for ApiError {
    fn from(error: ChangePolicyError) -> Self {
        match error {
            ChangePolicyError::TooMany => Self::invalid(error.to_string()),
            ChangePolicyError::Record(_)
            | ChangePolicyError::Store(_)
            | ChangePolicyError::Task(_) => Self::internal(&error),
        }
    }
}

impl From<CreateTokenError> for ApiError {
    fn from(error: CreateTokenError) -> Self {
        match error {
            CreateTokenError::Expired { .. } => Self::invalid(error.to_string()),
            CreateTokenError::Record(_) | CreateTokenError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<RevokeTokenError> for ApiError {
    fn from(error: RevokeTokenError) -> Self {
        match error {
            RevokeTokenError::NotFound(_) => Self::does_not_exist(error.to_string()),
            RevokeTokenError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<ImportModelError> for ApiError {
    fn from(error: ImportModelError) -> Self {
        match error {
            ImportModelError::Immutable { .. } => Self::conflict(error.to_string()),
            ImportModelError::Read(_)
            | ImportModelError::Record(_)
            | ImportModelError::Commit(_)
            | ImportModelError::Join(_) => Self::internal(&error),
            ImportModelError::Source(_)
            | ImportModelError::Artifact(_)
            | ImportModelError::Manifest(_)
            | ImportModelError::Version(_)
            | ImportModelError::Prove(_) => Self::invalid(chain(&error)),
        }
    }
}

impl From<ReadStoreError> for ApiError {
    fn from(error: ReadStoreError) -> Self {
        Self::internal(&error)
    }
}
