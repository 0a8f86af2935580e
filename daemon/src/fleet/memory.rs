//! Durable memory of the device's agent: desired documents and the outbox of reports.

use async_trait::async_trait;
use edgeward_sync::ports::{
    DesiredStore, OutboxChange, OutboxEntry, OutboxSnapshot, OutboxStore, PortError, TrackRecord,
};

use super::record::{OutboxNext, OutboxRow, TrackRow};
use crate::store::{Change, ChangeError, Store};

/// Keeps what the agent must remember in the state store.
#[derive(Debug, Clone)]
pub struct FleetMemory {
    store: Store,
}

impl FleetMemory {
    /// Memory in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl DesiredStore for FleetMemory {
    async fn load(&self) -> Result<Vec<TrackRecord>, PortError> {
        let failed = "read desired documents";
        let rows = self
            .store
            .list::<TrackRow>()
            .map_err(|error| PortError::new(failed, error))?;
        rows.iter()
            .map(|row| serde_json::from_slice(&row.track))
            .collect::<Result<_, _>>()
            .map_err(|error| PortError::new(failed, error))
    }

    async fn save(&self, record: &TrackRecord) -> Result<(), PortError> {
        let failed = "save desired document";
        let track = serde_json::to_vec(record).map_err(|error| PortError::new(failed, error))?;
        let change = Change::new()
            .put(&TrackRow {
                kind: record.kind,
                track,
            })
            .map_err(|error| PortError::new(failed, error))?;
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

    async fn commit(&self, change: OutboxChange) -> Result<(), PortError> {
        let failed = "write outbox";
        let records = outbox_records(&change).map_err(|error| PortError::new(failed, error))?;
        let written = records
            .into_change(&change)
            .map_err(|error| PortError::new(failed, error))?;
        self.store
            .commit(written)
            .await
            .map_err(|error| PortError::new(failed, error))?;
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
