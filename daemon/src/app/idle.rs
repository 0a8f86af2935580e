//! What the process gives back once it has nothing to do.
//!
//! Opening the state and loading a model run through most of the binary, serving runs through
//! little of it: code is the larger part of an idle box's memory until it is given back. Free memory
//! is kept while the box works, because each call of a network takes what the last one gave back.
//! Must never cost a box at work anything, so it happens once for each time that work has ended.

use std::time::Duration;

use edgeward_base::clock::processor_time;
use edgeward_base::memory::release_code;
use edgeward_kernels::memory;

use crate::tasks::Tasks;
use crate::telemetry::{Gauge, Metrics};

/// How long the process must have been idle.
const PERIOD: Duration = Duration::from_secs(10);

/// The share of a processor, as a divisor of the time, below which the process is idle.
const IDLE: u32 = 100;

/// Keeps free memory, and gives it back whenever the process falls idle, until the tasks shut down.
/// Says meanwhile how much of the machine the process uses.
pub(super) async fn give_back(tasks: Tasks, metrics: Metrics) {
    memory::keep();
    let shutdown = tasks.shutdown_token();
    let mut at_work = true;
    let mut before = processor_time();
    while shutdown
        .run_until_cancelled(tokio::time::sleep(PERIOD))
        .await
        .is_some()
    {
        let used = processor_time();
        let spent = used.saturating_sub(before);
        metrics.set(Gauge::ProcessorPercent, percent(spent));
        let idle = spent < PERIOD / IDLE;
        before = used;
        if idle && at_work {
            release(&tasks).await;
        }
        at_work = !idle;
    }
}

/// Processor time of one period as a share of what all processors have.
fn percent(spent: Duration) -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u128::try_from(processors).unwrap_or(1);
    let share = spent.as_micros() * 100 / (PERIOD.as_micros() * processors);
    u64::try_from(share).unwrap_or(100)
}

/// Unmapping takes long enough to be kept from the threads that answer.
async fn release(tasks: &Tasks) {
    let release = || {
        memory::give_back();
        release_code()
    };
    match tasks.run_blocking("give back", release).await {
        Ok(Ok(bytes)) => tracing::debug!(%bytes, "idle: code was unmapped"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot give memory back"),
        Err(error) => tracing::warn!(%error, "cannot give memory back"),
    }
}
