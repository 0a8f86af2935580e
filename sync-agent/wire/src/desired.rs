//! Desired documents: what the registry wants a device to hold and to run.
//!
//! Owns: the signed body, who it is for, and its verification up to a validated document.
//! Must never: hand out a document whose signature, target or rules were not checked.
//!
//! Body inside the signed container, fields in this order:
//!
//! ```json
//! {"schema":"desired/0","fleet":"plant","scope":"device","target":"box-1","kind":"endpoints",
//!  "epoch":1,"generation":7,"created_unix_ms":1790000000000,"doc":{ ... }}
//! ```
//!
//! `doc` is a [`ModelsDocument`] or an [`EndpointsDocument`], whole: what is absent is not wanted.
//! `created_unix_ms` is for people; order is (epoch, generation) alone.

mod endpoints;
mod models;

use edgeward_base::{
    digest::Digest,
    names::{DeviceId, FleetId},
};
use serde::{Deserialize, Serialize};

pub use self::{
    endpoints::{
        AutoCaptureConfig, EndpointDocument, EndpointsDocument, MAX_ENDPOINTS, MAX_SERVED_ENTITIES,
        Requires, Route, ServedEntityDocument, TrafficConfig,
    },
    models::{MAX_MODELS, ModelEntry, ModelsDocument},
};
use crate::{
    ack::{RejectCode, Rejection},
    envelope::{SignedEnvelope, VerifyEnvelopeError},
    json::{self, ParseJsonError},
    key::{PinnedKey, RegistryKey},
    ordering::{DocumentIdentity, Generation, Kind},
};

const SCHEMA: &str = "desired/0";
const SCOPE_DEVICE: &str = "device";

/// Who a document is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Whose registry speaks.
    pub fleet: FleetId,
    /// For which device.
    pub device: DeviceId,
    /// Of what.
    pub kind: Kind,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// The catalogue of model versions.
    Models(ModelsDocument),
    /// The serving endpoints.
    Endpoints(EndpointsDocument),
}

impl Document {
    /// Which kind of document it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Models(_) => Kind::Models,
            Self::Endpoints(_) => Kind::Endpoints,
        }
    }

    /// Checks every rule of the document.
    ///
    /// # Errors
    /// The first rule that is broken, with its field.
    pub fn validate(&self) -> Result<(), InvalidDocument> {
        match self {
            Self::Models(models) => models.validate(),
            Self::Endpoints(endpoints) => endpoints.validate(),
        }
    }
}

/// A document that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {reason}")]
pub struct InvalidDocument {
    /// Where, as a path into the document.
    pub field: String,
    /// What is allowed.
    pub reason: String,
}

impl InvalidDocument {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A document that was verified, is for this device, and keeps every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDocument {
    /// Its place in the order, and the digest of its signed body.
    pub identity: DocumentIdentity,
    /// When the registry made it, by the registry's clock, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// What is wanted.
    pub document: Document,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<D> {
    schema: String,
    fleet: FleetId,
    scope: String,
    target: String,
    kind: String,
    epoch: u64,
    generation: u64,
    created_unix_ms: i64,
    doc: D,
}

/// Why a document was not accepted, before its order was looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyDesiredError {
    /// Not signed by the pinned key.
    #[error("document is not signed by the registry")]
    Envelope(#[source] VerifyEnvelopeError),
    /// Signed, but not a body that can be read.
    #[error("body of the document cannot be read")]
    Body(#[source] ParseJsonError),
    /// A schema, scope or kind this version does not know.
    #[error("{field} `{actual}` is not supported: {supported}")]
    Unsupported {
        /// Which field of the body.
        field: &'static str,
        /// What it says.
        actual: String,
        /// What it may say.
        supported: &'static str,
    },
    /// Signed for somebody else, or for another kind than its topic says.
    #[error("document is meant for {field} `{actual}`, not `{expected}`")]
    WrongTarget {
        /// Which field of the body.
        field: &'static str,
        /// What it says.
        actual: String,
        /// What it would have to say.
        expected: String,
    },
    /// Breaks a rule. The generation is believed: it was signed for this device.
    #[error("document {generation} breaks a rule")]
    Invalid {
        /// Which document.
        generation: Generation,
        /// Which rule.
        #[source]
        source: InvalidDocument,
    },
}

impl VerifyDesiredError {
    /// What the device says of it.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        let code = match self {
            Self::Envelope(VerifyEnvelopeError::Container(_)) | Self::Body(_) => {
                RejectCode::Invalid
            }
            Self::Envelope(_) => RejectCode::BadSignature,
            Self::Unsupported { .. } => RejectCode::UnsupportedSchema,
            Self::WrongTarget { .. } => RejectCode::WrongTarget,
            Self::Invalid { .. } => RejectCode::Invalid,
        };
        let mut detail = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            detail = format!("{detail}: {error}");
            source = error.source();
        }
        Rejection::new(code, detail)
    }

