//! Blobs: bytes named by their digest (a manifest, a model file) that the device pulls.
//!
//! Owns: the request for a window of chunks, and the answer that there is no such blob.
//! Must never: be answered with more chunks than were asked for.
//!
//! ```text
//! device   --> bulk/{id}/blob/{digest}/req      BlobRequest{digest, wanted}
//! registry --> bulk/{id}/blob/{digest}/c        one chunk frame for each chunk wanted
//!          or  bulk/{id}/blob/{digest}/missing  BlobMissing{digest}
//! ```

use edgeward_base::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::chunk::Wanted;

/// The device asks for chunks of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRequest {
    /// Which blob.
    pub digest: Digest,
    /// Which of its chunks.
    pub wanted: Wanted,
}

/// The registry has no such blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobMissing {
    /// Which blob.
    pub digest: Digest,
}
