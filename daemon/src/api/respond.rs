//! Answers as HTTP responses.

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::error::{ApiError, ErrorForm};
use crate::telemetry::Counter;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON body as it stands.
pub(crate) fn raw_json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// 200 with a value as JSON.
pub(crate) fn ok(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => raw_json(StatusCode::OK, body.into()),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

/// An error whose body was rendered already.
pub(crate) fn error(error: &ApiError, body: Bytes) -> Response<Body> {
    let mut response = raw_json(error.status, body);
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    } else if !error.worth_retrying() {
        // openai repeats 409 and every 5xx unless it is told not to.
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(methods) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if error.status == StatusCode::REQUEST_TIMEOUT {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Names the request in its answer.
pub(crate) fn name_request(response: &mut Response<Body>, id: Uuid) {
    let mut text = Uuid::encode_buffer();
    let text = id.as_hyphenated().encode_lower(&mut text);
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let body = self.body(ErrorForm::Databricks);
        let mut response = error(&self, body);
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives an error the body that the clients of its dialect read.
pub(crate) fn dress(response: &mut Response<Body>, form: ErrorForm) {
    if form != ErrorForm::Databricks
        && let Some(error) = response.extensions().get::<ApiError>()
    {
        let body = error.body(form);
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = body.into();
    }
}

/// Where an answer of that status is counted.
pub(crate) fn counter_of(status: StatusCode) -> Counter {
    if status.is_server_error() {
        Counter::ResponsesServerError
    } else if status.is_client_error() {
        Counter::ResponsesClientError
    } else {
        Counter::ResponsesGood
    }
}
