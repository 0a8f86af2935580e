//! The registry's end: publishes what is wanted, records what is said, lands what was logged.
//!
//! Owns: the two tasks of a registry and what they share.
//! Must never: decide what a device shall run; it signs nothing but receipts.
//!
//! ```text
//! registry-control   desired documents out (retained), reports and presence in, confirms out
//! registry-bulk      blob chunks out, segments in, signed receipts out
//! ```
//!
//! A broker may forget everything: when the control session is lost, every document is published
//! again. A document that an online device has not acknowledged is published again, less and less
//! often.

mod bulk;
mod control;

use std::{sync::Arc, time::Duration};

use edgeward_base::{clock::SharedClock, names::FleetId};
use edgeward_wire::key::RegistryKey;
use tokio_util::sync::CancellationToken;

use crate::{
    link::Connector,
    ports::{ArtifactSource, DocumentSource, LandingSink, ReportSink},
    task::AgentTask,
};

/// Who a registry is.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its MQTT client id, one for each worker; the bulk connection adds `-bulk`.
    pub client_id: String,
    /// Signs receipts.
    pub key: RegistryKey,
    /// How long it waits.
    pub timing: RegistryTiming,
}

/// How long a registry waits.
#[derive(Debug, Clone)]
pub struct RegistryTiming {
    /// How long an online device may take to acknowledge a document before it is published again;
    /// doubles each time.
    pub acknowledge: Duration,
    /// The longest such wait.
    pub acknowledge_cap: Duration,
    /// How long to wait after a port failed.
    pub retry: Duration,
}

impl Default for RegistryTiming {
    fn default() -> Self {
        Self {
            acknowledge: Duration::from_secs(10),
            acknowledge_cap: Duration::from_secs(600),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a registry's tasks work with.
#[derive(Clone)]
pub struct RegistryPorts {
    /// Signed documents.
    pub documents: Arc<dyn DocumentSource>,
    /// Manifests and model files.
    pub artifacts: Arc<dyn ArtifactSource>,
    /// Where segments land.
    pub landing: Arc<dyn LandingSink>,
    /// What devices say.
    pub reports: Arc<dyn ReportSink>,
    /// Time.
    pub clock: SharedClock,
}

impl std::fmt::Debug for RegistryPorts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegistryPorts")
            .finish_non_exhaustive()
    }
}

/// The tasks of a registry. Each runs until `shutdown` is cancelled.
#[must_use]
pub fn registry_tasks(
    options: RegistryOptions,
    ports: RegistryPorts,
    connector: Arc<dyn Connector>,
    shutdown: CancellationToken,
) -> Vec<AgentTask> {
    let options = Arc::new(options);
    let control = control::run(
        Arc::clone(&options),
        ports.clone(),
        Arc::clone(&connector),
        shutdown.clone(),
    );
    let bulk = bulk::run(options, ports, connector, shutdown);
    vec![
        AgentTask::new("registry-control", control),
        AgentTask::new("registry-bulk", bulk),
    ]
}
