//! Statistics: how often a served entity answered, and how long each part of that took.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Counts of one served entity. Lock-free: two counters read together may differ by a request that
/// ends in between.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    success: Timed,
    fail: Timed,
    queue: Timed,
    input: Timed,
    infer: Timed,
    output: Timed,
    rows: AtomicU64,
    executions: AtomicU64,
    last: AtomicI64,
}

#[derive(Debug, Default)]
struct Timed {
    count: AtomicU64,
    micros: AtomicU64,
}

impl Timed {
    fn add(&self, micros: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Tally {
        Tally {
            count: self.count.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }
}

/// What the parts of one request took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Waiting for a thread.
    pub(super) queue: u64,
    /// Reading the body into tensors.
    pub(super) input: u64,
    /// The model.
    pub(super) infer: u64,
    /// Writing the answer.
    pub(super) output: u64,
}

impl Parts {
    fn all(&self) -> u64 {
        self.queue + self.computing()
    }

    /// All but the waiting.
    pub(super) fn computing(&self) -> u64 {
        self.input + self.infer + self.output
    }
}

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// In all, microseconds.
    pub micros: u64,
}

/// The statistics of a served entity since it first answered in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntityStatistics {
    /// Requests that were answered, from the queue to the answer.
    pub success: Tally,
    /// Requests that the model or its reader refused.
    pub fail: Tally,
    /// Waiting for a thread.
    pub queue: Tally,
    /// Reading bodies into tensors.
    pub input: Tally,
    /// The model.
    pub infer: Tally,
    /// Writing answers.
    pub output: Tally,
    /// Rows of the requests that were answered.
    pub rows: u64,
    /// Runs of the model: fewer than requests where it answers several at once.
    pub executions: u64,
    /// When the last request was answered, milliseconds since 1970, UTC; 0 before the first.
    pub last_millis: i64,
}

impl Statistics {
    /// Counts an answer of `rows` rows that was given at `now`, milliseconds since 1970.
    pub(super) fn answered(&self, parts: &Parts, rows: u64, now: i64) {
        self.success.add(parts.all());
        self.queue.add(parts.queue);
        self.input.add(parts.input);
        self.infer.add(parts.infer);
        self.output.add(parts.output);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Counts a run of the model.
    pub(super) fn executed(&self) {
        self.executions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that got no answer.
    pub(super) fn failed(&self, parts: &Parts) {
        self.fail.add(parts.all());
    }

    /// As it stands.
    pub(super) fn read(&self) -> EntityStatistics {
        EntityStatistics {
            success: self.success.read(),
            fail: self.fail.read(),
            queue: self.queue.read(),
            input: self.input.read(),
            infer: self.infer.read(),
            output: self.output.read(),
            rows: self.rows.load(Ordering::Relaxed),
            executions: self.executions.load(Ordering::Relaxed),
            last_millis: self.last.load(Ordering::Relaxed),
        }
    }
}
