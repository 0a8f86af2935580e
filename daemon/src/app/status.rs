//! What the whole process says of itself on the admin socket.

use std::path::PathBuf;
use std::sync::Arc;

use edgeward_base::clock::SharedClock;
use edgeward_base::durable::SharedFs;
use edgeward_base::error::chain;
use edgeward_base::names::BootId;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::Means;
use super::retention::without_table;
use super::rooms::Rooms;
use crate::api::admin::{Process, ProcessError};
use crate::config::{Config, DeviceIdentity, RetentionConfig};
use crate::endpoint::Endpoints;
use crate::inference_table::{self, InferenceTables, VerifyReport};
use crate::serving::{Admission, Serving};
use crate::store::{Store, StoreReport};
use crate::tasks::Tasks;
use crate::telemetry::{Counter, Gauge, Metrics};

/// Answers for the device.
#[derive(Debug)]
pub(super) struct DeviceProcess {
    identity: DeviceIdentity,
    boot: BootId,
    /// `http://address` or `https://address`.
    url: String,
    tables: InferenceTables,
    endpoints: Endpoints,
    rows: PathBuf,
    retention: Vec<RetentionConfig>,
    store: Store,
    opened: StoreReport,
    fs: SharedFs,
    tasks: Tasks,
    metrics: Metrics,
    admission: Admission,
    clock: SharedClock,
}

impl DeviceProcess {
    /// Answers for a device that serves at `url`.
    pub(super) fn new(
        url: String,
        serving: &Serving,
        rooms: &Rooms,
        config: &Config,
        means: &Means,
    ) -> Self {
        Self {
            identity: rooms.identity.clone(),
            boot: rooms.boot,
            url,
            tables: rooms.tables.clone(),
            endpoints: rooms.endpoints.clone(),
            rows: config.state_dir.join("rows"),
            retention: config.inference_table.retention.clone(),
            store: rooms.store.clone(),
            opened: rooms.opened.clone(),
            fs: Arc::clone(&means.fs),
            tasks: means.tasks.clone(),
            metrics: rooms.metrics.clone(),
            admission: serving.admission().clone(),
            clock: Arc::clone(&means.clock),
        }
    }
}

impl DeviceProcess {
    fn rows_status(&self) -> Value {
        let (rows, disk) = (self.tables.counters(), self.tables.disk_use());
        let rungs = disk.rungs.iter();
        let rungs: Map<_, _> = rungs
            .map(|(table, rung)| (table.to_string(), Value::from(*rung)))
            .collect();
        json!({
            "offered": rows.offered,
            "committed": rows.committed,
            "dropped": rows.dropped,
            "lost": rows.lost,
            "failures": rows.failures,
            "sampled": rows.sampled,
            "refused": rows.refused,
            "shed": rows.shed,
            "evicted": disk.evicted_rows,
            "disk_bytes": disk.bytes.0,
            "budget": disk.budget.0,
            "free_bytes": disk.free.map(|free| free.0),
            "free_floor": disk.free_floor.0,
            "free_files": disk.free_files,
            "rung": disk.rung,
            "rungs": rungs,
            "recovery_errors": self.tables.recovery_errors(),
            "retention_without_table": without_table(&self.retention, &self.endpoints.list()),
        })
    }
}

fn failed(error: &dyn std::error::Error) -> ProcessError {
    ProcessError(chain(error))
}

/// What `edgeward logs verify` answers: the report, and in `sound` whether every row is accounted for.
///
/// # Errors
/// Never for a report of this program.
pub fn account(report: &VerifyReport) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(report)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("sound".to_owned(), report.is_sound().into());
    }
    Ok(value)
}

impl Process for DeviceProcess {
    fn status(&self) -> Value {
        let fleet = self.identity.fleet.as_ref().map(|membership| {
            json!({
                "fleet": membership.fleet,
                "registry_key": membership.registry_key,
                "applied": self.endpoints.list().applied_desired().map(|g| g.to_string()),
            })
        });
        let rebuilt = self
            .opened
            .rebuilt
            .as_ref()
            .map(|rebuilt| rebuilt.reason.clone());
        json!({
            "url": self.url,
            "device": self.identity.device,
            "boot_id": self.boot,
            "rows": self.rows_status(),
            "state": {
                "generation": self.store.generation(),
                "rebuilds": u8::from(rebuilt.is_some()),
                "rebuilt": rebuilt,
                "reopens": self.store.reopens(),
                "lost": self.opened.lost,
                "migrated_from": self.opened.migrated_from,
                "ballast_bytes": self.store.ballast().0,
                "poisoned": self.store.poisoned().map(|reason| reason.to_string()),
                "bytes": self.store.size_on_disk().0,
            },
            "fleet": fleet,
        })
    }

    fn metrics(&self) -> String {
        let (metrics, rows) = (&self.metrics, self.tables.counters());
        metrics.take_over(Counter::RowsCommitted, rows.committed);
        let disk = self.tables.disk_use();
        metrics.take_over(Counter::RowsDropped, rows.dropped + rows.lost);
        metrics.take_over(Counter::RowsSampled, rows.sampled);
        metrics.take_over(Counter::RowLogFailures, rows.failures);
        metrics.take_over(Counter::RowsRefused, rows.refused);
        metrics.take_over(Counter::PayloadsShed, rows.shed);
        metrics.take_over(Counter::RowsEvicted, disk.evicted_rows);
        metrics.take_over(Counter::SegmentsEvicted, disk.evicted_files);
        metrics.set(Gauge::RowsDiskBytes, disk.bytes.0);
        metrics.set(Gauge::InFlightRequests, self.admission.requests() as u64);
        metrics.set(Gauge::InFlightBytes, self.admission.bytes().0);
        metrics.sample_process(self.clock.as_ref(), &self.tasks);
        metrics.render()
    }

    fn seal_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        async {
            let before = self.tables.counters().committed;
            self.tables.seal().await.map_err(|error| failed(&error))?;
            Ok(json!({"rows": self.tables.counters().committed, "committed_before": before}))
        }
        .boxed()
    }

    fn verify_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        let (fs, rows) = (Arc::clone(&self.fs), self.rows.clone());
        let verified = self.tasks.run_blocking("verify logs", move || {
            inference_table::verify(fs.as_ref(), &rows)
        });
        async {
            let report = verified.await.map_err(|error| failed(&error))?;
            let report = report.map_err(|error| failed(&error))?;
            account(&report).map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn verify_state(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        async {
            let checked = self.store.check().await.map_err(|error| failed(&error))?;
            serde_json::to_value(checked).map_err(|error| failed(&error))
        }
        .boxed()
    }
}
