//! What is answered without a token: probes, and what clients ask before they have one.

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::error::ApiError;
use super::openapi::Operation;
use super::respond;
use super::routes::Routes;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Where the document of this server is.
const DOCUMENT: &str = "/openapi.json";

/// Path, type and body of what is always the same.
///
/// `/.well-known/databricks-config` is asked by every databricks-sdk client when it is made, without
/// a token. An empty object tells it to use what it was given.
const FIXED: [(&str, &str, &str); 4] = [
    ("/ping", JSON, "\n"),
    ("/health", JSON, "\n"),
    ("/version", TEXT, env!("CARGO_PKG_VERSION")),
    ("/.well-known/databricks-config", JSON, "{}"),
];

/// What these routes are.
pub(crate) fn routes() -> Routes {
    let about = "What this document says.";
    let document = Operation::get(DOCUMENT, "openapi", about).open();
    let routes = Routes::new("probes").beside(document.gives("OpenApi"));
    FIXED
        .iter()
        .fold(routes, |routes, (path, content_type, _)| {
            let id = path.trim_start_matches(['/', '.']).replace('/', "-");
            let about = "Whether the server is there, and what it is.";
            let fixed = Operation::get(*path, id, about).open();
            routes.beside(fixed.gives_content(content_type, json!({})))
        })
}

/// Answers the routes that need no token; `None` for any other path. `document` is that of this server.
pub(crate) fn answer(method: &Method, path: &str, document: &Bytes) -> Option<Response<Body>> {
    let (content_type, body) = if path == DOCUMENT {
        (JSON, document.clone())
    } else {
        let (_, content_type, body) = FIXED.iter().find(|(fixed, ..)| *fixed == path)?;
        (*content_type, Bytes::from_static(body.as_bytes()))
    };
    if method != Method::GET && method != Method::HEAD {
        let allowed = Some("GET, HEAD");
        return Some(ApiError::method_not_allowed(method.as_str(), allowed).into_response());
    }
    let mut response = respond::raw_json(StatusCode::OK, body);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Some(response)
}
