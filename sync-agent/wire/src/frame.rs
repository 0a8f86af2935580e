//! The frame around postcard: postcard does not describe itself, so a fixed head says what follows.
//!
//! Owns: the head and the two bounds of decoding. Must never: read a body of another schema or
//! revision than asked for, or leave bytes over.
//!
//! ```text
//! offset 0  magic   u16 little-endian, 0x5745 ("EW")
//!        2  schema  u16 little-endian, which message
//!        4  rev     u16 little-endian, which frozen form of it
//!        6  body    postcard, to the end
//! ```
//!
//! A struct that has been released in a revision is frozen; a change is a new revision.

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: [u8; 2] = *b"EW";
const HEAD_BYTES: usize = 6;

/// A message that travels in a frame.
pub trait Framed: Serialize + DeserializeOwned {
    /// Which message: unique among all framed messages.
    const SCHEMA: u16;
    /// Which frozen form of it.
    const REVISION: u16;
    /// The largest frame, head included, in bytes.
    const MAX_BYTES: usize;
}

/// Why bytes are not the frame that was expected.
#[derive(Debug, thiserror::Error)]
pub enum ParseFrameError {
    /// Longer than the message can be.
    #[error("frame of {actual} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes received.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No frame of ours.
    #[error("bytes do not start with the head of a frame")]
    NotAFrame,
    /// A frame of another message or revision.
    #[error(
        "frame has schema {schema} revision {revision}, expected {expected} revision {expected_revision}"
    )]
    Unsupported {
        /// Schema in the head.
        schema: u16,
        /// Revision in the head.
        revision: u16,
        /// Schema asked for.
        expected: u16,
        /// Revision asked for.
        expected_revision: u16,
    },
    /// The body does not decode.
    #[error("body of the frame cannot be decoded")]
    Body(#[source] postcard::Error),
    /// The body is followed by more.
    #[error("frame has {0} bytes too many")]
    Trailing(usize),
}

/// Writes `message` in its frame.
#[must_use]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "framed messages are plain structs of numbers and bytes, which postcard cannot fail to write to memory"
)]
pub fn bytes<T: Framed>(message: &T) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + 64);
    frame.extend(MAGIC);
    frame.extend(T::SCHEMA.to_le_bytes());
    frame.extend(T::REVISION.to_le_bytes());
    postcard::to_extend(message, frame).expect("encode a framed message")
}

/// Reads a `T` from its frame, and nothing but a `T`.
///
/// # Errors
/// Every way in which the bytes can be something else.
pub fn parse<T: Framed>(frame: &[u8]) -> Result<T, ParseFrameError> {
    if frame.len() > T::MAX_BYTES {
        return Err(ParseFrameError::TooLarge {
            actual: frame.len(),
            limit: T::MAX_BYTES,
        });
    }
    let (head, body) = frame
        .split_first_chunk::<HEAD_BYTES>()
        .ok_or(ParseFrameError::NotAFrame)?;
    let [
        first,
        second,
        schema_low,
        schema_high,
        revision_low,
        revision_high,
    ] = *head;
    if [first, second] != MAGIC {
        return Err(ParseFrameError::NotAFrame);
    }
    let schema = u16::from_le_bytes([schema_low, schema_high]);
    let revision = u16::from_le_bytes([revision_low, revision_high]);
    if (schema, revision) != (T::SCHEMA, T::REVISION) {
        return Err(ParseFrameError::Unsupported {
            schema,
            revision,
            expected: T::SCHEMA,
            expected_revision: T::REVISION,
        });
    }
    let (message, rest) = postcard::take_from_bytes(body).map_err(ParseFrameError::Body)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(ParseFrameError::Trailing(rest.len()))
    }
}
