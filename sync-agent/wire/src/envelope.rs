//! The signed container: exact body bytes, and the registry's ed25519 signature over them.
//!
//! Owns: signing, and verification **before** any byte of the body is parsed.
//! Must never: re-serialise a body in order to check it, or accept an unsigned one.
//!
//! ```json
//! {"alg":"ed25519","kid":"<16 hex>","sig":"<base64, 64 bytes>","body":"<base64>"}
//! ```
//!
//! What the body is stands in its own first field, `schema`, inside the signed bytes
//! (`desired/0`, `receipt/0`), so that a signature over one can never be used as the other.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    json::{self, ParseJsonError},
    key::{KeyId, PinnedKey, RegistryKey, SIGNATURE_BYTES},
};

/// The largest body, in bytes: 256 KiB. In base64 it stays under [`json::MAX_JSON_BYTES`].
pub const MAX_BODY_BYTES: usize = 256 * 1024;

const ALGORITHM: &str = "ed25519";

/// A signed container, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEnvelope {
    alg: String,
    kid: KeyId,
    sig: String,
    body: String,
}

/// Why a container was not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyEnvelopeError {
    /// Not a container at all.
    #[error("container cannot be read")]
    Container(#[source] ParseJsonError),
    /// Signed by a method other than ed25519.
    #[error("signature algorithm `{0}` is not supported: ed25519")]
    Algorithm(String),
    /// Not the pinned key, not its signature, or not the bytes that were signed.
    #[error("signature does not belong to the pinned registry key {pinned} (container says {kid})")]
    Signature {
        /// The key id in the container.
        kid: KeyId,
        /// The key id that is pinned here.
        pinned: KeyId,
    },
    /// The signature or the body is not base64 of a length that can be right.
    #[error("field `{0}` of the container is malformed")]
    Malformed(&'static str),
}

impl SignedEnvelope {
    /// Signs `body`.
    #[must_use]
    pub fn sign(key: &RegistryKey, body: &[u8]) -> Self {
        Self {
            alg: ALGORITHM.to_owned(),
            kid: key.pinned().id(),
            sig: BASE64_STANDARD.encode(key.sign(body)),
            body: BASE64_STANDARD.encode(body),
        }
    }

    /// The container as it travels.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        json::bytes(self)
    }

    /// Reads a container and returns its body if, and only if, `key` signed exactly those bytes.
    ///
    /// # Errors
    /// Every way in which the container can be wrong; none of them has parsed the body.
    pub fn open(container: &[u8], key: &PinnedKey) -> Result<Vec<u8>, VerifyEnvelopeError> {
        let envelope: Self = json::parse(container).map_err(VerifyEnvelopeError::Container)?;
        envelope.verify(key)
    }

    /// Returns the body if, and only if, `key` signed exactly those bytes.
    ///
    /// # Errors
    /// As [`SignedEnvelope::open`].
    pub fn verify(&self, key: &PinnedKey) -> Result<Vec<u8>, VerifyEnvelopeError> {
        if self.alg != ALGORITHM {
            return Err(VerifyEnvelopeError::Algorithm(self.alg.clone()));
        }
        let signature: [u8; SIGNATURE_BYTES] = BASE64_STANDARD
            .decode(&self.sig)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(VerifyEnvelopeError::Malformed("sig"))?;
        let body = BASE64_STANDARD
            .decode(&self.body)
            .ok()
            .filter(|bytes| bytes.len() <= MAX_BODY_BYTES)
            .ok_or(VerifyEnvelopeError::Malformed("body"))?;
        if key.verifies(&body, &signature) {
            Ok(body)
        } else {
            Err(VerifyEnvelopeError::Signature {
                kid: self.kid.clone(),
                pinned: key.id(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
