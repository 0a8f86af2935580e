//! The `endpoints` document: the serving endpoints a device shall run, in the JSON of the REST API.

use std::collections::{BTreeMap, BTreeSet};

use edgeward_base::{
    digest::Digest,
    names::{EndpointName, ModelName, ModelVersion, ServedEntityName, TableName},
    units::Percent,
};
use serde::{Deserialize, Serialize};

use super::InvalidDocument;
use crate::{json, ordering::Generation};

/// The most endpoints in one document.
pub const MAX_ENDPOINTS: usize = 200;
/// The most served entities of one endpoint.
pub const MAX_SERVED_ENTITIES: usize = 10;

const WORKLOAD_SIZES: [&str; 3] = ["Small", "Medium", "Large"];

/// The serving endpoints, whole: an endpoint of the registry that is absent is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsDocument {
    /// What the device must hold first.
    pub requires: Requires,
    /// By name.
    pub endpoints: BTreeMap<EndpointName, EndpointDocument>,
}

/// What an `endpoints` document needs before it can be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// The `models` document, or a later one, whose catalogue has every version named here.
    pub models: Generation,
}

/// One endpoint's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointDocument {
    /// 1 to 10 served entities.
    pub served_entities: Vec<ServedEntityDocument>,
    /// How requests are divided among them.
    pub traffic_config: TrafficConfig,
    /// Where its rows go; absent means that none are logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_capture_config: Option<AutoCaptureConfig>,
}

/// One served entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedEntityDocument {
    /// Its name within the endpoint.
    pub name: ServedEntityName,
    /// Registered model.
    pub entity_name: ModelName,
    /// Its version.
    pub entity_version: ModelVersion,
    /// Digest of the version's manifest, as in the catalogue.
    pub manifest: Digest,
    /// `Small`, `Medium` or `Large`: its share of the compute pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_size: Option<String>,
    /// The Databricks word for the kind of compute; a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_type: Option<String>,
    /// Whether it may be unloaded when idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_zero_enabled: Option<bool>,
}

/// How requests are divided among the served entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficConfig {
    /// The percentages sum to 100.
    pub routes: Vec<Route>,
}

/// The share of one served entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which served entity.
    pub served_entity_name: ServedEntityName,
    /// Its share, 0 to 100.
    pub traffic_percentage: Percent,
}

/// Where an endpoint's rows go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoCaptureConfig {
    /// Whether requests are logged.
    pub enabled: bool,
    /// Catalog of the inference table.
    pub catalog_name: String,
    /// Schema of the inference table.
    pub schema_name: String,
    /// What its name starts with: rows land in `{prefix}_payload`.
    pub table_name_prefix: String,
}

impl AutoCaptureConfig {
    /// The inference table; none when its name is not valid.
    #[must_use]
    pub fn table(&self) -> Option<TableName> {
        TableName::new(
            &self.catalog_name,
            &self.schema_name,
            &self.table_name_prefix,
        )
        .ok()
    }
}

impl EndpointsDocument {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken, with its field.
    pub fn validate(&self) -> Result<(), InvalidDocument> {
        if self.endpoints.len() > MAX_ENDPOINTS {
            let reason = format!("{MAX_ENDPOINTS} endpoints at most");
            return Err(InvalidDocument::new("endpoints", reason));
        }
        self.endpoints.iter().try_for_each(|(name, endpoint)| {
            endpoint
                .validate()
                .map_err(|InvalidDocument { field, reason }| {
                    InvalidDocument::new(format!("endpoints.{name}.{field}"), reason)
                })
        })
    }

    /// BLAKE3 of the canonical form of the endpoints.
    #[must_use]
    pub fn effective_hash(&self) -> Digest {
        Digest::of(&json::bytes(&self.endpoints))
    }
}

impl EndpointDocument {
    fn validate(&self) -> Result<(), InvalidDocument> {
        if !(1..=MAX_SERVED_ENTITIES).contains(&self.served_entities.len()) {
            let reason = format!("1 to {MAX_SERVED_ENTITIES} served entities");
            return Err(InvalidDocument::new("served_entities", reason));
        }
        let mut names = BTreeSet::new();
        for (index, entity) in self.served_entities.iter().enumerate() {
            if !names.insert(&entity.name) {
                let reason = format!("`{}` is used twice", entity.name);
                return Err(InvalidDocument::new(
                    format!("served_entities[{index}].name"),
                    reason,
                ));
            }
            let size = entity.workload_size.as_deref();
            if size.is_some_and(|size| !WORKLOAD_SIZES.contains(&size)) {
                return Err(InvalidDocument::new(
                    format!("served_entities[{index}].workload_size"),
                    "Small, Medium or Large",
                ));
            }
        }
        self.validate_routes(&names)?;
        match &self.auto_capture_config {
            Some(capture) if capture.table().is_none() => Err(InvalidDocument::new(
                "auto_capture_config",
                "catalog_name, schema_name and table_name_prefix of 1 to 63 letters, digits, _ or - each",
            )),
            _ => Ok(()),
        }
    }

    fn validate_routes(&self, names: &BTreeSet<&ServedEntityName>) -> Result<(), InvalidDocument> {
        let mut routed = BTreeSet::new();
        let mut sum = 0_u32;
        for (index, route) in self.traffic_config.routes.iter().enumerate() {
            let name = &route.served_entity_name;
            let field = || format!("traffic_config.routes[{index}].served_entity_name");
            if !names.contains(name) {
                let reason = format!("`{name}` is no served entity of this endpoint");
                return Err(InvalidDocument::new(field(), reason));
            }
            if !routed.insert(name) {
                return Err(InvalidDocument::new(
                    field(),
                    format!("`{name}` is routed twice"),
                ));
            }
            sum += u32::from(route.traffic_percentage.get());
        }
        if sum == 100 {
            Ok(())
        } else {
            let reason = format!("percentages sum to 100, not {sum}");
            Err(InvalidDocument::new("traffic_config.routes", reason))
        }
    }
}
