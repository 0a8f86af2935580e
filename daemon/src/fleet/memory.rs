//! Durable memory of the device's agent: desired documents and the outbox of reports.
//!
//! What is held of a document and what is in force are records of their own: the `endpoints` document
//! in force is committed by the owner of endpoints, in the transaction that makes it so.
//!
//! A confirmed report leaves the store with the next write of the outbox, not by one of its own: a
//! removal that a power cut takes only has the report sent once more, and the registry confirm it
//! once more.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use edgeward_sync::ports::{
    AppliedDocument, DesiredStore, OutboxChange, OutboxEntry, OutboxSnapshot, OutboxStore,
    PortError, TrackRecord,
};
use edgeward_wire::ordering::Kind;

use super::record::{AppliedRow, OutboxNext, OutboxRow, TrackRow, WriteRecordError};
use crate::store::{Change, ChangeError, Store};

/// Keeps what the agent must remember in the state store.
#[derive(Debug)]
pub struct FleetMemory {
    store: Store,
    /// Reports that are confirmed and still in the store.
    confirmed: Mutex<BTreeSet<u64>>,
}

impl FleetMemory {
    /// Memory in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            confirmed: Mutex::default(),
        }
    }

    fn with_confirmed<T>(&self, edit: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        edit(
            &mut self
                .confirmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// What is saved of a record: what is in force is part of it for `models` only.
fn track_change(record: &TrackRecord) -> Result<Change, WriteRecordError> {
    let (applied, saved) = (
        &record.applied,
        TrackRecord {
            applied: None,
            ..record.clone()
        },
    );
    let track = serde_json::to_vec(&saved).map_err(WriteRecordError::Serialise)?;
    let kind = record.kind;
    let change = match (kind, applied) {
        (Kind::Models, Some(applied)) => AppliedRow::change(kind, applied)?,
        (Kind::Models, None) | (Kind::Endpoints, _) => Change::new(),
    };
    change
        .put(&TrackRow { kind, track })
        .map_err(WriteRecordError::Change)
}

#[async_trait]
impl DesiredStore for FleetMemory {
    async fn load(&self) -> Result<Vec<TrackRecord>, PortError> {
        let failed = "read desired documents";
        let mut records = Vec::new();
        for kind in Kind::ALL {
            let row = self.store.get::<TrackRow>(kind.as_str());
            let saved: Option<TrackRecord> = row
                .map_err(|error| PortError::new(failed, error))?
                .map(|row| serde_json::from_slice(&row.track))
                .transpose()
                .map_err(|error| PortError::new(failed, error))?;
            let row = self.store.get::<AppliedRow>(kind.as_str());
            let applied: Option<AppliedDocument> = row
                .map_err(|error| PortError::new(failed, error))?
                .map(|row| serde_json::from_slice(&row.applied))
                .transpose()
                .map_err(|error| PortError::new(failed, error))?;
            records.extend(TrackRecord::joined(kind, saved, applied));
        }
        Ok(records)
    }

    async fn save(&self, record: &TrackRecord) -> Result<(), PortError> {
        let failed = "save desired document";
        let change = track_change(record).map_err(|error| PortError::new(failed, error))?;
        self.store
            .commit(change)
            .await
            .map_err(|error| PortError::new(failed, error))?;
        Ok(())
    }
}

#[async_trait]
impl OutboxStore for FleetMemory {
    async fn load(&self) -> Result<OutboxSnapshot, PortError> {
        let failed = "read outbox";
        let rows = self
            .store
            .list::<OutboxRow>()
            .map_err(|error| PortError::new(failed, error))?;
        let entries = rows
            .iter()
            .map(|row| serde_json::from_slice::<OutboxEntry>(&row.entry))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PortError::new(failed, error))?;
        let next = self
            .store
            .get::<OutboxNext>(OutboxNext::KEY)
            .map_err(|error| PortError::new(failed, error))?
            .map_or(0, |record| record.next);
        Ok(OutboxSnapshot { next, entries })
    }

    async fn commit(&self, mut change: OutboxChange) -> Result<(), PortError> {
        let failed = "write outbox";
        if change.put.is_empty() {
            self.with_confirmed(|confirmed| confirmed.extend(change.remove));
            return Ok(());
        }
        let confirmed = self.with_confirmed(|confirmed| confirmed.clone());
        change.remove.extend(&confirmed);
        let records = outbox_records(&change).map_err(|error| PortError::new(failed, error))?;
        let written = records
            .into_change(&change)
            .map_err(|error| PortError::new(failed, error))?;
        self.store
            .commit(written)
            .await
            .map_err(|error| PortError::new(failed, error))?;
        self.with_confirmed(|left| left.retain(|sequence| !confirmed.contains(sequence)));
        Ok(())
    }
}

struct OutboxRecords(Vec<OutboxRow>);

fn outbox_records(change: &OutboxChange) -> Result<OutboxRecords, serde_json::Error> {
    change
        .put
        .iter()
        .map(|entry| {
            Ok(OutboxRow {
                sequence: entry.sequence,
                entry: serde_json::to_vec(entry)?,
            })
        })
        .collect::<Result<_, _>>()
        .map(OutboxRecords)
}

impl OutboxRecords {
    /// Removals before writes, as the port asks.
    fn into_change(self, asked: &OutboxChange) -> Result<Change, ChangeError> {
        let removed = asked.remove.iter().fold(Change::new(), |change, sequence| {
            change.delete::<OutboxRow>(&OutboxRow::key_of(*sequence))
        });
        let written = self
            .0
            .iter()
            .try_fold(removed, |change, row| change.put(row))?;
        written.put(&OutboxNext { next: asked.next })
    }
}

#[cfg(test)]
mod tests;
