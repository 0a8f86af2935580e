use std::time::Duration;

use super::*;

/// The codes of mlflow's table; any other is shown to its user as 500.
const KNOWN_TO_MLFLOW: [&str; 21] = [
    "INTERNAL_ERROR",
    "INVALID_STATE",
    "DATA_LOSS",
    "NOT_IMPLEMENTED",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
    "ABORTED",
    "RESOURCE_CONFLICT",
    "ALREADY_EXISTS",
    "NOT_FOUND",
    "ENDPOINT_NOT_FOUND",
    "RESOURCE_DOES_NOT_EXIST",
    "PERMISSION_DENIED",
    "CUSTOMER_UNAUTHORIZED",
    "UNAUTHENTICATED",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_PARAMETER_VALUE",
];

fn named() -> edgeward_base::names::EndpointName {
    "fraud".parse().unwrap()
}

/// Errors of every kind with the status and code of contract section 2.
fn table() -> Vec<(ApiError, u16, &'static str)> {
    vec![
        (ApiError::unauthenticated(), 401, "UNAUTHENTICATED"),
        (LoginError::Refused.into(), 403, "PERMISSION_DENIED"),
        (
            LoginError::TooMany { after_seconds: 9 }.into(),
            429,
            "RESOURCE_EXHAUSTED",
        ),
        (ApiError::no_route("/x"), 404, "ENDPOINT_NOT_FOUND"),
        (
            ApiError::method_not_allowed("PUT", None),
            405,
            "BAD_REQUEST",
        ),
        (
            ServeError::UnknownEndpoint("x".into()).into(),
            404,
            "RESOURCE_DOES_NOT_EXIST",
        ),
        (
            ServeError::Loading(named()).into(),
            503,
            "TEMPORARILY_UNAVAILABLE",
        ),
        (
            ServeError::NotReady {
                endpoint: named(),
                reason: "load failed".into(),
            }
            .into(),
            400,
            "BAD_REQUEST",
        ),
        (AdmitError::Draining.into(), 503, "TEMPORARILY_UNAVAILABLE"),
        (
            AdmitError::TooManyRequests { ceiling: 1 }.into(),
            429,
            "RESOURCE_EXHAUSTED",
        ),
        (
            AdmitError::OutOfMemory { ceiling: 1 }.into(),
            429,
            "RESOURCE_EXHAUSTED",
        ),
        (
            ServeError::Compute(ComputeError::Displaced).into(),
            429,
            "RESOURCE_EXHAUSTED",
        ),
        (
            ServeError::Compute(ComputeError::QueueFull { ceiling: 1 }).into(),
            429,
            "RESOURCE_EXHAUSTED",
        ),
        (
            ServeError::Compute(ComputeError::Panicked {
                message: "x".into(),
            })
            .into(),
            500,
            "INTERNAL_ERROR",
        ),
        (
            ServeError::TimedOut(Duration::from_secs(1)).into(),
            504,
            "DEADLINE_EXCEEDED",
        ),
    ]
}

/// The same for bodies and endpoints.
fn more() -> Vec<(ApiError, u16, &'static str)> {
    vec![
        (
            ReadBodyError::TooLarge { limit: 1 }.into(),
            413,
            "BAD_REQUEST",
        ),
        (
            EndpointError::AlreadyExists(named()).into(),
            400,
            "RESOURCE_ALREADY_EXISTS",
        ),
        (
            EndpointError::UpdateInProgress(named()).into(),
            409,
            "RESOURCE_CONFLICT",
        ),
        (EndpointError::Busy.into(), 429, "RESOURCE_EXHAUSTED"),
        (
            EndpointError::Catalogue(ReadStoreError::Panicked {
                table: "models",
                message: "x".into(),
            })
            .into(),
            500,
            "INTERNAL_ERROR",
        ),
    ]
}

#[test]
fn statuses_and_codes_are_those_of_the_contract() {
    for (error, status, code) in table().into_iter().chain(more()) {
        assert_eq!((error.status.as_u16(), error.error_code), (status, code));
        assert!(KNOWN_TO_MLFLOW.contains(&code), "{code}");
        // What is retried says when; nothing else is retried.
        assert_eq!(error.retry_after.is_some(), matches!(status, 429 | 503));
    }
}

#[test]
fn the_body_has_two_keys_and_no_word_that_clients_retry_on() {
    for (words, _) in RETRY_WORDS {
        let error = ApiError::bad_request(format!("the model said: {words}! {words}"));
        let body: serde_json::Value =
            serde_json::from_slice(&error.body(ErrorForm::Databricks)).unwrap();
        let keys: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error_code", "message"]);
        assert!(!body.to_string().contains(words), "{body}");
        assert!(body.to_string().contains("the model said: "));
    }
    for (error, ..) in table().into_iter().chain(more()) {
        assert!(RETRY_WORDS.iter().all(|(w, _)| !error.message.contains(w)));
    }
}

#[test]
fn an_internal_error_keeps_its_causes_to_the_log() {
    let error = ApiError::from(EndpointError::Store(
        crate::store::CommitStoreError::Poisoned("disk /dev/sda1 failed".into()),
    ));
    assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!error.message.contains("sda1"), "{}", error.message);
}
