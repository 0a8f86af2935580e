//! The ports: everything the protocol engines need from the process they run in.
//!
//! Owns: the traits that `daemon::fleet` (device side) and `daemon::registry` (central side)
//! implement. Must never: name a database, a file system, an engine or an endpoint type.
//!
//! Rules for every implementation:
//!
//! - Futures may be dropped at any await. What a call has promised to do durably is done when it
//!   returns `Ok`, and a repeated call with the same arguments changes nothing more.
//! - `changed()` has one caller and misses nothing: it returns at once when something changed since
//!   it last returned, else waits (`tokio::sync::Notify` with `notify_one` does exactly this). A
//!   spurious return is harmless.
//! - [`PortError`] means "not now": the engine logs it, keeps what it has and tries again later. A
//!   refusal for good is a [`Rejection`](edgeward_wire::ack::Rejection).
//!
//! | port | side | implemented over |
//! |---|---|---|
//! | [`DesiredStore`] | device | the state store |
//! | [`OutboxStore`] | device | the state store |
//! | [`BlobStore`] | device | the model store's partial and complete artifacts |
//! | [`ModelSink`] | device | the model store |
//! | [`EndpointSink`] | device | the endpoint owner |
//! | [`SegmentSource`] | device | the inference tables' sealed segments |
//! | [`DocumentSource`] | registry | the registry's signed documents |
//! | [`ArtifactSource`] | registry | the registry's model store |
//! | [`LandingSink`] | registry | staging and landing folders |
//! | [`ReportSink`] | registry | the registry's records of its devices |

mod device;
mod registry;

pub use self::{
    device::{
        AppliedDocument, ApplyOutcome, BlobFinish, BlobProgress, BlobStore, DesiredStore,
        EndpointSink, ModelSink, OutboxChange, OutboxEntry, OutboxSnapshot, OutboxStore,
        SegmentSource, StageError, TrackRecord,
    },
    registry::{
        ArtifactChunk, ArtifactSource, DocumentSource, LandError, LandingProgress, LandingSink,
        PublishedDocument, ReportSink,
    },
};

/// A port could not do its work now; it may later.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
pub struct PortError {
    /// What was being done, such as `write chunk`.
    pub doing: &'static str,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl PortError {
    /// Wraps what went wrong while `doing`.
    pub fn new(
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            doing,
            source: source.into(),
        }
    }
}
