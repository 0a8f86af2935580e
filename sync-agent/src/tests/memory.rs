//! Every port over plain memory, which survives a restart of the agents that use it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use edgeward_base::{
    digest::Digest,
    names::{DeviceId, EndpointName},
};
use edgeward_wire::{
    ack::{RejectCode, Rejection},
    chunk::{CHUNK_BYTES, ChunkSet, chunk_count},
    desired::{EndpointsDocument, ModelEntry},
    manifest::Manifest,
    ordering::{Generation, Kind},
    presence::Presence,
    report::{Report, ReportMessage},
    reported::{ManagedBy, ReportedEndpoint, ReportedEntity, ReportedModel},
    segment::{Receipt, SegmentManifest},
};
use tokio::sync::{Notify, watch};

use crate::ports::{
    AppliedDocument, ApplyOutcome, ArtifactChunk, ArtifactSource, BlobFinish, BlobProgress,
    BlobStore, DesiredStore, DocumentSource, EndpointSink, LandError, LandingProgress, LandingSink,
    ModelSink, OutboxChange, OutboxSnapshot, OutboxStore, PortError, PublishedDocument, ReportSink,
    SegmentSource, StageError, TrackRecord,
};

/// State behind one lock that wakes whoever waits for a condition on it.
pub(super) struct Memory<S> {
    state: Arc<Mutex<S>>,
    version: watch::Sender<u64>,
}

impl<S> Clone for Memory<S> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            version: self.version.clone(),
        }
    }
}

impl<S: Default> Default for Memory<S> {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl<S> Memory<S> {
    pub(super) fn see(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap()
    }

    pub(super) fn edit<T>(&self, edit: impl FnOnce(&mut S) -> T) -> T {
        let result = edit(&mut self.see());
        self.version.send_modify(|version| *version += 1);
        result
    }

    pub(super) async fn until(&self, condition: impl Fn(&S) -> bool) {
        let mut version = self.version.subscribe();
        while !condition(&self.see()) {
            version.changed().await.unwrap();
        }
    }
}

/// What a device holds.
#[derive(Default)]
pub(super) struct Device {
    pub(super) records: BTreeMap<Kind, TrackRecord>,
    /// What was written with the endpoints.
    pub(super) in_force: Option<AppliedDocument>,
    pub(super) outbox: OutboxSnapshot,
    pub(super) partial: HashMap<Digest, (Vec<u8>, ChunkSet)>,
    pub(super) blobs: HashMap<Digest, Vec<u8>>,
    pub(super) models: BTreeSet<ReportedModel>,
    pub(super) endpoints: BTreeMap<EndpointName, ReportedEndpoint>,
    pub(super) endpoints_version: u64,
    pub(super) endpoints_changed: Arc<Notify>,
    pub(super) segments: Vec<(SegmentManifest, Vec<u8>)>,
    pub(super) segments_changed: Arc<Notify>,
    /// The disk does not read these.
    pub(super) unreadable: BTreeSet<Digest>,
    /// Every generation handed to the endpoint owner.
    pub(super) applied: Vec<Generation>,
    pub(super) chunks_written: u64,
    /// The endpoint owner never comes to an end with these.
    pub(super) hang: BTreeSet<Generation>,
    /// What the endpoint owner answers; applied when none.
    pub(super) verdict: Option<ApplyOutcome>,
}

pub(super) type DeviceMemory = Memory<Device>;

fn broken(doing: &'static str) -> PortError {
    PortError::new(doing, "the test says so")
}

#[async_trait]
impl DesiredStore for DeviceMemory {
    async fn load(&self) -> Result<Vec<TrackRecord>, PortError> {
        let device = self.see();
        let joined = |kind| {
            let mut saved = device.records.get(&kind).cloned();
            let applied = match kind {
                Kind::Models => saved.as_mut().and_then(|saved| saved.applied.take()),
                Kind::Endpoints => device.in_force.clone(),
            };
            TrackRecord::joined(kind, saved, applied)
        };
        Ok(Kind::ALL.into_iter().filter_map(joined).collect())
    }

