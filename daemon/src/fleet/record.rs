//! What the device remembers of its fleet. Messages are kept as the JSON that travels: postcard
//! cannot read them, and a support engineer can.

use edgeward_sync::ports::AppliedDocument;
use edgeward_wire::ordering::Kind;
use serde::{Deserialize, Serialize};

use crate::store::{Change, ChangeError, Record};

/// What is held of the desired documents of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrackRow {
    pub(super) kind: Kind,
    /// A `TrackRecord` of `edgeward-sync` without what is in force, as JSON.
    pub(super) track: Vec<u8>,
}

impl Record for TrackRow {
    const TABLE: &'static str = "fleet_track";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.kind.to_string()
    }
}

/// The document of a kind that is in force. That of `endpoints` is committed with the endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedRow {
    pub(super) kind: Kind,
    /// An `AppliedDocument` of `edgeward-sync`, as JSON.
    pub(super) applied: Vec<u8>,
}

impl AppliedRow {
    /// The change that puts the record.
    pub(super) fn change(
        kind: Kind,
        applied: &AppliedDocument,
    ) -> Result<Change, WriteRecordError> {
        let applied = serde_json::to_vec(applied).map_err(WriteRecordError::Serialise)?;
        Change::new()
            .put(&Self { kind, applied })
            .map_err(WriteRecordError::Change)
    }
}

impl Record for AppliedRow {
    const TABLE: &'static str = "fleet_applied";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.kind.to_string()
    }
}

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteRecordError {
    /// Its content has no JSON.
    #[error("cannot serialise")]
    Serialise(#[source] serde_json::Error),
    /// The store does not take it.
    #[error("cannot be stored")]
    Change(#[source] ChangeError),
}

/// A report on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutboxRow {
    pub(super) sequence: u64,
    /// An `OutboxEntry` of `edgeward-sync`, as JSON.
    pub(super) entry: Vec<u8>,
}

impl OutboxRow {
    /// Keys sort as the sequences do.
    pub(super) fn key_of(sequence: u64) -> String {
        format!("{sequence:020}")
    }
}

impl Record for OutboxRow {
    const TABLE: &'static str = "fleet_outbox";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::key_of(self.sequence)
    }
}

/// Where the numbering of reports goes on. One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutboxNext {
    pub(super) next: u64,
}

impl OutboxNext {
    pub(super) const KEY: &'static str = "next";
}

impl Record for OutboxNext {
    const TABLE: &'static str = "fleet_outbox_next";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::KEY.to_owned()
    }
}

/// Which chunks of a blob are on disk.
///
/// Written after the bytes were synced, so that it never claims more than there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRow {
    pub(super) digest: edgeward_base::digest::Digest,
    pub(super) size: u64,
    /// One bit for each chunk, least significant first.
    pub(super) bitmap: Vec<u8>,
}

impl Record for BlobRow {
    const TABLE: &'static str = "fleet_blob";
    const SCHEMA: u16 = 1;
    const DURABILITY: crate::store::Durability = crate::store::Durability::Progress;

    fn key(&self) -> String {
        self.digest.to_string()
    }
}
