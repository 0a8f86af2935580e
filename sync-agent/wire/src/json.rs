//! Bounded JSON in and out: the one place that parses text from the broker.
//!
//! Owns: the size limit of a JSON message and the two ways it can fail.
//! Must never: parse before it has looked at the length.

use serde::{Serialize, de::DeserializeOwned};

/// The largest JSON message, in bytes, that either end reads: 512 KiB.
pub const MAX_JSON_BYTES: usize = 512 * 1024;

/// Why a JSON message was not read.
#[derive(Debug, thiserror::Error)]
pub enum ParseJsonError {
    /// The message is longer than [`MAX_JSON_BYTES`].
    #[error("message of {actual} bytes is over the limit of {MAX_JSON_BYTES}")]
    TooLarge {
        /// Bytes received.
        actual: usize,
    },
    /// The message is not the JSON that was expected.
    #[error("message is not valid")]
    Invalid(#[source] serde_json::Error),
}

/// Reads one JSON message.
///
/// # Errors
/// When it is too large or not of the type `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseJsonError> {
    if bytes.len() > MAX_JSON_BYTES {
        return Err(ParseJsonError::TooLarge {
            actual: bytes.len(),
        });
    }
    serde_json::from_slice(bytes).map_err(ParseJsonError::Invalid)
}

/// Writes one JSON message. Maps are ordered and fields are in the order of their declaration, so
/// equal values give equal bytes.
#[must_use]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the types of this crate have string keys only and cannot fail to serialise into memory"
)]
pub fn bytes<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("serialise a message of this crate")
}
