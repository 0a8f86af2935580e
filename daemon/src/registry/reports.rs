//! What devices report, recorded by sequence.

use async_trait::async_trait;
use edgeward_base::clock::SharedClock;
use edgeward_base::names::DeviceId;
use edgeward_sync::ports::{PortError, ReportSink};
use edgeward_wire::presence::Presence;
use edgeward_wire::report::{Report, ReportMessage};

use super::record::{PresenceRecord, ReportRecord, SequenceRecord};
use crate::store::{Change, Store};

/// Records reports and presence in the store. One agent calls it, one call at a time.
#[derive(Debug)]
pub struct RegistryReports {
    store: Store,
    clock: SharedClock,
}

impl RegistryReports {
    /// Records into `store`, dated by `clock`.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock) -> Self {
        Self { store, clock }
    }
}

/// What a report is about: `ack/models`, `reported/endpoints` and so on.
pub(super) fn subject(message: &ReportMessage) -> String {
    let word = match message {
        ReportMessage::Ack(_) => "ack",
        ReportMessage::Reported(_) => "reported",
    };
    format!("{word}/{}", message.kind())
}

#[async_trait]
impl ReportSink for RegistryReports {
    async fn record(&self, report: &Report<ReportMessage>) -> Result<u64, PortError> {
        let failed = |error| PortError::new("read reports", error);
        let device = &report.device;
        let subject = subject(&report.message);
        let newest = self
            .store
            .get::<SequenceRecord>(device.as_str())
            .map_err(failed)?
            .map_or(0, |record| record.newest);
        let known = self
            .store
            .get::<ReportRecord>(&ReportRecord::key_of(device, &subject))
            .map_err(failed)?;
        if known.is_some_and(|known| known.sequence >= report.sequence) {
            return Ok(newest.max(report.sequence));
        }
        let newest = newest.max(report.sequence);
        let record = ReportRecord {
            device: device.clone(),
            subject,
            sequence: report.sequence,
            received_unix_ms: self.clock.wall_millis(),
            report: serde_json::to_vec(report)
                .map_err(|error| PortError::new("serialise report", error))?,
        };
        let change = Change::new()
            .put(&record)
            .and_then(|change| {
                change.put(&SequenceRecord {
                    device: device.clone(),
                    newest,
                })
            })
            .map_err(|error| PortError::new("record report", error))?;
        self.store
            .commit(change)
            .await
            .map_err(|error| PortError::new("record report", error))?;
        Ok(newest)
    }

    async fn presence(
        &self,
        device: &DeviceId,
        presence: &Presence,
    ) -> Result<Presence, PortError> {
        let recorded = self
            .store
            .get::<PresenceRecord>(device.as_str())
            .map_err(|error| PortError::new("read presence", error))?
            .and_then(|record| serde_json::from_slice::<Presence>(&record.presence).ok());
        if let Some(recorded) = recorded
            && (!presence.replaces(Some(&recorded)) || recorded == *presence)
        {
            return Ok(recorded);
        }
        let record = PresenceRecord {
            device: device.clone(),
            received_unix_ms: self.clock.wall_millis(),
            presence: serde_json::to_vec(presence)
                .map_err(|error| PortError::new("serialise presence", error))?,
        };
        let change = Change::new()
            .put(&record)
            .map_err(|error| PortError::new("record presence", error))?;
        self.store
            .commit(change)
            .await
            .map_err(|error| PortError::new("record presence", error))?;
        Ok(presence.clone())
    }
}
