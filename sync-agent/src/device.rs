//! The device's end: holds what the registry wants, says what runs, uploads what was logged.
//!
//! Owns: the two tasks of a device and what they share.
//! Must never: touch storage or an endpoint except through [`ports`](crate::ports).
//!
//! ```text
//!            +-------------- sync-control ---------------+     +------- sync-bulk --------+
//! broker <-> | link, outbox, state machine, applying     | <-> | link while wanted        |
//!            +-------------------------------------------+     |  fetch: models in        |
//!                       jobs ->           <- staged            |  upload: segments out    |
//!                                                              +--------------------------+
//! ```
//!
//! Control and bulk are separate connections, so that a traffic change never queues behind a model;
//! bulk connects only while something waits.

mod bulk;
mod control;
mod fetch;
mod state;
mod upload;

use std::{sync::Arc, time::Duration};

use edgeward_base::{
    clock::SharedClock,
    names::{BootId, DeviceId, FleetId},
};
use edgeward_wire::{
    ack::Rejection, desired::ModelsDocument, key::PinnedKey, ordering::Generation,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    link::Connector,
    outbox::OutboxOptions,
    ports::{BlobStore, DesiredStore, EndpointSink, ModelSink, OutboxStore, SegmentSource},
    task::AgentTask,
};

/// Who a device is and whom it believes.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its name, also its MQTT client id; the bulk connection adds `-bulk`.
    pub device: DeviceId,
    /// This start of the process.
    pub boot: BootId,
    /// Version of its software, told in presence.
    pub version: String,
    /// The registry's key, pinned when the device was provisioned.
    pub registry_key: PinnedKey,
    /// How its reports are sent.
    pub outbox: OutboxOptions,
    /// How long it waits.
    pub timing: DeviceTiming,
}

/// How long a device waits.
#[derive(Debug, Clone)]
pub struct DeviceTiming {
    /// How long the registry may take to answer an offer or a request before it is repeated.
    pub answer_timeout: Duration,
    /// How long to wait after a port failed.
    pub retry: Duration,
    /// How long the bulk connection stays up with nothing to do.
    pub linger: Duration,
    /// The shortest time between two acknowledgements of staging progress.
    pub progress: Duration,
    /// How long a segment that the registry refused is not offered; it doubles with each refusal, up
    /// to a day.
    pub refused: Duration,
}

impl Default for DeviceTiming {
    fn default() -> Self {
        Self {
            answer_timeout: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            linger: Duration::from_secs(5),
            progress: Duration::from_secs(1),
            refused: Duration::from_mins(10),
        }
    }
}

/// What a device's tasks work with.
#[derive(Clone)]
pub struct DevicePorts {
    /// Durable memory of desired documents.
    pub desired: Arc<dyn DesiredStore>,
    /// Durable memory of reports.
    pub outbox: Arc<dyn OutboxStore>,
    /// Blobs, complete and being assembled.
    pub blobs: Arc<dyn BlobStore>,
    /// Model versions.
    pub models: Arc<dyn ModelSink>,
    /// Serving endpoints.
    pub endpoints: Arc<dyn EndpointSink>,
    /// Sealed segments.
    pub segments: Arc<dyn SegmentSource>,
    /// Time.
    pub clock: SharedClock,
}

impl std::fmt::Debug for DevicePorts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DevicePorts")
            .finish_non_exhaustive()
    }
}

/// Models to stage: the newest `models` document that is not yet in force.
#[derive(Debug, Clone)]
struct StagingJob {
    generation: Generation,
    document: ModelsDocument,
}

/// What the bulk task says of a [`StagingJob`].
#[derive(Debug, Clone)]
enum StagingNews {
    Progress {
        generation: Generation,
        bytes_done: u64,
        bytes_total: u64,
    },
    Done {
        generation: Generation,
        result: Result<(), Rejection>,
    },
}

/// News of staging that wait for the control task. A full queue holds the fetch back.
const STAGING_NEWS: usize = 8;

/// The tasks of a device. Each runs until `shutdown` is cancelled.
#[must_use]
pub fn device_tasks(
    options: DeviceOptions,
    ports: DevicePorts,
    connector: Arc<dyn Connector>,
    shutdown: CancellationToken,
) -> Vec<AgentTask> {
    let (jobs, job) = watch::channel(None);
    let (news_sender, news) = mpsc::channel(STAGING_NEWS);
    let options = Arc::new(options);
    let control = control::run(
        Arc::clone(&options),
        ports.clone(),
        Arc::clone(&connector),
        control::Staging { jobs, news },
        shutdown.clone(),
    );
    let bulk = bulk::run(
        options,
        ports,
        connector,
        bulk::Staging {
            job,
            news: news_sender,
        },
        shutdown,
    );
    vec![
        AgentTask::new("sync-control", control),
        AgentTask::new("sync-bulk", bulk),
    ]
}
