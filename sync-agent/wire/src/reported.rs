//! Reported documents: what a device runs, in its own words.
//!
//! Owns: the retained document of each kind that the device publishes and the registry never does.
//! Must never: repeat what was desired; it names what is running, also after a rollback.

use std::collections::BTreeMap;

use edgeward_base::{
    digest::Digest,
    names::{EndpointName, ModelName, ModelVersion, ServedEntityName},
};
use serde::{Deserialize, Serialize};

use crate::{
    ack::Rejection,
    ordering::{Generation, Kind},
};

/// What a device runs, of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The desired document that is in force, if any ever was.
    pub generation: Option<Generation>,
    /// Its effective hash.
    pub effective_hash: Option<Digest>,
    /// What runs, whoever asked for it.
    #[serde(flatten)]
    pub running: Running,
    /// Why the newest desired document is not in force, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

impl Reported {
    /// The kind of the desired documents that it answers to.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.running.kind()
    }
}

/// A desired document that the device refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub generation: Generation,
    /// Why.
    #[serde(flatten)]
    pub rejection: Rejection,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Running {
    /// Model versions that are complete and verified on the device.
    Models {
        /// In the order of name and version.
        models: Vec<ReportedModel>,
    },
    /// Serving endpoints.
    Endpoints {
        /// By name.
        endpoints: BTreeMap<EndpointName, ReportedEndpoint>,
    },
}

impl Running {
    /// The kind of document.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Models { .. } => Kind::Models,
            Self::Endpoints { .. } => Kind::Endpoints,
        }
    }
}

/// A model version on the device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedModel {
    /// Registered model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// Digest of its manifest.
    pub manifest: Digest,
}

/// A serving endpoint on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedEndpoint {
    /// Counts the configurations that were in force on the device.
    pub config_version: u64,
    /// BLAKE3 of the configuration in force.
    pub effective_hash: Digest,
    /// Who owns it.
    pub managed_by: ManagedBy,
    /// What it serves.
    pub served_entities: Vec<ReportedEntity>,
}

/// Who owns an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagedBy {
    /// The registry, by desired documents.
    Registry,
    /// Somebody on the device.
    Local,
}

/// One served entity of an endpoint on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedEntity {
    /// Served entity.
    pub name: ServedEntityName,
    /// Registered model.
    pub entity_name: ModelName,
    /// Its version.
    pub entity_version: ModelVersion,
    /// Share of the traffic, 0 to 100.
    pub traffic_percentage: u8,
    /// `framework` or `reference`: what its answers were compared with before it served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
}
