//! What the registry remembers. Messages are kept as the JSON that travels: postcard cannot read
//! them, and people can.

use std::collections::BTreeMap;

use edgeward_base::names::{DeviceId, EndpointName, ModelRef};
use edgeward_wire::desired::EndpointDocument;
use edgeward_wire::ordering::{Generation, Kind};
use serde::{Deserialize, Serialize};

use crate::store::Record;

/// What a device shall hold and run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Desired {
    /// Model versions.
    pub(super) models: Vec<ModelRef>,
    /// Serving endpoints, as JSON: see [`Desired::endpoints`].
    endpoints: Vec<u8>,
}

impl Desired {
    /// The serving endpoints by name.
    ///
    /// # Errors
    /// When they were written by another version.
    pub(super) fn endpoints(
        &self,
    ) -> Result<BTreeMap<EndpointName, EndpointDocument>, serde_json::Error> {
        if self.endpoints.is_empty() {
            return Ok(BTreeMap::new());
        }
        serde_json::from_slice(&self.endpoints)
    }

    /// Replaces the serving endpoints.
    ///
    /// # Errors
    /// Never for documents that were read from JSON.
    pub(super) fn set_endpoints(
        &mut self,
        endpoints: &BTreeMap<EndpointName, EndpointDocument>,
    ) -> Result<(), serde_json::Error> {
        self.endpoints = serde_json::to_vec(endpoints)?;
        Ok(())
    }
}

/// What every device gets that is added later. One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FleetRecord {
    /// Which life of the registry counts generations: the Unix time at which it was made, so that
    /// a registry that was rebuilt without its records starts a later one.
    pub(super) epoch: u64,
    /// What is published to all.
    pub(super) desired: Desired,
}

impl FleetRecord {
    pub(super) const KEY: &'static str = "fleet";
}

impl Record for FleetRecord {
    const TABLE: &'static str = "registry_fleet";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::KEY.to_owned()
    }
}

/// A device that documents are published to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceRecord {
    pub(super) device: DeviceId,
    /// When it was added, by the registry's clock, in milliseconds since 1970.
    pub(super) added_unix_ms: i64,
    pub(super) desired: Desired,
}

impl Record for DeviceRecord {
    const TABLE: &'static str = "registry_device";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.device.to_string()
    }
}

/// The newest signed document of one device and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DocumentRecord {
    pub(super) device: DeviceId,
    pub(super) kind: Kind,
    pub(super) generation: Generation,
    /// The signed container, byte for byte.
    pub(super) container: Vec<u8>,
}

impl DocumentRecord {
    pub(super) fn key_of(device: &DeviceId, kind: Kind) -> String {
        format!("{device}/{kind}")
    }
}

impl Record for DocumentRecord {
    const TABLE: &'static str = "registry_document";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::key_of(&self.device, self.kind)
    }
}

/// The newest report of one device and subject (`ack/endpoints`, `reported/models`, ...).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReportRecord {
    pub(super) device: DeviceId,
    pub(super) subject: String,
    pub(super) sequence: u64,
    /// When it arrived, by the registry's clock, in milliseconds since 1970.
    pub(super) received_unix_ms: i64,
    /// The report, as JSON.
    pub(super) report: Vec<u8>,
}

impl ReportRecord {
    pub(super) fn key_of(device: &DeviceId, subject: &str) -> String {
        format!("{device}/{subject}")
    }
}

impl Record for ReportRecord {
    const TABLE: &'static str = "registry_report";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::key_of(&self.device, &self.subject)
    }
}

/// The highest sequence recorded of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SequenceRecord {
    pub(super) device: DeviceId,
    pub(super) newest: u64,
}

impl Record for SequenceRecord {
    const TABLE: &'static str = "registry_sequence";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.device.to_string()
    }
}

/// A device's presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PresenceRecord {
    pub(super) device: DeviceId,
    /// When it arrived, by the registry's clock, in milliseconds since 1970.
    pub(super) received_unix_ms: i64,
    /// The presence, as JSON.
    pub(super) presence: Vec<u8>,
}

impl Record for PresenceRecord {
    const TABLE: &'static str = "registry_presence";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.device.to_string()
    }
}
