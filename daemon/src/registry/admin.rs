//! What `edgeward registry ...` asks of a running registry, and its answers: no transport.
//!
//! `app` carries one [`AdminRequest`] in and one answer out over the registry's Unix socket. There
//! is no token: whoever may open the socket's file may ask.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edgeward_base::names::{DeviceId, EndpointName, ModelRef, ServedEntityName};
use edgeward_base::units::Percent;
use edgeward_wire::ordering::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::input::EndpointInput;
use super::publisher::{PublishError, Published, Publisher};
use super::record::{DeviceRecord, DocumentRecord, PresenceRecord, ReportRecord};
use crate::store::ReadStoreError;

/// One verb with its arguments. Without a device, a verb speaks of every device, also of those
/// that are added later.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Answers a [`RegistryStatus`].
    Status,
    /// Makes a device known.
    AddDevice {
        /// The device.
        device: DeviceId,
    },
    /// Imports a model version and publishes it.
    PublishModel {
        /// A bare `.onnx` file or an MLflow model directory, on the registry's machine.
        path: PathBuf,
        /// The version.
        model: ModelRef,
        /// Only to this device.
        #[serde(default)]
        device: Option<DeviceId>,
    },
    /// Publishes an endpoint's configuration.
    SetEndpoint {
        /// The endpoint.
        name: EndpointName,
        /// Its configuration.
        config: EndpointInput,
        /// Only to this device.
        #[serde(default)]
        device: Option<DeviceId>,
    },
    /// Takes an endpoint away.
    RemoveEndpoint {
        /// The endpoint.
        name: EndpointName,
        /// Only from this device.
        #[serde(default)]
        device: Option<DeviceId>,
    },
    /// Replaces the split of an endpoint.
    SetTraffic {
        /// The endpoint.
        name: EndpointName,
        /// Percentages by served entity; they sum to 100.
        split: Vec<(ServedEntityName, Percent)>,
        /// Only on this device.
        #[serde(default)]
        device: Option<DeviceId>,
    },
}

/// An answer: what the registry knows, or what it has published.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum AdminAnswer {
    /// To [`AdminRequest::Status`].
    Status(Box<RegistryStatus>),
    /// To every other verb.
    Published(Published),
}

/// What the registry knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// The version of the program.
    pub version: String,
    /// Whose devices.
    pub fleet: String,
    /// The key that devices pin: 64 hexadecimal digits.
    pub public_key: String,
    /// The model versions that are held.
    pub models: Vec<ModelRef>,
    /// By device.
    pub devices: BTreeMap<DeviceId, DeviceStatus>,
}

/// What the registry knows of a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// When it was added, in milliseconds since 1970.
    pub added_unix_ms: i64,
    /// The newest generation of each kind, as `epoch.generation`.
    pub published: BTreeMap<String, String>,
    /// The model versions that it shall hold.
    pub models: Vec<ModelRef>,
    /// The endpoints that it shall run, as in the desired document.
    pub endpoints: Value,
    /// Its newest presence, if it ever connected.
    pub presence: Option<Value>,
    /// Its newest reports by subject: `ack/models`, `ack/endpoints`, `reported/models`, ...
    pub reports: BTreeMap<String, Value>,
}

/// Carries out one verb.
///
/// # Errors
/// [`PublishError`]; nothing was changed.
pub async fn answer(
    publisher: &Publisher,
    request: AdminRequest,
) -> Result<AdminAnswer, PublishError> {
    let published = match request {
        AdminRequest::Status => return Ok(AdminAnswer::Status(Box::new(status_of(publisher)?))),
        AdminRequest::AddDevice { device } => publisher.add_device(device).await,
        AdminRequest::PublishModel {
            path,
            model,
            device,
        } => publisher.publish_model(&path, model, device).await,
        AdminRequest::SetEndpoint {
            name,
            config,
            device,
        } => publisher.set_endpoint(name, config, device).await,
        AdminRequest::RemoveEndpoint { name, device } => {
            publisher.remove_endpoint(name, device).await
        }
        AdminRequest::SetTraffic {
            name,
            split,
            device,
        } => publisher.set_traffic(name, split, device).await,
    };
    published.map(AdminAnswer::Published)
}

/// Gathers what the registry knows.
fn status_of(publisher: &Publisher) -> Result<RegistryStatus, PublishError> {
    let store = publisher.store();
    let read = PublishError::Read;
    let mut devices = BTreeMap::new();
    for record in store.list::<DeviceRecord>().map_err(read)? {
        let endpoints = record.desired.endpoints().map_err(PublishError::Decode)?;
        let status = DeviceStatus {
            added_unix_ms: record.added_unix_ms,
            published: published(publisher, &record.device).map_err(read)?,
            endpoints: serde_json::to_value(&endpoints).map_err(PublishError::Decode)?,
            models: record.desired.models,
            presence: store
                .get::<PresenceRecord>(record.device.as_str())
                .map_err(read)?
                .and_then(|found| serde_json::from_slice(&found.presence).ok()),
            reports: BTreeMap::new(),
        };
        devices.insert(record.device, status);
    }
    for record in store.list::<ReportRecord>().map_err(read)? {
        if let Some(device) = devices.get_mut(&record.device) {
            let report = serde_json::from_slice(&record.report).map_err(PublishError::Decode)?;
            device.reports.insert(record.subject, report);
        }
    }
    let models = publisher.models().list().map_err(read)?;
    Ok(RegistryStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fleet: publisher.fleet().to_string(),
        public_key: publisher.public_key().to_string(),
        models: models.into_iter().map(|record| record.model).collect(),
        devices,
    })
}

fn published(
    publisher: &Publisher,
    device: &DeviceId,
) -> Result<BTreeMap<String, String>, ReadStoreError> {
    let mut generations = BTreeMap::new();
    for kind in Kind::ALL {
        let key = DocumentRecord::key_of(device, kind);
        if let Some(record) = publisher.store().get::<DocumentRecord>(&key)? {
            generations.insert(kind.to_string(), record.generation.to_string());
        }
    }
    Ok(generations)
}
