//! A device and a registry with their memories, whatever carries their messages.

use std::{sync::Arc, time::Duration};

use edgeward_base::{
    clock::{Clock, ClockQuality, SharedClock},
    digest::Digest,
    names::{BootId, DeviceId, FleetId, ModelVersion},
};
use edgeward_wire::{
    ack::{Ack, AckState},
    desired::{DesiredDocument, Document, EndpointsDocument, ModelEntry, ModelsDocument},
    key::RegistryKey,
    manifest::{Manifest, ManifestFile},
    ordering::{Generation, Kind},
    report::ReportMessage,
    segment::{SegmentKind, SegmentManifest, SegmentName},
};
use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::memory::{DeviceMemory, Registry, RegistryMemory};
use crate::{
    device::{DeviceOptions, DevicePorts, DeviceTiming, device_tasks},
    link::Connector,
    outbox::OutboxOptions,
    ports::{OutboxEntry, OutboxSnapshot, PublishedDocument},
    registry::{RegistryOptions, RegistryPorts, RegistryTiming, registry_tasks},
};

/// Time as the test's runtime has it: it may be paused, and then jumps.
#[derive(Debug)]
struct RuntimeClock(tokio::time::Instant);

impl RuntimeClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock of these tests")]
    fn shared() -> SharedClock {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for RuntimeClock {
    fn wall_micros(&self) -> i64 {
        0
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    fn quality(&self) -> ClockQuality {
        ClockQuality::Unsynced
    }
}

pub(super) fn fleet() -> FleetId {
    "plant".parse().unwrap()
}

pub(super) fn device_id() -> DeviceId {
    "box-1".parse().unwrap()
}

pub(super) fn key() -> RegistryKey {
    RegistryKey::from_seed(&[5; 32])
}

pub(super) struct World {
    pub(super) device: DeviceMemory,
    pub(super) registry: RegistryMemory,
    pub(super) boot: u64,
    pub(super) answer_timeout: Duration,
    pub(super) outbox: OutboxOptions,
    clock: SharedClock,
}

impl World {
    /// Waits of seconds, for time that jumps.
    pub(super) fn new() -> Self {
        Self {
            device: DeviceMemory::default(),
            registry: RegistryMemory::default(),
            boot: 1,
            answer_timeout: Duration::from_secs(3),
            outbox: OutboxOptions {
                confirm_timeout: Duration::from_secs(3),
                ..OutboxOptions::default()
            },
            clock: RuntimeClock::shared(),
        }
    }

    /// Short waits, for time that passes.
    pub(super) fn in_real_time() -> Self {
        let mut world = Self::new();
        world.answer_timeout = Duration::from_millis(500);
        world.outbox.confirm_timeout = Duration::from_millis(500);
        world
    }

    /// Runs the device until shutdown.
    pub(super) async fn run_device(
        &self,
        connector: Arc<dyn Connector>,
        shutdown: CancellationToken,
    ) {
        let ports = DevicePorts {
            desired: Arc::new(self.device.clone()),
            outbox: Arc::new(self.device.clone()),
            blobs: Arc::new(self.device.clone()),
            models: Arc::new(self.device.clone()),
            endpoints: Arc::new(self.device.clone()),
            segments: Arc::new(self.device.clone()),
            clock: Arc::clone(&self.clock),
        };
        let options = DeviceOptions {
            fleet: fleet(),
            device: device_id(),
            boot: BootId(self.boot),
            version: "test".to_owned(),
            registry_key: key().pinned(),
            outbox: self.outbox.clone(),
            timing: DeviceTiming {
                answer_timeout: self.answer_timeout,
                retry: self.answer_timeout / 4,
                linger: self.answer_timeout / 2,
                progress: self.answer_timeout / 10,
                refused: self.answer_timeout * 10,
            },
        };
        let tasks = device_tasks(options, ports, connector, shutdown);
        join_all(tasks.into_iter().map(|task| task.future)).await;
    }

    /// Runs the registry until shutdown.
    pub(super) async fn run_registry(
        &self,
        connector: Arc<dyn Connector>,
        shutdown: CancellationToken,
    ) {
        let ports = RegistryPorts {
            documents: Arc::new(self.registry.clone()),
            artifacts: Arc::new(self.registry.clone()),
            landing: Arc::new(self.registry.clone()),
            reports: Arc::new(self.registry.clone()),
            clock: Arc::clone(&self.clock),
        };
        let options = RegistryOptions {
            fleet: fleet(),
            client_id: "registry".to_owned(),
            key: key(),
            timing: RegistryTiming {
                acknowledge: self.answer_timeout * 2,
                acknowledge_cap: self.answer_timeout * 20,
                retry: self.answer_timeout / 4,
            },
        };
        let tasks = registry_tasks(options, ports, connector, shutdown);
        join_all(tasks.into_iter().map(|task| task.future)).await;
    }

    /// Runs both ends until `goal`; panics when it is not reached within `limit`.
    pub(super) async fn run_until(
        &self,
        device: Arc<dyn Connector>,
        registry: Arc<dyn Connector>,
        limit: Duration,
        goal: impl Future<Output = ()>,
    ) {
        let shutdown = CancellationToken::new();
        let both = async {
            tokio::join!(
                self.run_device(device, shutdown.clone()),
                self.run_registry(registry, shutdown.clone()),
                async {
                    let reached = tokio::time::timeout(limit, goal).await;
                    shutdown.cancel();
                    assert!(reached.is_ok(), "not reached in time: {}", self.show());
                }
            )
        };
        both.await;
    }

    fn show(&self) -> String {
        let device = self.device.see();
        let registry = self.registry.see();
        format!(
            "records {:?}, outbox {}, blobs {}, segments {}, landed {}, reports {}",
            device
                .records
                .values()
                .map(|r| (r.kind, r.held.generation, &r.refused, r.applied.is_some()))
                .collect::<Vec<_>>(),
            device.outbox.entries.len(),
            device.blobs.len(),
            device.segments.len(),
            registry.landed.len(),
            registry.reports.len(),
        )
    }

    /// Puts a model version of `files` random-looking files of `size` bytes into the registry.
    pub(super) fn import(&self, version: u64, files: u8, size: usize) -> ModelEntry {
        let contents: Vec<Vec<u8>> = (0..files)
            .map(|file| filled(size, file ^ version.to_le_bytes()[0]))
            .collect();
        let manifest = Manifest {
            name: "main.default.fraud".parse().unwrap(),
            version: ModelVersion::new(version).unwrap(),
            files: contents
                .iter()
                .enumerate()
                .map(|(at, bytes)| ManifestFile {
                    path: format!("file-{at}"),
                    size: bytes.len() as u64,
                    digest: Digest::of(bytes),
                })
                .collect(),
        };
        let bytes = manifest.bytes();
        let entry = ModelEntry {
            name: manifest.name.clone(),
            version: manifest.version,
            manifest: manifest.digest(),
            manifest_size: bytes.len() as u64,
        };
        self.registry.edit(|registry| {
            registry.artifacts.insert(entry.manifest, bytes);
            for bytes in contents {
                registry.artifacts.insert(Digest::of(&bytes), bytes);
            }
        });
        entry
    }

    pub(super) fn publish(&self, generation: u64, document: &Document) {
        self.publish_signed(&key(), generation, document);
    }

    pub(super) fn publish_signed(&self, key: &RegistryKey, generation: u64, document: &Document) {
        let generation = Generation::new(1, generation);
        let envelope =
            DesiredDocument::sign(key, &fleet(), &device_id(), generation, 0, document).unwrap();
        let kind = document.kind();
        self.registry.edit(|registry| {
            registry.documents_changed.notify_one();
            registry.documents.insert(
                (device_id(), kind),
                PublishedDocument {
                    device: device_id(),
                    kind,
                    generation,
                    container: envelope.bytes(),
                },
            );
        });
    }

    pub(super) fn publish_models(&self, generation: u64, models: Vec<ModelEntry>) {
        self.publish(generation, &Document::Models(ModelsDocument { models }));
    }

    pub(super) fn publish_endpoints(&self, generation: u64, requires: u64, entry: &ModelEntry) {
        self.publish(generation, &Document::Endpoints(endpoints(requires, entry)));
    }

    /// Seals a segment of `size` bytes on the device.
    pub(super) fn seal(&self, first: u64, size: usize) -> SegmentManifest {
        let bytes = filled(size, first.to_le_bytes()[0]);
        let segment = SegmentManifest {
            name: SegmentName {
                table: "main.default.fraud".parse().unwrap(),
                kind: SegmentKind::Rows,
                boot: BootId(1),
                first,
                last: first + 99,
            },
            rows: 100,
            date: "2026-07-31".parse().unwrap(),
            size: size as u64,
            digest: Digest::of(&bytes),
        };
        self.device.edit(|device| {
            device.segments.push((segment.clone(), bytes));
            device.segments_changed.notify_one();
        });
        segment
    }

    /// Fills the outbox with so many reports, no two alike.
    pub(super) fn owe(&mut self, reports: u64) {
        self.outbox.capacity = usize::MAX;
        self.device.edit(|device| {
            device.outbox = OutboxSnapshot {
                next: reports + 1,
                entries: (1..=reports).map(owed).collect(),
            };
        });
    }

    /// Which of so many owed reports the registry has not recorded, or as another.
    pub(super) fn lost(&self, reports: u64) -> Vec<u64> {
        let registry = self.registry.see();
        let recorded = |sequence: &u64| {
            let report = registry.reports.get(&(device_id(), *sequence));
            report.is_some_and(|report| report.message == owed(*sequence).message)
        };
        (1..=reports)
            .filter(|sequence| !recorded(sequence))
            .collect()
    }

    /// The states the registry has recorded of a document, in the order of their sequence.
    pub(super) fn states(&self, kind: Kind, generation: u64) -> Vec<AckState> {
        states(&self.registry.see(), kind, generation)
            .cloned()
            .collect()
    }

    /// Waits until the registry has recorded a final state of a document.
    pub(super) async fn settled(&self, kind: Kind, generation: u64) {
        self.acknowledged(kind, generation, AckState::is_final)
            .await;
    }

    /// Waits until the registry has recorded such a state of a document.
    pub(super) async fn acknowledged(
        &self,
        kind: Kind,
        generation: u64,
        such: impl Fn(&AckState) -> bool,
    ) {
        self.registry
            .until(|registry| states(registry, kind, generation).any(&such))
            .await;
    }

    /// Waits until nothing is on its way: outbox confirmed, segments landed.
    pub(super) async fn quiet(&self) {
        self.device
            .until(|device| device.outbox.entries.is_empty() && device.segments.is_empty())
            .await;
    }
}

pub(super) fn endpoints(requires: u64, entry: &ModelEntry) -> EndpointsDocument {
    serde_json::from_value(json!({
        "requires": {"models": {"epoch": 1, "generation": requires}},
        "endpoints": {"fraud": {
            "served_entities": [{"name": "champion", "entity_name": entry.name,
                "entity_version": entry.version, "manifest": entry.manifest}],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": 100}]}}}}))
    .unwrap()
}

fn owed(sequence: u64) -> OutboxEntry {
    OutboxEntry {
        sequence,
        boot: BootId(1),
        message: ReportMessage::Ack(Ack {
            kind: Kind::Endpoints,
            generation: Some(Generation::new(1, sequence)),
            state: AckState::Accepted,
        }),
    }
}

fn states(registry: &Registry, kind: Kind, generation: u64) -> impl Iterator<Item = &AckState> {
    registry
        .reports
        .values()
        .filter_map(move |report| match &report.message {
            ReportMessage::Ack(ack)
                if ack.kind == kind && ack.generation == Some(Generation::new(1, generation)) =>
            {
                Some(&ack.state)
            }
            _ => None,
        })
}

/// `size` bytes that repeat with no power of two, so that a misplaced chunk shows.
fn filled(size: usize, seed: u8) -> Vec<u8> {
    (0..251_u8).map(|at| at ^ seed).cycle().take(size).collect()
}
