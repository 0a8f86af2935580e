//! Acknowledgements: what became of a desired document on a device.
//!
//! Owns: the states of a document, and the codes of a refusal.
//! Must never: stand for a PUBACK, which says only that a broker took some bytes.
//!
//! ```text
//!            +-> waiting{for} -+
//! accepted --+                 +-> staging{bytes} --+-> applied{effective_hash} -> rolled_back{to}
//!            +-----------------+                    +-> rejected{code, detail}
//! ```

use std::{convert::Infallible, fmt};

use edgeward_base::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::ordering::{Generation, Kind};

/// What became of one desired document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Which kind of document.
    pub kind: Kind,
    /// Which document; absent when its signature was not believed, for then its generation is not
    /// either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// What became of it.
    #[serde(flatten)]
    pub state: AckState,
}

/// The states of a document on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AckState {
    /// Verified and held durably.
    Accepted,
    /// Held until the device holds the models that it requires.
    Waiting {
        /// The `models` document it waits for.
        #[serde(rename = "for")]
        awaited: Generation,
    },
    /// Its bytes are being fetched or its models loaded.
    Staging {
        /// Bytes held of those it needs.
        bytes_done: u64,
        /// Bytes it needs.
        bytes_total: u64,
    },
    /// In force.
    Applied {
        /// BLAKE3 of the canonical form of what is in force.
        effective_hash: Digest,
    },
    /// Refused for good: what ran before still runs.
    Rejected(Rejection),
    /// Was in force, failed, and was undone on the device.
    RolledBack {
        /// The document that is in force again.
        to: Generation,
    },
}

impl AckState {
    /// Whether nothing more will be said of this document unless it is rolled back.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Applied { .. } | Self::Rejected(_) | Self::RolledBack { .. }
        )
    }
}

/// Why something was refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// What programs compare.
    pub code: RejectCode,
    /// What people read: one sentence that names the field or the limit.
    pub detail: String,
}

impl Rejection {
    /// A refusal.
    #[must_use]
    pub fn new(code: RejectCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.detail)
    }
}

macro_rules! reject_codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal,)*) => {
        /// Why something was refused, as a word. The set is open: a newer peer may say more.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum RejectCode {
            $($(#[doc = $doc])* $variant,)*
            /// A word this version does not know.
            Other(String),
        }

        impl RejectCode {
            /// The word in JSON.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for RejectCode {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }
    };
}

reject_codes! {
    /// Not signed by the pinned key.
    BadSignature = "BAD_SIGNATURE",
    /// Signed, but for another device, fleet, scope or kind.
    WrongTarget = "WRONG_TARGET",
    /// A schema, kind or scope this version does not know.
    UnsupportedSchema = "UNSUPPORTED_SCHEMA",
    /// Older than a document already held.
    StaleGeneration = "STALE_GENERATION",
    /// Another document of the same generation is already held.
    GenerationConflict = "GENERATION_CONFLICT",
    /// The document breaks a rule; the detail names the field.
    Invalid = "INVALID",
    /// A model version is not in the catalogue, or its bytes are not at the registry.
    MissingArtifact = "MISSING_ARTIFACT",
    /// Assembled bytes do not have the digest they were asked for by.
    DigestMismatch = "DIGEST_MISMATCH",
    /// The disk cannot hold it.
    NoSpace = "NO_SPACE",
    /// Memory cannot hold it beside what runs.
    OomPredicted = "OOM_PREDICTED",
    /// No engine of this device runs the model.
    BackendUnsupported = "BACKEND_UNSUPPORTED",
    /// The model did not reproduce its known answers.
    VerificationFailed = "VERIFICATION_FAILED",
    /// It was in force and broke a guardrail.
    Guardrail = "GUARDRAIL",
    /// Someone on the device owns that endpoint.
    LocalOverride = "LOCAL_OVERRIDE",
    /// It took longer than allowed.
    Timeout = "TIMEOUT",
}

impl From<RejectCode> for String {
    fn from(code: RejectCode) -> Self {
        code.as_str().to_owned()
    }
}

impl std::str::FromStr for RejectCode {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(word.to_owned()))
    }
}

impl fmt::Display for RejectCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