    async fn save(&self, record: &TrackRecord) -> Result<(), PortError> {
        let mut saved = record.clone();
        if saved.kind == Kind::Endpoints {
            saved.applied = None;
        }
        self.edit(|device| device.records.insert(saved.kind, saved));
        Ok(())
    }
}

#[async_trait]
impl OutboxStore for DeviceMemory {
    async fn load(&self) -> Result<OutboxSnapshot, PortError> {
        Ok(self.see().outbox.clone())
    }

    async fn commit(&self, change: OutboxChange) -> Result<(), PortError> {
        self.edit(|device| {
            let outbox = &mut device.outbox;
            let gone: BTreeSet<u64> = change
                .remove
                .iter()
                .chain(change.put.iter().map(|put| &put.sequence))
                .copied()
                .collect();
            outbox
                .entries
                .retain(|entry| !gone.contains(&entry.sequence));
            outbox.entries.extend(change.put);
            outbox.next = change.next;
        });
        Ok(())
    }
}

#[async_trait]
impl BlobStore for DeviceMemory {
    async fn progress(&self, digest: &Digest, size: u64) -> Result<BlobProgress, StageError> {
        let device = self.see();
        if device.blobs.contains_key(digest) {
            return Ok(BlobProgress::Complete);
        }
        let held = device.partial.get(digest).map(|(_, held)| held.clone());
        Ok(BlobProgress::Partial(
            held.or_else(|| ChunkSet::empty(size)).unwrap(),
        ))
    }

    async fn write(
        &self,
        digest: &Digest,
        size: u64,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        self.edit(|device| {
            device.chunks_written += 1;
            let (whole, held) = device.partial.entry(*digest).or_insert_with(|| {
                (
                    vec![0; usize::try_from(size).unwrap()],
                    ChunkSet::empty(size).unwrap(),
                )
            });
            let start = usize::try_from(u64::from(index) * CHUNK_BYTES).unwrap();
            whole[start..start + bytes.len()].copy_from_slice(bytes);
            held.insert(index);
        });
        Ok(())
    }

    async fn finish(&self, digest: &Digest, _size: u64) -> Result<BlobFinish, StageError> {
        self.edit(|device| {
            let (whole, held) = device.partial.remove(digest).unwrap();
            assert!(held.is_complete());
            if Digest::of(&whole) == *digest {
                device.blobs.insert(*digest, whole);
                Ok(BlobFinish::Complete)
            } else {
                Ok(BlobFinish::Mismatch)
            }
        })
    }

    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, StageError> {
        self.see()
            .blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| broken("read blob").into())
    }
}

#[async_trait]
impl ModelSink for DeviceMemory {
    async fn install(&self, entry: &ModelEntry, manifest: &Manifest) -> Result<(), StageError> {
        self.edit(|device| {
            for file in &manifest.files {
                assert!(
                    device.blobs.contains_key(&file.digest),
                    "installed before it is whole"
                );
            }
            let ModelEntry {
                name,
                version,
                manifest,
                ..
            } = entry.clone();
            device.models.insert(ReportedModel {
                name,
                version,
                manifest,
            });
        });
        Ok(())
    }

    async fn running(&self) -> Result<Vec<ReportedModel>, PortError> {
        Ok(self.see().models.iter().cloned().collect())
    }
}

fn reported(
    document: &EndpointsDocument,
    version: u64,
) -> BTreeMap<EndpointName, ReportedEndpoint> {
    let entity = |endpoint: &edgeward_wire::desired::EndpointDocument, index: usize| {
        let entity = &endpoint.served_entities[index];
        let route = &endpoint.traffic_config.routes[index];
        ReportedEntity {
            name: entity.name.clone(),
            entity_name: entity.entity_name.clone(),
            entity_version: entity.entity_version,
            traffic_percentage: route.traffic_percentage.get(),
            verified: None,
        }
    };
    let endpoint = |wanted: &edgeward_wire::desired::EndpointDocument| ReportedEndpoint {
        config_version: version,
        effective_hash: document.effective_hash(),
        managed_by: ManagedBy::Registry,
        served_entities: (0..wanted.served_entities.len())
            .map(|index| entity(wanted, index))
            .collect(),
    };
    document
        .endpoints
        .iter()
        .map(|(name, wanted)| (name.clone(), endpoint(wanted)))
        .collect()
}