    /// Which document it was, when that can be believed.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        match self {
            Self::Invalid { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

impl DesiredDocument {
    /// Signs a document for one device.
    ///
    /// # Errors
    /// When the document breaks a rule: nothing invalid is ever signed.
    pub fn sign(
        key: &RegistryKey,
        fleet: &FleetId,
        device: &DeviceId,
        generation: Generation,
        created_unix_ms: i64,
        document: &Document,
    ) -> Result<SignedEnvelope, InvalidDocument> {
        document.validate()?;
        let doc = match document {
            Document::Models(models) => serde_json::to_value(models),
            Document::Endpoints(endpoints) => serde_json::to_value(endpoints),
        }
        .map_err(|error| InvalidDocument::new("doc", error.to_string()))?;
        let body = json::bytes(&Body {
            schema: SCHEMA.to_owned(),
            fleet: fleet.clone(),
            scope: SCOPE_DEVICE.to_owned(),
            target: device.to_string(),
            kind: document.kind().to_string(),
            epoch: generation.epoch,
            generation: generation.generation,
            created_unix_ms,
            doc,
        });
        if body.len() > crate::envelope::MAX_BODY_BYTES {
            return Err(InvalidDocument::new("doc", "256 KiB at most"));
        }
        Ok(SignedEnvelope::sign(key, &body))
    }

    /// Verifies the signature, then reads the body, then checks that it is for `address`, then
    /// every rule.
    ///
    /// # Errors
    /// The first of these that fails.
    pub fn verify(
        container: &[u8],
        key: &PinnedKey,
        address: &Address,
    ) -> Result<Self, VerifyDesiredError> {
        let bytes = SignedEnvelope::open(container, key).map_err(VerifyDesiredError::Envelope)?;
        let body: Body<serde_json::Value> =
            json::parse(&bytes).map_err(VerifyDesiredError::Body)?;
        body.check_support()?;
        body.check_address(address)?;
        let generation = Generation::new(body.epoch, body.generation);
        let read = match address.kind {
            Kind::Models => serde_json::from_value(body.doc).map(Document::Models),
            Kind::Endpoints => serde_json::from_value(body.doc).map(Document::Endpoints),
        };
        let document = read
            .map_err(|error| InvalidDocument::new("doc", error.to_string()))
            .and_then(|document| document.validate().map(|()| document))
            .map_err(|source| VerifyDesiredError::Invalid { generation, source })?;
        Ok(Self {
            identity: DocumentIdentity {
                generation,
                body: Digest::of(&bytes),
            },
            created_unix_ms: body.created_unix_ms,
            document,
        })
    }
}

impl<D> Body<D> {
    fn check_support(&self) -> Result<(), VerifyDesiredError> {
        let unsupported = |field, actual: &str, supported| VerifyDesiredError::Unsupported {
            field,
            actual: actual.to_owned(),
            supported,
        };
        if self.schema != SCHEMA {
            return Err(unsupported("schema", &self.schema, SCHEMA));
        }
        if self.scope != SCOPE_DEVICE {
            return Err(unsupported("scope", &self.scope, SCOPE_DEVICE));
        }
        if self.kind.parse::<Kind>().is_err() {
            return Err(unsupported("kind", &self.kind, "models, endpoints"));
        }
        Ok(())
    }

    fn check_address(&self, address: &Address) -> Result<(), VerifyDesiredError> {
        [
            ("fleet", self.fleet.as_str(), address.fleet.as_str()),
            ("target", self.target.as_str(), address.device.as_str()),
            ("kind", self.kind.as_str(), address.kind.as_str()),
        ]
        .into_iter()
        .find(|(_, actual, expected)| actual != expected)
        .map_or(Ok(()), |(field, actual, expected)| {
            Err(VerifyDesiredError::WrongTarget {
                field,
                actual: actual.to_owned(),
                expected: expected.to_owned(),
            })
        })
    }
}

#[cfg(test)]
mod tests;
