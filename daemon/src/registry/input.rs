//! What a fleet manager writes for an endpoint: the JSON of the REST API's `update_config`.
//!
//! The registry fills in what REST would: names of served entities, the route of a single one, and
//! the manifest digest of each version, so that a device serves exactly the bytes that were
//! published.

use edgeward_base::digest::Digest;
use edgeward_base::names::{ModelName, ModelRef, ModelVersion, ServedEntityName};
use edgeward_base::units::Percent;
use edgeward_wire::desired::{
    AutoCaptureConfig, EndpointDocument, Route, ServedEntityDocument, TrafficConfig,
};
use serde::{Deserialize, Serialize};

/// An endpoint's configuration as a person writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointInput {
    /// 1 to 10 served entities.
    pub served_entities: Vec<ServedEntityInput>,
    /// The split; absent when there is one served entity that takes everything.
    #[serde(default)]
    pub traffic_config: Option<TrafficInput>,
    /// Where rows go; absent means that none are logged.
    #[serde(default)]
    pub auto_capture_config: Option<AutoCaptureConfig>,
}

/// A served entity as a person writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedEntityInput {
    /// Its name; `{model}-{version}` when absent.
    #[serde(default)]
    pub name: Option<ServedEntityName>,
    /// Registered model.
    pub entity_name: ModelName,
    /// Its version.
    pub entity_version: ModelVersion,
    /// `Small`, `Medium` or `Large`.
    #[serde(default)]
    pub workload_size: Option<String>,
    /// The Databricks word for the kind of compute.
    #[serde(default)]
    pub workload_type: Option<String>,
    /// Whether it may be unloaded when idle.
    #[serde(default)]
    pub scale_to_zero_enabled: Option<bool>,
}

/// A traffic split as a person writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficInput {
    /// The percentages sum to 100.
    pub routes: Vec<RouteInput>,
}

/// The share of one served entity, under either of its two names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteInput {
    /// Which served entity.
    #[serde(alias = "served_model_name")]
    pub served_entity_name: ServedEntityName,
    /// Its share, 0 to 100.
    pub traffic_percentage: Percent,
}

/// Why an endpoint's configuration cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointInputError {
    /// The version was not published to the device.
    #[error(
        "served_entities[{index}]: {model} is not published to device {device}; publish it first"
    )]
    Unpublished {
        /// Which served entity.
        index: usize,
        /// What it names.
        model: ModelRef,
        /// For whom.
        device: String,
    },
    /// Several served entities and no split.
    #[error("traffic_config: several served entities need routes that sum to 100")]
    NoRoutes,
    /// The default name is no valid name.
    #[error("served_entities[{index}].name: write one, {default:?} is not valid")]
    Name {
        /// Which served entity.
        index: usize,
        /// `{model}-{version}`.
        default: String,
    },
}

impl EndpointInput {
    /// The document for one device. `manifest_of` answers the manifest digest of each version that
    /// is published to it.
    ///
    /// # Errors
    /// [`EndpointInputError`]; the rules of the document itself are checked when it is signed.
    pub(super) fn document(
        &self,
        device: &str,
        manifest_of: impl Fn(&ModelRef) -> Option<Digest>,
    ) -> Result<EndpointDocument, EndpointInputError> {
        let mut served_entities = Vec::with_capacity(self.served_entities.len());
        for (index, entity) in self.served_entities.iter().enumerate() {
            let model = ModelRef {
                name: entity.entity_name.clone(),
                version: entity.entity_version,
            };
            let manifest = manifest_of(&model).ok_or_else(|| EndpointInputError::Unpublished {
                index,
                model: model.clone(),
                device: device.to_owned(),
            })?;
            served_entities.push(ServedEntityDocument {
                name: entity.named(index)?,
                entity_name: model.name,
                entity_version: model.version,
                manifest,
                workload_size: entity.workload_size.clone(),
                workload_type: entity.workload_type.clone(),
                scale_to_zero_enabled: entity.scale_to_zero_enabled,
            });
        }
        let routes = match (&self.traffic_config, served_entities.as_slice()) {
            (Some(traffic), _) => traffic
                .routes
                .iter()
                .map(|route| Route {
                    served_entity_name: route.served_entity_name.clone(),
                    traffic_percentage: route.traffic_percentage,
                })
                .collect(),
            (None, [only]) => vec![Route {
                served_entity_name: only.name.clone(),
                traffic_percentage: Percent::ALL,
            }],
            (None, _) => return Err(EndpointInputError::NoRoutes),
        };
        Ok(EndpointDocument {
            served_entities,
            traffic_config: TrafficConfig { routes },
            auto_capture_config: self.auto_capture_config.clone(),
        })
    }
}

impl ServedEntityInput {
    fn named(&self, index: usize) -> Result<ServedEntityName, EndpointInputError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let default = format!("{}-{}", self.entity_name.short(), self.entity_version);
        default
            .parse()
            .map_err(|_| EndpointInputError::Name { index, default })
    }
}