#[async_trait]
impl EndpointSink for DeviceMemory {
    async fn apply(
        &self,
        document: &EndpointsDocument,
        applied: &AppliedDocument,
    ) -> Result<ApplyOutcome, PortError> {
        let generation = applied.identity.generation;
        let hang = self.edit(|device| {
            device.applied.push(generation);
            device.hang.contains(&generation)
        });
        if hang {
            std::future::pending::<()>().await;
        }
        Ok(self.edit(|device| {
            if let Some(verdict) = device.verdict.clone() {
                return verdict;
            }
            for endpoint in document.endpoints.values() {
                for entity in &endpoint.served_entities {
                    assert!(
                        device
                            .models
                            .iter()
                            .any(|model| model.manifest == entity.manifest),
                        "applied before its models are installed"
                    );
                }
            }
            device.endpoints_version += 1;
            device.endpoints_changed.notify_one();
            device.endpoints = reported(document, device.endpoints_version);
            device.in_force = Some(applied.clone());
            ApplyOutcome::Applied
        }))
    }

    async fn running(&self) -> Result<BTreeMap<EndpointName, ReportedEndpoint>, PortError> {
        Ok(self.see().endpoints.clone())
    }

    async fn changed(&self) {
        let changed = Arc::clone(&self.see().endpoints_changed);
        changed.notified().await;
    }
}

#[async_trait]
impl SegmentSource for DeviceMemory {
    async fn sealed(&self) -> Result<Vec<SegmentManifest>, PortError> {
        Ok(self
            .see()
            .segments
            .iter()
            .map(|(manifest, _)| manifest.clone())
            .collect())
    }

    async fn changed(&self) {
        let changed = Arc::clone(&self.see().segments_changed);
        changed.notified().await;
    }

    async fn read(&self, segment: &SegmentManifest, index: u32) -> Result<Vec<u8>, PortError> {
        let device = self.see();
        if device.unreadable.contains(&segment.digest) {
            return Err(broken("read segment"));
        }
        let (_, bytes) = device
            .segments
            .iter()
            .find(|(manifest, _)| manifest == segment)
            .ok_or_else(|| broken("read segment"))?;
        Ok(chunk_of(bytes, index).unwrap())
    }

    async fn landed(&self, segment: &SegmentManifest, receipt: &Receipt) -> Result<(), PortError> {
        assert_eq!(receipt.digest, segment.digest);
        self.edit(|device| device.segments.retain(|(manifest, _)| manifest != segment));
        Ok(())
    }
}

fn chunk_of(bytes: &[u8], index: u32) -> Option<Vec<u8>> {
    bytes
        .chunks(usize::try_from(CHUNK_BYTES).unwrap())
        .nth(usize::try_from(index).unwrap())
        .map(<[u8]>::to_vec)
}

/// What a registry holds.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) documents: BTreeMap<(DeviceId, Kind), PublishedDocument>,
    pub(super) documents_changed: Arc<Notify>,
    pub(super) artifacts: HashMap<Digest, Vec<u8>>,
    /// Artifacts that cannot be read now.
    pub(super) stuck: BTreeSet<Digest>,
    /// The first answers for these artifacts are wrong bytes.
    pub(super) corrupt_once: BTreeSet<Digest>,
    pub(super) artifact_reads: u64,
    pub(super) staged: HashMap<(DeviceId, Digest), (Vec<u8>, ChunkSet)>,
    pub(super) landed: BTreeMap<String, Vec<u8>>,
    pub(super) landings: u64,
    /// Every report, once.
    pub(super) reports: BTreeMap<(DeviceId, u64), Report<ReportMessage>>,
    /// Reports that came again.
    pub(super) repeated: u64,
    pub(super) presence: BTreeMap<DeviceId, Presence>,
}

pub(super) type RegistryMemory = Memory<Registry>;

