//! The Open Inference Protocol, version 2: what clients of Triton and `KServe` speak, over HTTP and gRPC.
//!
//! A model is a serving endpoint, a version the entity version that one of its served entities has;
//! without one the traffic split decides. Tensors are those of the model itself, under its own names,
//! whatever the signature calls columns.
//!
//! - `models`: what a server and its models are, and how they do; `metadata` says it over HTTP
//! - `request`, `answer`: the JSON of an inference and the raw tensors behind it
//! - `tensors`: the tensors of a request beside those of its model; `datatype`: element types and their bytes
//! - `grpc`: all of it in messages
//!
//! # Bodies of HTTP
//!
//! JSON, and after it, where the header `Inference-Header-Content-Length` says how long the JSON is, the
//! raw tensors in the order in which the JSON announces them with `binary_data_size`. Both ways may be
//! compressed. The row of a request with raw tensors shows `{"header": ..., "binary_data": "base64"}`.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edgeward_kernels::tensor::Tensor;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::encoding::Encoding;
use super::error::{ApiError, ErrorForm};
use super::openapi::{OF_PREDICTION, Operation};
use super::predict::{Dialect, Target, Wanted as Version, decoded};
use super::respond;
use crate::model::{ScoreError, Scorer};
use crate::serving::{Answered, Call, Noted};

mod answer;
mod datatype;
pub(crate) mod grpc;
mod metadata;
mod models;
mod request;
mod tensors;

use request::Request;
use tensors::Wanted;

pub(crate) use metadata::{probe, routes};

/// How long the JSON of a body is that has raw tensors behind it.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Raw tensors up to this size stand in the row as text; a row would not keep more.
const MOST_SHOWN: usize = 1 << 20;

/// Reads a path; `None` when it is no inference.
pub(crate) fn target(path: &str) -> Option<Target<'_>> {
    let names = path.strip_prefix("/v2/models/")?;
    let names = names.strip_suffix('/').unwrap_or(names);
    let names = names.strip_suffix("/infer")?;
    let (endpoint, wanted) = match names.split_once('/') {
        None => (names, Version::Split),
        Some((endpoint, rest)) => {
            let version = rest.strip_prefix("versions/")?;
            if version.is_empty() || version.contains('/') {
                return None;
            }
            (endpoint, Version::Version(decoded(version)))
        }
    };
    (!endpoint.is_empty()).then(|| Target {
        endpoint: decoded(endpoint),
        wanted,
    })
}

/// What is asked and given.
fn operation(model: &str, suffix: &str) -> Operation {
    let about = "Asks a model; raw tensors may follow the JSON of both ways.";
    let body = json!({
        "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
        "application/octet-stream": {},
    });
    Operation::post(format!("{model}/infer"), format!("infer{suffix}"), about)
        .with("Inference-Header-Content-Length")
        .takes_content(&body)
        .gives("InferAnswer")
        .gives_content("application/octet-stream", json!({}))
        .says("Served-Model-Name")
        .says("Inference-Header-Content-Length")
        .refuses(OF_PREDICTION)
}

/// Inferences over HTTP.
#[derive(Debug)]
pub(crate) struct OpenInference;

impl Dialect for OpenInference {
    type Call = Infer;
    const ERRORS: ErrorForm = ErrorForm::OpenInference;

    fn call(&self, head: &Parts) -> Result<Infer, ApiError> {
        Infer::asked_by(head)
    }

    fn answer(&self, answered: Answered<Infer>) -> (Response<Body>, Bytes) {
        let Answered { body, call } = answered;
        let row = call.shown.unwrap_or_else(|| body.clone());
        let mut response = respond::raw_json(StatusCode::OK, body);
        let headers = response.headers_mut();
        if let Some(length) = call.answer_header {
            headers.insert(HEADER_LENGTH, length.into());
            let raw = HeaderValue::from_static("application/octet-stream");
            headers.insert(CONTENT_TYPE, raw);
        }
        if let Some(encoding) = call.answer_encoding {
            headers.insert(CONTENT_ENCODING, encoding.name());
        }
        (response, row)
    }
}

/// One inference: its framing, its tensors, and its answer.
#[derive(Debug, Default)]
pub struct Infer {
    /// What the client calls the model.
    model: String,
    /// How long the JSON is, when raw tensors follow.
    header: Option<usize>,
    /// How the client takes its answer compressed.
    encoding: Option<Encoding>,
    /// The client's own name for the request.
    id: Option<String>,
    /// The outputs that are wanted.
    wanted: Vec<Wanted>,
    /// How long the JSON of the answer is, when raw tensors follow.
    answer_header: Option<usize>,
    /// How the answer is compressed.
    answer_encoding: Option<Encoding>,
    /// The answer as its row shows it, where its body is no text.
    shown: Option<Bytes>,
}

impl Infer {
    /// The inference that a request asks for, as far as its head says.
    ///
    /// # Errors
    /// [`ApiError`], with status 400, when the length of the JSON is no whole number.
    pub fn asked_by(head: &Parts) -> Result<Self, ApiError> {
        let header = head.headers.get(HEADER_LENGTH).map(|value| {
            let length = value.to_str().ok().and_then(|text| text.parse().ok());
            length.ok_or_else(|| {
                ApiError::bad_request(format!("header {HEADER_LENGTH} must be a whole number"))
            })
        });
        let target = target(head.uri.path());
        Ok(Self {
            model: target.map_or_else(String::new, |target| target.endpoint.into_owned()),
            header: header.transpose()?,
            encoding: Encoding::of_answer(&head.headers),
            ..Self::default()
        })
    }
}

impl Call for Infer {
    fn read(
        &mut self,
        body: &Bytes,
        scorer: &Scorer,
        noted: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError> {
        let length = self.header.unwrap_or(body.len());
        let (json, raw) = body.split_at_checked(length).ok_or_else(|| {
            ScoreError::bad_request(format!(
                "header {HEADER_LENGTH} says {length}, the body has {} bytes",
                body.len()
            ))
        })?;
        if !raw.is_empty() {
            noted.request = shown(json, raw);
        }
        let request = Request::parse(json)?;
        self.id.clone_from(&request.id);
        noted.client_request_id.clone_from(&request.id);
        self.wanted = request.wanted(scorer.session().outputs())?;
        request.tensors(scorer.session().inputs(), raw)
    }

    fn write(&mut self, scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        let id = self.id.as_deref();
        let written = answer::write(&self.model, id, &self.wanted, scorer, outputs)?;
        self.answer_header = written.header;
        let body = Bytes::from(written.body);
        if let Some((json, raw)) = written.header.and_then(|at| body.split_at_checked(at)) {
            self.shown = shown(json, raw);
        }
        if let Some(encoding) = self.encoding
            && let Some(compressed) = encoding.compress(&body)
        {
            self.answer_encoding = Some(encoding);
            self.shown.get_or_insert(body);
            return Ok(compressed);
        }
        Ok(body)
    }
}

/// A body with raw tensors as text; `None` where it is too long to be kept in a row anyway.
fn shown(json: &[u8], raw: &[u8]) -> Option<Bytes> {
    if raw.len() > MOST_SHOWN {
        return None;
    }
    let mut text = Vec::with_capacity(json.len() + raw.len().div_ceil(3) * 4 + 32);
    text.extend_from_slice(b"{\"header\":");
    text.extend_from_slice(json);
    text.extend_from_slice(b",\"binary_data\":\"");
    text.extend_from_slice(STANDARD.encode(raw).as_bytes());
    text.extend_from_slice(b"\"}");
    Some(text.into())
}

#[cfg(test)]
mod tests;
