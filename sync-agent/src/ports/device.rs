//! What a device's agents need: durable memory, models, endpoints, and sealed segments.

use async_trait::async_trait;
use edgeward_base::{
    digest::Digest,
    names::{BootId, EndpointName},
};
use edgeward_wire::{
    ack::Rejection,
    chunk::ChunkSet,
    desired::{EndpointsDocument, ModelEntry},
    manifest::Manifest,
    ordering::{DocumentIdentity, Kind},
    report::ReportMessage,
    reported::{ReportedEndpoint, ReportedModel},
    segment::{Receipt, SegmentManifest},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::PortError;

/// What a device remembers of the desired documents of one kind: one record for each kind.
///
/// Its parts are written by those who know: what is held and refused by [`DesiredStore::save`], which
/// `endpoints` document is in force by [`EndpointSink::apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Which kind.
    pub kind: Kind,
    /// The newest document ever accepted; nothing older is accepted again.
    pub held: DocumentIdentity,
    /// Its signed container, byte for byte, so that a restart can go on without the broker.
    pub held_container: Vec<u8>,
    /// Why the held document was refused, when it was.
    pub refused: Option<Rejection>,
    /// The document in force: the held one or an earlier one.
    pub applied: Option<AppliedDocument>,
}

impl TrackRecord {
    /// The record of `kind` from what was saved of it and what was written with its application.
    ///
    /// A document that was applied quickly was never saved before: then it is the newest accepted.
    #[must_use]
    pub fn joined(
        kind: Kind,
        saved: Option<Self>,
        applied: Option<AppliedDocument>,
    ) -> Option<Self> {
        let Some(applied) = applied else { return saved };
        let held = saved.filter(|saved| saved.held.generation >= applied.identity.generation);
        let record = held.unwrap_or_else(|| Self {
            kind,
            held: applied.identity,
            held_container: applied.container.clone(),
            refused: None,
            applied: None,
        });
        Some(Self {
            applied: Some(applied),
            ..record
        })
    }
}

/// A desired document in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedDocument {
    /// Which.
    pub identity: DocumentIdentity,
    /// What the device made of it.
    pub effective_hash: Digest,
    /// Its signed container, byte for byte.
    pub container: Vec<u8>,
}

/// Durable memory for desired documents.
#[async_trait]
pub trait DesiredStore: Send + Sync {
    /// Every record, in any order.
    async fn load(&self) -> Result<Vec<TrackRecord>, PortError>;

    /// Writes the record of its kind, but for [`TrackRecord::applied`] of `endpoints`, which
    /// [`EndpointSink::apply`] writes. Durable when it returns.
    async fn save(&self, record: &TrackRecord) -> Result<(), PortError>;
}

/// A report that the registry has not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Its number, rising over the device's whole life.
    pub sequence: u64,
    /// In which boot it was said.
    pub boot: BootId,
    /// What is said. Store it in a self-describing format (JSON), not in postcard.
    pub message: ReportMessage,
}

/// What an outbox held when it was last written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxSnapshot {
    /// Greater than the sequence of every entry ever written, also of those removed.
    pub next: u64,
    /// Entries not yet removed, in any order.
    pub entries: Vec<OutboxEntry>,
}

/// One atomic change of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxChange {
    /// Entries to write; one with the same sequence is replaced.
    pub put: Vec<OutboxEntry>,
    /// Sequences to remove, before `put` is written.
    pub remove: Vec<u64>,
    /// The new value of [`OutboxSnapshot::next`].
    pub next: u64,
}

/// Durable memory for reports on their way.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// What was last written.
    async fn load(&self) -> Result<OutboxSnapshot, PortError>;

    /// Applies a change, whole or not at all. Durable when it returns if anything is put; a
    /// removal alone may be batched, for a report sent twice is recorded once.
    async fn commit(&self, change: OutboxChange) -> Result<(), PortError>;
}

/// Why something could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// For good: the document is rejected with it.
    #[error("refused: {0}")]
    Refused(Rejection),
    /// For now: tried again later.
    #[error(transparent)]
    Later(#[from] PortError),
}

/// How much of a blob the device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobProgress {
    /// All of it, verified.
    Complete,
    /// These chunks, durably.
    Partial(ChunkSet),
}

/// What became of an assembled blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobFinish {
    /// Its digest is right; it stands under its name, durably.
    Complete,
    /// Its digest is wrong; every chunk was thrown away.
    Mismatch,
}

/// Blobs (manifests and model files) by digest, complete or being assembled.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// How much is held of the blob of `size` bytes. Only chunks that survive a power cut count.
    async fn progress(&self, digest: &Digest, size: u64) -> Result<BlobProgress, StageError>;

    /// Writes a chunk of the right length at its place. The bytes and the mark that says so may
    /// become durable later, in this order.
    async fn write(
        &self,
        digest: &Digest,
        size: u64,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StageError>;

    /// Verifies the digest of the whole and, when right, puts the blob under its name, durably.
    async fn finish(&self, digest: &Digest, size: u64) -> Result<BlobFinish, StageError>;

    /// The bytes of a complete blob of at most [`MAX_MANIFEST_BYTES`].
    ///
    /// [`MAX_MANIFEST_BYTES`]: edgeward_wire::manifest::MAX_MANIFEST_BYTES
    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, StageError>;
}

/// Model versions made of complete blobs.
#[async_trait]
pub trait ModelSink: Send + Sync {
    /// Makes a model version of blobs that are all complete. Installing it again changes nothing.
    async fn install(&self, entry: &ModelEntry, manifest: &Manifest) -> Result<(), StageError>;

    /// Every model version on the device, whoever installed it.
    async fn running(&self) -> Result<Vec<ReportedModel>, PortError>;
}

/// What became of an `endpoints` document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// It is in force.
    Applied,
    /// It is refused for good; what ran before still runs.
    Rejected(Rejection),
    /// It was in force, failed for this reason, and was undone.
    RolledBack(Rejection),
}

/// Serving endpoints.
#[async_trait]
pub trait EndpointSink: Send + Sync {
    /// Makes the endpoints of the registry equal to `document`, all or none: stage, commit, swap,
    /// drain. Everything it requires is installed. May be dropped when a newer document arrives:
    /// then either what ran before or `document` runs, whole. Applying it again changes nothing.
    ///
    /// `applied` becomes [`TrackRecord::applied`] in the same write as the endpoints, so that a power
    /// cut finds both or neither.
    ///
    /// Fails with [`PortError`] only when it cannot say: it is called again.
    async fn apply(
        &self,
        document: &EndpointsDocument,
        applied: &AppliedDocument,
    ) -> Result<ApplyOutcome, PortError>;

    /// Every serving endpoint on the device, whoever owns it.
    async fn running(&self) -> Result<BTreeMap<EndpointName, ReportedEndpoint>, PortError>;

    /// Returns when what runs has changed, for whatever reason.
    async fn changed(&self);
}

/// Sealed segments that wait for upload.
#[async_trait]
pub trait SegmentSource: Send + Sync {
    /// Every sealed segment that has not landed, the oldest first.
    async fn sealed(&self) -> Result<Vec<SegmentManifest>, PortError>;

    /// Returns when a segment has been sealed.
    async fn changed(&self);

    /// The bytes of chunk `index`.
    async fn read(&self, segment: &SegmentManifest, index: u32) -> Result<Vec<u8>, PortError>;

    /// The registry's verified receipt: remember it durably, then delete the segment.
    async fn landed(&self, segment: &SegmentManifest, receipt: &Receipt) -> Result<(), PortError>;
}