#[async_trait]
impl DocumentSource for RegistryMemory {
    async fn documents(&self) -> Result<Vec<PublishedDocument>, PortError> {
        Ok(self.see().documents.values().cloned().collect())
    }

    async fn changed(&self) {
        let changed = Arc::clone(&self.see().documents_changed);
        changed.notified().await;
    }
}

#[async_trait]
impl ArtifactSource for RegistryMemory {
    async fn read(&self, digest: &Digest, index: u32) -> Result<Option<ArtifactChunk>, PortError> {
        self.edit(|registry| {
            registry.artifact_reads += 1;
            if registry.stuck.contains(digest) {
                return Err(broken("read artifact"));
            }
            let Some(whole) = registry.artifacts.get(digest) else {
                return Ok(None);
            };
            let total = chunk_count(whole.len() as u64).unwrap();
            let bytes = chunk_of(whole, index);
            Ok(bytes.map(|mut bytes| {
                if registry.corrupt_once.remove(digest) {
                    bytes[0] ^= 1;
                }
                ArtifactChunk { total, bytes }
            }))
        })
    }
}

#[async_trait]
impl LandingSink for RegistryMemory {
    async fn progress(
        &self,
        device: &DeviceId,
        segment: &SegmentManifest,
    ) -> Result<LandingProgress, LandError> {
        self.edit(|registry| {
            if let Some(landed) = registry.landed.get(&segment.object(device)) {
                return if Digest::of(landed) == segment.digest {
                    Ok(LandingProgress::Landed)
                } else {
                    let detail = "other bytes have landed under this name";
                    Err(LandError::Refused(Rejection::new(
                        RejectCode::GenerationConflict,
                        detail,
                    )))
                };
            }
            let (_, held) = registry
                .staged
                .entry((device.clone(), segment.digest))
                .or_insert_with(|| {
                    let size = usize::try_from(segment.size).unwrap();
                    (vec![0; size], ChunkSet::empty(segment.size).unwrap())
                });
            Ok(LandingProgress::Staging(held.clone()))
        })
    }

    async fn write(
        &self,
        device: &DeviceId,
        segment: &SegmentManifest,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), LandError> {
        self.edit(|registry| {
            let (whole, held) = registry
                .staged
                .get_mut(&(device.clone(), segment.digest))
                .ok_or_else(|| broken("stage"))?;
            let start = usize::try_from(u64::from(index) * CHUNK_BYTES).unwrap();
            whole[start..start + bytes.len()].copy_from_slice(bytes);
            held.insert(index);
            Ok(())
        })
    }

    async fn land(&self, device: &DeviceId, segment: &SegmentManifest) -> Result<(), LandError> {
        self.edit(|registry| {
            let (whole, _) = registry
                .staged
                .remove(&(device.clone(), segment.digest))
                .ok_or_else(|| broken("land"))?;
            if Digest::of(&whole) != segment.digest {
                return Err(LandError::Mismatch);
            }
            let earlier = registry.landed.insert(segment.object(device), whole);
            assert!(earlier.is_none(), "landed twice");
            registry.landings += 1;
            Ok(())
        })
    }
}

#[async_trait]
impl ReportSink for RegistryMemory {
    async fn record(&self, report: &Report<ReportMessage>) -> Result<u64, PortError> {
        Ok(self.edit(|registry| {
            let key = (report.device.clone(), report.sequence);
            let mut repeated = true;
            registry.reports.entry(key).or_insert_with(|| {
                repeated = false;
                report.clone()
            });
            registry.repeated += u64::from(repeated);
            let mine = registry
                .reports
                .keys()
                .filter(|(device, _)| *device == report.device);
            mine.map(|(_, sequence)| *sequence).max().unwrap()
        }))
    }

    async fn presence(
        &self,
        device: &DeviceId,
        presence: &Presence,
    ) -> Result<Presence, PortError> {
        Ok(self.edit(|registry| {
            if presence.replaces(registry.presence.get(device)) {
                registry.presence.insert(device.clone(), presence.clone());
            }
            registry.presence[device].clone()
        }))
    }
}
