//! Probes and what clients ask before they have a token.

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

use axum::response::IntoResponse as _;

use super::error::ApiError;
use super::respond;

/// Answers the routes that need no token; `None` for any other path.
///
/// `/.well-known/databricks-config` is asked by every databricks-sdk client when it is made, without
/// a token. An empty object tells it to use what it was given.
pub(crate) fn answer(method: &Method, path: &str) -> Option<Response<Body>> {
    let (content_type, body) = match path {
        "/ping" | "/health" => ("application/json", "\n"),
        "/version" => ("text/plain", env!("CARGO_PKG_VERSION")),
        "/.well-known/databricks-config" => ("application/json", "{}"),
        _ => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        return Some(ApiError::method_not_allowed(method.as_str()).into_response());
    }
    let mut response = respond::raw_json(StatusCode::OK, body.into());
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Some(response)
}
