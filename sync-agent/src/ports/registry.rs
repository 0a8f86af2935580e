//! What a registry's agents need: signed documents, artifacts, a landing folder, and records.

use async_trait::async_trait;
use edgeward_base::{digest::Digest, names::DeviceId};
use edgeward_wire::{
    ack::Rejection,
    chunk::ChunkSet,
    ordering::{Generation, Kind},
    presence::Presence,
    report::{Report, ReportMessage},
    segment::SegmentManifest,
};

use super::PortError;

/// The newest signed document for one device and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedDocument {
    /// For whom.
    pub device: DeviceId,
    /// Of which kind.
    pub kind: Kind,
    /// Its place in the order.
    pub generation: Generation,
    /// Its signed container, byte for byte as it was first published.
    pub container: Vec<u8>,
}

/// The registry's signed documents.
#[async_trait]
pub trait DocumentSource: Send + Sync {
    /// The newest document of each device and kind.
    async fn documents(&self) -> Result<Vec<PublishedDocument>, PortError>;

    /// Returns when a document has been signed.
    async fn changed(&self);
}

/// One chunk of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactChunk {
    /// How many chunks the artifact has.
    pub total: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The registry's blobs: manifests and model files by digest.
#[async_trait]
pub trait ArtifactSource: Send + Sync {
    /// Chunk `index` of a blob; none when there is no such blob or no such chunk.
    async fn read(&self, digest: &Digest, index: u32) -> Result<Option<ArtifactChunk>, PortError>;
}

/// How far a segment has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LandingProgress {
    /// It stands under its name with the digest of the manifest.
    Landed,
    /// These chunks are staged, durably or not: a lost one is asked for again.
    Staging(ChunkSet),
}

/// Why a segment could not land.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// For good: other bytes have landed under its name, or the bytes are no such Parquet file.
    #[error("refused: {0}")]
    Refused(Rejection),
    /// The staged bytes do not have the digest of the manifest; they were thrown away.
    #[error("staged bytes do not have the digest of the manifest")]
    Mismatch,
    /// For now: the device offers it again.
    #[error(transparent)]
    Later(#[from] PortError),
}

/// Where segments are staged and land.
#[async_trait]
pub trait LandingSink: Send + Sync {
    /// How far the segment of `device` has come; opens a staging place when it is new.
    async fn progress(
        &self,
        device: &DeviceId,
        segment: &SegmentManifest,
    ) -> Result<LandingProgress, LandError>;

    /// Stages a chunk of the right length.
    async fn write(
        &self,
        device: &DeviceId,
        segment: &SegmentManifest,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), LandError>;

    /// Verifies the staged bytes (digest, and that they are Parquet with the rows of the
    /// manifest), then puts them under [`SegmentManifest::object`], only if nothing is there.
    /// Durable when it returns: the receipt is signed after that.
    async fn land(&self, device: &DeviceId, segment: &SegmentManifest) -> Result<(), LandError>;
}

/// What the registry knows of its devices.
#[async_trait]
pub trait ReportSink: Send + Sync {
    /// Records a report: for each device, message and kind the one with the highest sequence is
    /// the current one. A sequence already seen changes nothing. Durable when it returns.
    ///
    /// Returns the highest sequence recorded of this device.
    async fn record(&self, report: &Report<ReportMessage>) -> Result<u64, PortError>;

    /// Records a presence that [replaces](Presence::replaces) the one recorded, else ignores it.
    /// Returns the presence recorded afterwards.
    async fn presence(&self, device: &DeviceId, presence: &Presence)
    -> Result<Presence, PortError>;
}
