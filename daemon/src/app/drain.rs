//! Shutdown, in eight phases, each of which ends by itself or at its deadline:
//!
//! 1. say that the process is stopping, and refuse new invocations
//! 2. stop accepting connections
//! 3. finish the invocations in flight, or give up on them after the grace period
//! 4. stop the workers: compute threads and the owner of endpoints
//! 5. seal the row log: commit, compact, end the boot cleanly
//! 6. leave the fleet: say offline, disconnect
//! 7. make the state's progress durable and close the store
//! 8. report
//!
//! A second signal ends the process at once: `cli` sees to that.

use std::time::Duration;

use crate::inference_table::InferenceTables;
use crate::serving::Serving;
use crate::store::Store;
use crate::tasks::{SpawnThreadError, StillRunning, TaskFailure, Tasks};
use crate::telemetry::ServiceManager;

/// How long phases 4, 5, 6 and 7 may take each: a slow disk, not a slow client.
const PHASE: Duration = Duration::from_secs(60);
/// How often the requests in flight are logged.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Connections are cut at the grace period; then they need a moment to end.
const CUT: Duration = Duration::from_secs(2);

/// The groups of tasks, in the order in which they end.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    pub(super) api: Tasks,
    pub(super) workers: Tasks,
    pub(super) fleet: Tasks,
    pub(super) rows: Tasks,
    pub(super) store: Tasks,
}

impl Groups {
    /// # Errors
    /// [`SpawnThreadError`] when there are no threads for requests.
    pub(super) fn of(tasks: &Tasks) -> Result<Self, SpawnThreadError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            api: tasks.request_group("api", cores)?,
            workers: tasks.group("workers"),
            fleet: tasks.group("fleet"),
            rows: tasks.group("rows"),
            store: tasks.group("store"),
        })
    }
}

impl Groups {
    /// Waits until a thread has panicked that state or rows depend on. Nothing else would notice:
    /// requests are answered on, while nothing is kept any more.
    pub(super) async fn failure(&self) -> TaskFailure {
        tokio::select! {
            failure = self.rows.first_failure() => failure,
            failure = self.store.first_failure() => failure,
        }
    }
}

/// What a drain ends.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) groups: Groups,
    pub(super) serving: Serving,
    pub(super) tables: InferenceTables,
    pub(super) store: Store,
    pub(super) manager: ServiceManager,
    pub(super) grace_period: Duration,
}

/// What a drain could not end in time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// One line for each thing that did not end as it should.
    pub problems: Vec<String>,
}

impl DrainReport {
    fn note(&mut self, what: &str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(error, "{what}");
        self.problems.push(format!("{what}: {error}"));
    }

    fn joined(&mut self, what: &str, joined: Result<(), StillRunning>) {
        if let Err(error) = joined {
            self.note(what, &error);
        }
    }
}

/// Runs the phases.
pub(super) async fn drain(what: Draining) -> DrainReport {
    let Draining {
        groups,
        serving,
        tables,
        store,
        manager,
        grace_period,
    } = what;
    let mut report = DrainReport::default();

    tracing::info!(in_flight = serving.admission().requests(), "stopping");
    manager.stopping();
    serving.begin_drain();

    groups.api.begin_shutdown();

    finish_requests(&serving, grace_period).await;
    let closed = groups.api.join_all(CUT + grace_period).await;
    // A request that is still there would offer its row to a log that has ended.
    let complete = closed.is_ok();
    report.joined("connections did not close", closed);

    groups.workers.begin_shutdown();
    drop(serving);
    report.joined("workers did not stop", groups.workers.join_all(PHASE).await);

    match tokio::time::timeout(PHASE, tables.close(complete)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report.note("the row log did not close", &error),
        Err(error) => report.note("the row log did not close in time", &error),
    }
    groups.rows.begin_shutdown();
    report.joined(
        "the row log's threads did not end",
        groups.rows.join_all(PHASE).await,
    );

    groups.fleet.begin_shutdown();
    report.joined(
        "the fleet's agent did not stop",
        groups.fleet.join_all(PHASE).await,
    );

    if let Err(error) = store.close().await {
        report.note("the store did not close", &error);
    }
    groups.store.begin_shutdown();
    report.joined(
        "the store's threads did not end",
        groups.store.join_all(PHASE).await,
    );

    tracing::info!(problems = report.problems.len(), "stopped");
    report
}

/// Waits for the requests in flight, and says how many are left.
async fn finish_requests(serving: &Serving, grace_period: Duration) {
    let finished = tokio::time::timeout(grace_period, async {
        let mut tick = tokio::time::interval(LOG_EVERY);
        tick.tick().await;
        loop {
            tokio::select! {
                () = serving.drained() => return,
                _ = tick.tick() => {
                    let in_flight = serving.admission().requests();
                    tracing::info!(in_flight, "waiting for requests");
                }
            }
        }
    });
    if finished.await.is_err() {
        let in_flight = serving.admission().requests();
        tracing::warn!(
            in_flight,
            ?grace_period,
            "the grace period is over: requests are cut off"
        );
    }
}
