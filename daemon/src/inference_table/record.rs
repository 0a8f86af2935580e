//! One row: what the request path hands over, and what the write-ahead log stores of it.
//!
//! Owns the two forms of a row and the bridge between them. [`Row`] is what `serving` fills in;
//! [`StoredRow`] borrows from it on the way in and from a frame on the way out, so that neither
//! way copies a text twice.
//!
//! Stored form, version 0: the fields of [`StoredRow`] in their order, as postcard (integers as
//! variable-length numbers, signed ones zigzag; texts and lists with their length before them;
//! one byte before each optional value). What can be derived is not stored: `request_date`,
//! `execution_duration_ms` and `request_metadata` come from other columns, `device_id`, `boot_id`
//! and `sequence` from the segment that holds the row.
//!
//! A request or response that is over the cap is not stored; neither is a larger one while the
//! disk is short, or one that is not UTF-8, because the column is text. The row stays, with a null and a code that says why.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use edgeward_base::clock::ClockQuality;
use edgeward_base::names::{
    EndpointName, ModelName, ModelVersion, Principal, ServedEntityName, TableName,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::policy::TablePolicy;

#[cfg(test)]
mod tests;

/// One request and its answer, as the request path saw them.
///
/// `None` stands for null in the table: a request that was refused before it was routed has no
/// served entity, no engine and no configuration.
#[derive(Debug, Clone)]
pub struct Row {
    /// Arrival, microseconds since the Unix epoch, UTC.
    pub request_time_us: i64,
    /// Arrival, microseconds since the process started.
    pub monotonic_us: u64,
    /// Whether `request_time_us` can be trusted.
    pub clock_quality: ClockQuality,
    /// UUID version 7; column `databricks_request_id` and reply header `x-request-id`.
    pub request_id: Uuid,
    /// The client's own id, from the body.
    pub client_request_id: Option<String>,
    /// W3C trace id, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The client's own labels, from the body.
    pub usage_context: Vec<(String, String)>,
    /// HTTP status of the answer.
    pub status_code: u16,
    /// The fraction of requests that were logged at that moment, 0 to 1.
    pub sampling_fraction: f64,
    /// The request's body.
    pub request: Option<Bytes>,
    /// The answer's body; of a streamed answer, the assembled object.
    pub response: Option<Bytes>,
    /// Who asked: the token's principal.
    pub requester: Option<Principal>,
    /// The endpoint that was asked.
    pub endpoint_name: Option<EndpointName>,
    /// Id of the served entity that answered, 32 hexadecimal digits.
    pub served_entity_id: Option<Arc<str>>,
    /// Name of the served entity that answered.
    pub served_entity_name: Option<ServedEntityName>,
    /// The model that it serves.
    pub entity_name: Option<ModelName>,
    /// The version of that model.
    pub entity_version: Option<ModelVersion>,
    /// Version of the endpoint's configuration that routed the request.
    pub config_version: Option<u64>,
    /// Hash of what was in effect when the request was routed.
    pub effective_hash: Option<Arc<str>>,
    /// What computed the answer: `tract`, `burn-wgpu`, `candle`, `external` or `cache`.
    pub engine: Option<&'static str>,
    /// Whether the answer was streamed.
    pub streaming: bool,
    /// Time in the queue, microseconds.
    pub queue_duration_us: u64,
    /// Time in the model, microseconds.
    pub execution_duration_us: u64,
    /// Tokens read, where the model counts tokens.
    pub input_tokens: Option<u64>,
    /// Tokens written, where the model counts tokens.
    pub output_tokens: Option<u64>,
    /// Arrival to first token, microseconds, where the answer was streamed.
    pub time_to_first_token_us: Option<u64>,
}

impl Row {
    /// A row of a request that got no further than its arrival, logged in full; the caller sets
    /// what it knows beyond that.
    #[must_use]
    pub fn new(request_id: Uuid, request_time_us: i64) -> Self {
        Self {
            request_time_us,
            monotonic_us: 0,
            clock_quality: ClockQuality::Unsynced,
            request_id,
            client_request_id: None,
            trace_id: None,
            usage_context: Vec::new(),
            status_code: 200,
            sampling_fraction: 1.0,
            request: None,
            response: None,
            requester: None,
            endpoint_name: None,
            served_entity_id: None,
            served_entity_name: None,
            entity_name: None,
            entity_version: None,
            config_version: None,
            effective_hash: None,
            engine: None,
            streaming: false,
            queue_duration_us: 0,
            execution_duration_us: 0,
            input_tokens: None,
            output_tokens: None,
            time_to_first_token_us: None,
        }
    }

    /// The stored form as bytes, of what `policy` keeps; and whether a payload was left out
    /// because the disk is short.
    pub(super) fn encode(&self, policy: &TablePolicy) -> Result<(Vec<u8>, bool), postcard::Error> {
        let stored = StoredRow::of(self, policy);
        let shed = stored.logging_error_codes.iter().any(|code| code.is_shed());
        let texts = stored.request.map_or(0, str::len) + stored.response.map_or(0, str::len);
        let bytes = postcard::to_extend(&stored, Vec::with_capacity(texts + TYPICAL_REST))?;
        Ok((bytes, shed))
    }
}

/// A row on its way to the log.
#[derive(Debug)]
pub(super) struct OfferedRow {
    pub(super) table: TableName,
    /// Whose loss it is if it is lost; not kept for `_unmatched`, whose names anybody can invent.
    pub(super) endpoint: Option<EndpointName>,
    pub(super) time_us: i64,
    /// The stored form.
    pub(super) bytes: Vec<u8>,
}

/// Bytes that a row takes beside its request and response; a guess that saves reallocations.
const TYPICAL_REST: usize = 320;

/// Why a row lacks its request or its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LoggingErrorCode {
    /// The request is over the cap.
    MaxRequestSizeExceeded,
    /// The response is over the cap.
    MaxResponseSizeExceeded,
    /// The request is not UTF-8.
    RequestNotUtf8,
    /// The response is not UTF-8.
    ResponseNotUtf8,
    /// The request is larger than what is kept while the disk is short.
    RequestShed,
    /// The response is larger than what is kept while the disk is short.
    ResponseShed,
}

