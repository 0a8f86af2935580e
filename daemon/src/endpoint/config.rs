//! The configuration of one serving endpoint: what it serves, how traffic is split over it, and
//! whether its requests are captured in an inference table.
//!
//! [`EndpointConfigInput`] is what somebody asked for, unchecked; [`EndpointConfig`] is what may
//! run. [`EndpointConfigInput::validate`] is the only way from the one to the other, for REST, the
//! command line and fleet documents alike. This module never touches the model catalogue: whether
//! a named version exists is the owner's question.

use edgeward_base::digest::Digest;
use edgeward_base::names::{ModelRef, ServedEntityName, TableName};
use edgeward_base::units::Percent;
use serde::{Deserialize, Serialize};

use super::models::Placement;
use crate::model::Compute;

mod json;
#[cfg(test)]
mod tests;
mod validate;

pub use validate::ValidateConfigError;

/// At most so many served entities in one endpoint.
pub const MAX_SERVED_ENTITIES: usize = 10;

/// A validated configuration: one to ten served entities with distinct names, and routes that
/// name them and sum to 100 %.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// What is served, in the order in which it was given.
    pub served_entities: Vec<ServedEntityConfig>,
    /// The traffic split. An entity without a route gets no traffic unless it is named.
    pub routes: Vec<Route>,
    /// Where requests are logged, if that was ever asked for.
    pub auto_capture: Option<AutoCapture>,
}

/// One model version within an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedEntityConfig {
    /// Unique within the endpoint; `{model}-{version}` where none was given.
    pub name: ServedEntityName,
    /// The model version that answers (`entity_name` and `entity_version` in JSON).
    pub model: ModelRef,
    /// What it may use of this box.
    pub capacity: Capacity,
}

impl ServedEntityConfig {
    /// What its session is for.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let asked = self.capacity.workload_type;
        Placement {
            model: self.model.clone(),
            compute: asked.map_or(Compute::Any, WorkloadType::compute),
        }
    }
}

/// Capacity hints: accepted from every client, shown again as given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// The share of this box's compute that the entity may use.
    pub workload_size: Option<WorkloadSize>,
    /// The kind of compute.
    pub workload_type: Option<WorkloadType>,
    /// Whether the sessions may be unloaded while nobody asks.
    pub scale_to_zero_enabled: Option<bool>,
    /// Least throughput, in the model's own units per second.
    pub min_provisioned_throughput: Option<u64>,
    /// Most throughput, in the model's own units per second.
    pub max_provisioned_throughput: Option<u64>,
    /// Least number of concurrent requests.
    pub min_provisioned_concurrency: Option<u64>,
    /// Most number of concurrent requests.
    pub max_provisioned_concurrency: Option<u64>,
    /// Model units of a provisioned-throughput endpoint.
    pub provisioned_model_units: Option<u64>,
    /// Whether bursts may exceed what is provisioned.
    pub burst_scaling_enabled: Option<bool>,
}

impl Capacity {
    /// The share of this box's compute that the entity may use: as it was asked for, else the size that
    /// the replaced platform gives so many concurrent requests.
    #[must_use]
    pub fn size(&self) -> Option<WorkloadSize> {
        let by_requests = |requests: u64| match requests {
            0..=4 => WorkloadSize::Small,
            5..=16 => WorkloadSize::Medium,
            _ => WorkloadSize::Large,
        };
        let most = self.max_provisioned_concurrency.map(by_requests);
        self.workload_size.or(most)
    }
}

/// `workload_size` of a served entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadSize {
    /// The smallest share.
    Small,
    /// The middle share.
    Medium,
    /// The largest share.
    Large,
}

impl WorkloadSize {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "Small",
            Self::Medium => "Medium",
            Self::Large => "Large",
        }
    }
}

/// `workload_type` of a served entity, of those that this box can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadType {
    /// Processor.
    #[serde(rename = "CPU")]
    Cpu,
    /// Processor, medium.
    #[serde(rename = "CPU_MEDIUM")]
    CpuMedium,
    /// Processor, large.
    #[serde(rename = "CPU_LARGE")]
    CpuLarge,
    /// Graphics card.
    #[serde(rename = "GPU_SMALL")]
    GpuSmall,
    /// Graphics card, medium.
    #[serde(rename = "GPU_MEDIUM")]
    GpuMedium,
    /// Graphics card, large.
    #[serde(rename = "GPU_LARGE")]
    GpuLarge,
}

