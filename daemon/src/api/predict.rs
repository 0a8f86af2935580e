//! Predict: the way of a prediction, whatever dialect asked for it.
//!
//! One exchange, one answer, one row, whatever the status. It stands apart from the router because it
//! is the path whose cost counts. A dialect reads the head, reads and writes the bodies, and says what
//! its errors look like; everything in between is the same for all.

use std::borrow::Cow;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::encoding::Encoding;
use super::error::{ApiError, ErrorForm};
use super::{Services, auth, body, respond};
use crate::serving::{Answered, Call, Choice, Exchange};

pub(crate) const SERVED_MODEL_NAME: HeaderName = HeaderName::from_static("served-model-name");

/// What the path of a prediction names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The endpoint.
    pub(crate) endpoint: Cow<'a, str>,
    /// What of it is to answer.
    pub(crate) wanted: Wanted<'a>,
}

/// Which of an endpoint's served entities is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// Any, by the traffic split.
    Split,
    /// The one of that name.
    Named(Cow<'a, str>),
    /// The one that serves that version.
    Version(Cow<'a, str>),
}

impl Wanted<'_> {
    fn choice(&self) -> Choice<'_> {
        match self {
            Self::Split => Choice::Split,
            Self::Named(name) => Choice::Named(name),
            Self::Version(version) => Choice::Version(version),
        }
    }
}

/// How a dialect predicts.
pub(crate) trait Dialect {
    /// Reads and writes its bodies.
    type Call: Call;
    /// What its errors look like.
    const ERRORS: ErrorForm;

    /// What the head says of the body and of the answer that is wanted.
    fn call(&self, head: &Parts) -> Result<Self::Call, ApiError>;

    /// The answer, and its text for the row.
    fn answer(&self, answered: Answered<Self::Call>) -> (Response<Body>, Bytes);
}

/// Answers a request for `target`.
pub(crate) async fn answer<D: Dialect>(
    services: &Services,
    head: &Parts,
    incoming: &mut Incoming,
    target: &Target<'_>,
    dialect: &D,
) -> Response<Body> {
    let mut exchange = open(services, head);
    exchange.aim(&target.endpoint);
    let outcome = predict(services, &mut exchange, head, incoming, target, dialect).await;
    let outcome = outcome.map(|answered| dialect.answer(answered));
    finish(services, exchange, (head, incoming), outcome, D::ERRORS).await
}

/// Takes note of a request.
pub(crate) fn open(services: &Services, head: &Parts) -> Exchange {
    let traceparent = head.headers.get("traceparent");
    services
        .serving
        .open(traceparent.and_then(|value| value.to_str().ok()))
}

/// From the head of the request to the answer's body.
async fn predict<D: Dialect>(
    services: &Services,
    exchange: &mut Exchange,
    head: &Parts,
    incoming: &mut Incoming,
    target: &Target<'_>,
    dialect: &D,
) -> Result<Answered<D::Call>, ApiError> {
    exchange.identify(auth::authenticate(&head.headers, &services.tokens)?);
    if head.method != Method::POST {
        return Err(ApiError::method_not_allowed(
            head.method.as_str(),
            Some("POST"),
        ));
    }
    exchange.route(target.wanted.choice())?;
    let call = dialect.call(head)?;
    let body = read(services, exchange, head, incoming).await?;
    Ok(exchange.invoke(body, call).await?)
}

/// Admits the body and reads it.
pub(crate) async fn read(
    services: &Services,
    exchange: &mut Exchange,
    head: &Parts,
    incoming: &mut Incoming,
) -> Result<Bytes, ApiError> {
    let encoding = Encoding::of_request(&head.headers)?;
    let declared = body::declared(incoming);
    let limit = services.serving.limits().body;
    body::check_length(declared, limit)?;
    let left = exchange.time_left();
    let permit = exchange.admit(declared)?;
    let body = body::read(incoming, encoding, limit, left, Some(permit)).await?;
    exchange.received(&body);
    Ok(body)
}

/// Gives the client its answer and the exchange its end. An outcome is an answer with its text for the
/// row.
pub(crate) async fn finish(
    services: &Services,
    exchange: Exchange,
    request: (&Parts, &mut Incoming),
    outcome: Result<(Response<Body>, Bytes), ApiError>,
    errors: ErrorForm,
) -> Response<Body> {
    let (head, incoming) = request;
    if outcome.is_err() && !head.headers.contains_key(EXPECT) {
        body::discard(incoming).await;
    }
    let (mut response, row) = outcome.unwrap_or_else(|error| {
        let body = error.body(errors);
        (respond::error(&error, body.clone()), body)
    });
    respond::name_request(&mut response, exchange.request_id());
    if let Some(entity) = exchange.served_entity()
        && let Ok(name) = HeaderValue::from_str(entity.name.as_str())
    {
        response.headers_mut().insert(SERVED_MODEL_NAME, name);
    }
    if services.serving.admission().draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    exchange.close(response.status().as_u16(), &row);
    response
}

/// Undoes percent-encoding; what is no valid encoding stays as it is and matches no name.
pub(crate) fn decoded(segment: &str) -> Cow<'_, str> {
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
