//! The Open Inference Protocol, version 2, over gRPC: the service `inference.GRPCInferenceService`, on the
//! ports of HTTP.
//!
//! The same models, errors, limits and rows as over HTTP; [`ApiError`] becomes a status in `error` alone.
//! Statuses and their headers are tonic's.
//!
//! - `frames`: messages on the wire
//! - `infer`, `stream`: inferences, one by one and many; `outline` is what is known before a message is decoded,
//!   `rows` what stands in the inference table
//! - `service`: every other call
//! - `messages`: made of `daemon/proto/inference.proto`; `contents` is the one message that is read by hand

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode, Version};
use uuid::Uuid;

use crate::api::encoding::Encoding;
use crate::api::error::ApiError;
use crate::api::{Services, respond};
use crate::serving::ServeError;
use crate::telemetry::Histogram;

mod contents;
mod frames;
mod infer;
#[expect(
    unreachable_pub,
    clippy::doc_markdown,
    clippy::enum_variant_names,
    clippy::trivially_copy_pass_by_ref,
    reason = "made by prost-build"
)]
pub(in crate::api) mod messages;
mod outline;
mod rows;
mod service;
mod stream;

pub(crate) use frames::ReadMessageError;

use frames::{Messages, Whole};

/// Where the calls are.
const SERVICE: &str = "/inference.GRPCInferenceService/";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// Whether a request is a call of gRPC, of whatever service.
pub(crate) fn is_at(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    let rest = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("application/grpc"));
    let proto = rest
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(';') || rest.starts_with("+proto"));
    proto && head.version == Version::HTTP_2 && head.method == Method::POST
}

/// What a request gets that is at a call's path and [is no call](is_at); `None` for any other path.
pub(crate) fn refusal(path: &str) -> Option<ApiError> {
    path.starts_with(SERVICE).then(|| {
        ApiError::unsupported_media(
            "gRPC is spoken over HTTP/2 by POST, with content-type application/grpc",
        )
    })
}

/// Answers a call.
pub(crate) async fn answer(services: &Services, head: Parts, incoming: Incoming) -> Response<Body> {
    let arrived = services.serving.clock().monotonic();
    let mut messages = Messages::new(incoming);
    match head.uri.path().strip_prefix(SERVICE) {
        Some("ModelInfer") => {
            let (status, answer) = infer::unary(services, &head, &mut messages).await;
            count(services, status, Some(arrived));
            answer
        }
        Some("ModelStreamInfer") => match stream::terms(services, &head) {
            Ok(terms) => stream::open(services, head, messages, terms),
            Err(error) => {
                messages.discard().await;
                count(services, error.status, None);
                refuse(&error, services.serving.request_id())
            }
        },
        _ => {
            let answered = service::answer(services, &head, &mut messages).await;
            if answered.as_ref().map_or_else(is_still_sent, |_| true) {
                messages.discard().await;
            }
            let id = services.serving.request_id();
            match answered {
                Ok(message) => {
                    count(services, StatusCode::OK, None);
                    reply(message, None, id)
                }
                Err(error) => {
                    count(services, error.status, None);
                    refuse(&error, id)
                }
            }
        }
    }
}

/// Whether the client of a refused call may be sending still, and not out of time.
fn is_still_sent(error: &ApiError) -> bool {
    let late = [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT];
    !late.contains(&error.status)
}

/// Counts an answer; one to an inference with the time since it `arrived`.
fn count(services: &Services, status: StatusCode, arrived: Option<Duration>) {
    services.metrics.add(respond::counter_of(status), 1);
    if let Some(arrived) = arrived {
        let now = services.serving.clock().monotonic();
        let took = now.saturating_sub(arrived);
        services.metrics.observe(Histogram::Invocation, took);
    }
}

/// An answer of one message, which is framed already and may be compressed as `encoding` says.
fn reply(message: Bytes, encoding: Option<Encoding>, id: Uuid) -> Response<Body> {
    headed(Whole::body(message, good()), encoding, id)
}

/// The head of an answer.
fn headed(body: Body, encoding: Option<Encoding>, id: Uuid) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_ACCEPT_ENCODING, ENCODINGS);
    if let Some(encoding) = encoding {
        headers.insert(GRPC_ENCODING, encoding.name());
    }
    respond::name_request(&mut response, id);
    response
}

/// An answer that is an error: headers alone.
pub(crate) fn refuse(error: &ApiError, id: Uuid) -> Response<Body> {
    let mut response = headed(Body::empty(), None, id);
    response.headers_mut().extend(failed(error));
    response
}

/// The trailers of a good answer.
fn good() -> HeaderMap {
    trailers(&tonic::Status::ok(""))
}

/// Those of an error.
fn failed(error: &ApiError) -> HeaderMap {
    trailers(&error.grpc())
}

fn trailers(status: &tonic::Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    // Fails on a message that is no header, and tonic writes it in percent.
    drop(status.add_header(&mut headers));
    headers
}

/// What the head of a call says of its messages and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Terms {
    /// How messages are compressed that are marked so; answers are too then.
    encoding: Option<Encoding>,
    /// How long the client waits.
    deadline: Option<Duration>,
}

impl Terms {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let deadline = headers.get(GRPC_TIMEOUT).map(|value| {
            let text = value.to_str().ok();
            text.and_then(duration).ok_or_else(|| {
                ApiError::bad_request(
                    "grpc-timeout must be up to 8 digits and one of H, M, S, m, u, n",
                )
            })
        });
        Ok(Self {
            encoding: Encoding::named(headers, &GRPC_ENCODING)?,
            deadline: deadline.transpose()?,
        })
    }
}

/// Reads a time as gRPC writes it.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = (1..=8).contains(&digits.len()).then_some(digits)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Waits no longer than the client does.
async fn within<T, E: From<ApiError>>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(deadline) = deadline else {
        return work.await;
    };
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| Err(overdue(deadline).into()))
}

fn overdue(deadline: Duration) -> ApiError {
    ServeError::TimedOut(deadline).into()
}

#[cfg(test)]
mod tests;