impl LoggingErrorCode {
    /// The word in the column `logging_error_codes`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::MaxRequestSizeExceeded => "MAX_REQUEST_SIZE_EXCEEDED",
            Self::MaxResponseSizeExceeded => "MAX_RESPONSE_SIZE_EXCEEDED",
            Self::RequestNotUtf8 => "REQUEST_NOT_UTF8",
            Self::ResponseNotUtf8 => "RESPONSE_NOT_UTF8",
            Self::RequestShed => "REQUEST_SHED",
            Self::ResponseShed => "RESPONSE_SHED",
        }
    }

    fn is_shed(self) -> bool {
        matches!(self, Self::RequestShed | Self::ResponseShed)
    }
}

/// A row as the write-ahead log holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredRow<'a> {
    pub(super) request_time_us: i64,
    pub(super) monotonic_us: u64,
    pub(super) clock_synced: bool,
    pub(super) request_id: [u8; 16],
    pub(super) client_request_id: Option<&'a str>,
    pub(super) trace_id: Option<&'a str>,
    #[serde(borrow)]
    pub(super) usage_context: Vec<(&'a str, &'a str)>,
    pub(super) status_code: u16,
    pub(super) sampling_fraction: f64,
    pub(super) request: Option<&'a str>,
    pub(super) response: Option<&'a str>,
    pub(super) logging_error_codes: Vec<LoggingErrorCode>,
    pub(super) requester: Option<&'a str>,
    pub(super) endpoint_name: Option<&'a str>,
    pub(super) served_entity_id: Option<&'a str>,
    pub(super) served_entity_name: Option<&'a str>,
    pub(super) entity_name: Option<&'a str>,
    pub(super) entity_version: Option<u64>,
    pub(super) config_version: Option<u64>,
    pub(super) effective_hash: Option<&'a str>,
    pub(super) engine: Option<&'a str>,
    pub(super) streaming: bool,
    pub(super) queue_duration_us: u64,
    pub(super) execution_duration_us: u64,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) time_to_first_token_us: Option<u64>,
}

impl<'a> StoredRow<'a> {
    /// Borrows what is to be stored of `row`.
    pub(super) fn of(row: &'a Row, policy: &TablePolicy) -> Self {
        use LoggingErrorCode::{
            MaxRequestSizeExceeded, MaxResponseSizeExceeded, RequestNotUtf8, RequestShed,
            ResponseNotUtf8, ResponseShed,
        };
        let mut codes = Vec::new();
        let mut text = |payload: Option<&'a Bytes>, over_cap, shed, not_utf8| {
            let payload = payload?;
            if payload.len() > policy.payload_cap {
                codes.push(over_cap);
                return None;
            }
            if policy.shed_cap.is_some_and(|most| payload.len() > most) {
                codes.push(shed);
                return None;
            }
            std::str::from_utf8(payload)
                .map_err(|_| codes.push(not_utf8))
                .ok()
        };
        let request = text(
            row.request.as_ref(),
            MaxRequestSizeExceeded,
            RequestShed,
            RequestNotUtf8,
        );
        let response = text(
            row.response.as_ref(),
            MaxResponseSizeExceeded,
            ResponseShed,
            ResponseNotUtf8,
        );
        Self {
            request_time_us: row.request_time_us,
            monotonic_us: row.monotonic_us,
            clock_synced: row.clock_quality == ClockQuality::Ntp,
            request_id: row.request_id.into_bytes(),
            client_request_id: row.client_request_id.as_deref(),
            trace_id: row.trace_id.as_deref(),
            usage_context: pairs(&row.usage_context),
            status_code: row.status_code,
            sampling_fraction: row.sampling_fraction * policy.fraction(),
            request,
            response,
            logging_error_codes: codes,
            requester: row.requester.as_ref().map(Principal::as_str),
            endpoint_name: row.endpoint_name.as_ref().map(EndpointName::as_str),
            served_entity_id: row.served_entity_id.as_deref(),
            served_entity_name: row
                .served_entity_name
                .as_ref()
                .map(ServedEntityName::as_str),
            entity_name: row.entity_name.as_ref().map(ModelName::as_str),
            entity_version: row.entity_version.map(ModelVersion::get),
            config_version: row.config_version,
            effective_hash: row.effective_hash.as_deref(),
            engine: row.engine,
            streaming: row.streaming,
            queue_duration_us: row.queue_duration_us,
            execution_duration_us: row.execution_duration_us,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            time_to_first_token_us: row.time_to_first_token_us,
        }
    }

    /// The column `request_metadata`: what is known of endpoint, model and version.
    pub(super) fn request_metadata(&self) -> [(&'static str, Option<Cow<'a, str>>); 3] {
        [
            ("endpoint_name", self.endpoint_name.map(Cow::Borrowed)),
            ("model_name", self.entity_name.map(Cow::Borrowed)),
            (
                "model_version",
                self.entity_version
                    .map(|version| Cow::Owned(version.to_string())),
            ),
        ]
    }
}

fn pairs(labels: &[(String, String)]) -> Vec<(&str, &str)> {
    labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}