impl WorkloadType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Cpu,
        Self::CpuMedium,
        Self::CpuLarge,
        Self::GpuSmall,
        Self::GpuMedium,
        Self::GpuLarge,
    ];

    /// What it asks for: a box has one processor and one graphics card, whatever the size.
    #[must_use]
    pub const fn compute(self) -> Compute {
        match self {
            Self::Cpu | Self::CpuMedium | Self::CpuLarge => Compute::Processor,
            Self::GpuSmall | Self::GpuMedium | Self::GpuLarge => Compute::Device,
        }
    }

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::CpuMedium => "CPU_MEDIUM",
            Self::CpuLarge => "CPU_LARGE",
            Self::GpuSmall => "GPU_SMALL",
            Self::GpuMedium => "GPU_MEDIUM",
            Self::GpuLarge => "GPU_LARGE",
        }
    }
}

/// The share of the traffic that one served entity gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// One of the endpoint's served entities.
    pub served_entity_name: ServedEntityName,
    /// Its share; all routes of an endpoint sum to 100.
    pub traffic_percentage: Percent,
}

/// Where an endpoint's requests are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoCapture {
    /// Whether rows are written; the table stays named while this is off.
    pub enabled: bool,
    /// The inference table; rows land in `{prefix}_payload`.
    pub table: TableName,
}

impl EndpointConfig {
    /// The BLAKE3 digest of the canonical form: its JSON text with the fields in the order of
    /// declaration and no white space. Equal on every box that runs the same configuration.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "lists of text, numbers and booleans always have a JSON form"
    )]
    pub fn effective_hash(&self) -> Digest {
        let canonical = serde_json::to_vec(self).expect("a configuration serialises");
        Digest::of(&canonical)
    }

    /// The share of each served entity, in their order.
    #[must_use]
    pub fn shares(&self) -> Vec<Percent> {
        let share = |entity: &ServedEntityConfig| {
            self.routes
                .iter()
                .find(|route| route.served_entity_name == entity.name)
                .map(|route| route.traffic_percentage)
                .unwrap_or_default()
        };
        self.served_entities.iter().map(share).collect()
    }

    /// The table that requests are logged to, when they are.
    #[must_use]
    pub fn capture_table(&self) -> Option<&TableName> {
        self.auto_capture
            .as_ref()
            .filter(|capture| capture.enabled)
            .map(|capture| &capture.table)
    }
}

/// A configuration as somebody asked for it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointConfigInput {
    /// `served_entities`, or the deprecated `served_models`.
    pub served_entities: Vec<ServedEntityInput>,
    /// `traffic_config.routes`; empty when `traffic_config` is absent.
    pub routes: Vec<RouteInput>,
    /// `auto_capture_config`; `None` keeps what the endpoint has.
    pub auto_capture: Option<AutoCaptureInput>,
}

/// A served entity as somebody asked for it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedEntityInput {
    /// `{model}-{version}` when absent.
    pub name: Option<String>,
    /// `catalog.schema.model`.
    pub entity_name: String,
    /// A whole number from 1.
    pub entity_version: String,
    /// The digest of the manifest that the version must have (fleet documents name it).
    pub manifest: Option<Digest>,
    /// `Small`, `Medium` or `Large`.
    pub workload_size: Option<String>,
    /// `CPU`, `CPU_MEDIUM` or `CPU_LARGE`.
    pub workload_type: Option<String>,
    /// Accepted as a hint.
    pub scale_to_zero_enabled: Option<bool>,
    /// Accepted as a hint.
    pub provisioned: ProvisionedInput,
}

/// The provisioned-capacity hints of a served entity, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvisionedInput {
    /// From 0.
    pub min_provisioned_throughput: Option<i64>,
    /// From the least to any number.
    pub max_provisioned_throughput: Option<i64>,
    /// From 0.
    pub min_provisioned_concurrency: Option<i64>,
    /// From the least to any number.
    pub max_provisioned_concurrency: Option<i64>,
    /// From 0.
    pub provisioned_model_units: Option<i64>,
    /// Either.
    pub burst_scaling_enabled: Option<bool>,
}

/// A route as somebody asked for it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteInput {
    /// `served_entity_name`, or the older `served_model_name`.
    pub served_entity_name: String,
    /// 0 to 100.
    pub traffic_percentage: i64,
}

/// An `auto_capture_config` as somebody asked for it, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoCaptureInput {
    /// On when absent.
    pub enabled: Option<bool>,
    /// What the endpoint has when absent; required where it has none.
    pub catalog_name: Option<String>,
    /// What the endpoint has when absent; required where it has none.
    pub schema_name: Option<String>,
    /// What the endpoint has when absent, else the endpoint's name.
    pub table_name_prefix: Option<String>,
}
