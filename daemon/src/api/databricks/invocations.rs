//! `POST /serving-endpoints/{name}/invocations`, and the same for one served entity.
//!
//! The path of every prediction: one exchange, one answer, one row, whatever the status. It stands
//! apart from the router because it is the path whose cost counts, and because it is found by its
//! last segments: endpoints called `chat` or `served-models` are legal.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::api::content_type::ScoringFormat;
use crate::api::error::ApiError;
use crate::api::{Services, auth, body, content_type, respond};
use crate::model::{parse_csv_body, parse_scoring_body};
use crate::serving::{Exchange, Invocation};

#[cfg(test)]
mod tests;

const SERVED_MODEL_NAME: HeaderName = HeaderName::from_static("served-model-name");

/// What an invocation's path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    endpoint: Cow<'a, str>,
    served_entity: Option<Cow<'a, str>>,
}

/// Reads a path; `None` when it is no invocation's.
pub(crate) fn target(path: &str) -> Option<Target<'_>> {
    let names = path.strip_prefix("/serving-endpoints/")?;
    let names = names.strip_suffix('/').unwrap_or(names);
    let names = names.strip_suffix("/invocations")?;
    let (endpoint, served_entity) = match names.split_once('/') {
        None => (names, None),
        Some((endpoint, rest)) => {
            let served_entity = rest.strip_prefix("served-models/")?;
            if served_entity.is_empty() || served_entity.contains('/') {
                return None;
            }
            (endpoint, Some(served_entity))
        }
    };
    if endpoint.is_empty() {
        return None;
    }
    Some(Target {
        endpoint: decoded(endpoint),
        served_entity: served_entity.map(decoded),
    })
}

/// Undoes percent-encoding; what is no valid encoding stays as it is and matches no name.
fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Cow::Borrowed(segment);
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// Answers a request whose path is a [`target`].
pub(crate) async fn answer(services: &Services, request: Request<Incoming>) -> Response<Body> {
    let (head, mut incoming) = request.into_parts();
    let Some(target) = target(head.uri.path()) else {
        return ApiError::no_route(head.uri.path()).into_response();
    };
    let traceparent = head.headers.get("traceparent");
    let traceparent = traceparent.and_then(|value| value.to_str().ok());
    let mut exchange = services.serving.open(&target.endpoint, traceparent);
    let served_entity = target.served_entity.as_deref();
    let outcome = predict(services, &mut exchange, &head, &mut incoming, served_entity).await;
    if outcome.is_err() && !head.headers.contains_key(EXPECT) {
        body::discard(&mut incoming).await;
    }
    let mut response = respond(&outcome, &exchange);
    if services.serving.admission().draining() {
        let close = HeaderValue::from_static("close");
        response.0.headers_mut().insert(CONNECTION, close);
    }
    let (response, body) = response;
    exchange.close(response.status().as_u16(), &body);
    response
}

/// From the head of the request to the answer's body.
async fn predict(
    services: &Services,
    exchange: &mut Exchange,
    head: &Parts,
    incoming: &mut Incoming,
    served_entity: Option<&str>,
) -> Result<Bytes, ApiError> {
    exchange.identify(auth::authenticate(&head.headers, &services.tokens)?);
    if head.method != Method::POST {
        return Err(ApiError::method_not_allowed(head.method.as_str()));
    }
    exchange.route(served_entity)?;
    let format = content_type::of_scoring(&head.headers)?;
    let declared = body::declared(incoming);
    let limit = services.serving.limits().body;
    body::check_length(declared, limit)?;
    let left = exchange.time_left();
    let permit = exchange.admit(declared)?;
    let body = body::read(incoming, limit, left, Some(permit)).await?;
    let decode = match format {
        ScoringFormat::Json => parse_scoring_body,
        ScoringFormat::Csv => parse_csv_body,
    };
    Ok(exchange.invoke(Invocation { body, decode }).await?)
}

/// The response, and its body once more for the row.
fn respond(outcome: &Result<Bytes, ApiError>, exchange: &Exchange) -> (Response<Body>, Bytes) {
    let (mut response, body) = match outcome {
        Ok(body) => (
            respond::raw_json(StatusCode::OK, body.clone()),
            body.clone(),
        ),
        Err(error) => {
            let body = error.body();
            (respond::error(error, body.clone()), body)
        }
    };
    respond::name_request(&mut response, exchange.request_id());
    if let Some(entity) = exchange.served_entity()
        && let Ok(name) = HeaderValue::from_str(entity.name.as_str())
    {
        response.headers_mut().insert(SERVED_MODEL_NAME, name);
    }
    (response, body)
}
