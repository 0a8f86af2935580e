//! The registry's key pair: the half that signs and the half that a device pins.
//!
//! Owns: ed25519 keys, their text forms and the key id.
//! Must never: print or serialise the secret half except through [`RegistryKey::seed`].
//!
//! Text of a pinned key: 64 lower-case hex digits, the 32 bytes of the public key.
//! Key id: the first 16 hex digits of the BLAKE3 of those 32 bytes.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use edgeward_base::digest::Digest;
use serde::{Deserialize, Serialize};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Names a public key in a signed container: 16 hex digits. A hint only: the pinned key decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    fn of(key: &VerifyingKey) -> Self {
        Self(
            Digest::of(key.as_bytes())
                .to_string()
                .chars()
                .take(16)
                .collect(),
        )
    }

    /// The 16 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The secret half, held by the registry alone.
#[derive(Clone)]
pub struct RegistryKey(SigningKey);

impl RegistryKey {
    /// The key made of 32 random bytes. The caller draws them and keeps them in a 0600 file.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32 secret bytes, to be written to a 0600 file and nowhere else.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The half that devices pin.
    #[must_use]
    pub fn pinned(&self) -> PinnedKey {
        PinnedKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, body: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(body).to_bytes()
    }
}

impl fmt::Debug for RegistryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("RegistryKey")
            .field(&self.pinned().id())
            .finish()
    }
}

/// The public half, pinned on a device when it is provisioned.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedKey(VerifyingKey);

impl PinnedKey {
    /// The key's short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    pub(crate) fn verifies(&self, body: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        self.0
            .verify_strict(body, &Signature::from_bytes(signature))
            .is_ok()
    }
}

impl fmt::Debug for PinnedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("PinnedKey")
            .field(&self.to_string())
            .finish()
    }
}

impl fmt::Display for PinnedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Text that is not a pinned key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Not 64 hex digits.
    #[error("a registry key is 64 hexadecimal digits")]
    Malformed,
    /// The bytes are no point of the curve, or one of small order that would verify anything.
    #[error("these 32 bytes are no ed25519 public key")]
    NotAKey,
}

impl FromStr for PinnedKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0_u8; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.is_ascii() {
            return Err(ParseKeyError::Malformed);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseKeyError::Malformed)?;
            if pair.starts_with('+') {
                return Err(ParseKeyError::Malformed);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseKeyError::Malformed)?;
        }
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| ParseKeyError::NotAKey)?;
        if key.is_weak() {
            Err(ParseKeyError::NotAKey)
        } else {
            Ok(Self(key))
        }
    }
}

impl TryFrom<String> for PinnedKey {
    type Error = ParseKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PinnedKey> for String {
    fn from(key: PinnedKey) -> Self {
        key.to_string()
    }
}

impl Serialize for PinnedKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PinnedKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
