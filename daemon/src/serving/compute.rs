//! Compute: the threads that run what is too slow for a request's own thread.
//!
//! Owns a fixed set of threads (as many as cores) and one bounded queue in front of them. The queue
//! is made of lanes, one per served entity: a lane may hold a share of the threads and no more, and
//! lanes take turns, so a slow model leaves its neighbours their threads. A full queue refuses; it
//! never waits. A job whose caller has gone is dropped when its turn comes.
//!
//! ```text
//! submit -> waiting in its lane --(lane below its share)--> ready -> running -> answered
//!             ^                                                        |
//!             +------------ the lane's next job takes the turn --------+
//! ```

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::tasks::{SpawnThreadError, Tasks};

#[cfg(test)]
mod tests;

/// A pool of compute threads. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Compute(Arc<Pool>);

/// One served entity's claim on the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The served entity.
    pub id: Arc<str>,
    /// How many threads it may hold at once, at least 1.
    pub threads: usize,
}

/// Why a job gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The queue holds as many jobs as it may.
    #[error("{ceiling} predictions are waiting, as many as allowed")]
    QueueFull {
        /// The ceiling that was reached.
        ceiling: usize,
    },
    /// The pool is shutting down.
    #[error("the compute pool is closed")]
    Closed,
    /// The job panicked.
    #[error("the prediction panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

#[derive(Debug)]
struct Pool {
    ceiling: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Jobs in all lanes that no thread has taken.
    waiting: usize,
    lanes: HashMap<Arc<str>, Waiting>,
    /// One entry per turn that a lane may take now.
    ready: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Turns held: running jobs and entries in `ready`.
    turns: usize,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting, {} turns", self.jobs.len(), self.turns)
    }
}

type Job = Box<dyn FnOnce() + Send>;

impl Compute {
    /// Starts `threads` threads behind a queue of at most `ceiling` jobs. They end after
    /// `tasks` is told to shut down and the queue is empty.
    ///
    /// # Errors
    /// [`SpawnThreadError`] when the operating system gives no thread.
    pub fn start(tasks: &Tasks, threads: usize, ceiling: usize) -> Result<Self, SpawnThreadError> {
        let pool = Arc::new(Pool {
            ceiling,
            state: Mutex::default(),
            work: Condvar::new(),
        });
        // First, so that threads already started also end when a later one cannot be.
        let closing = Arc::clone(&pool);
        let shutdown = tasks.shutdown_token();
        drop(tasks.spawn("compute/close", async move {
            shutdown.cancelled().await;
            closing.lock().closed = true;
            closing.work.notify_all();
        }));
        for index in 0..threads.max(1) {
            let pool = Arc::clone(&pool);
            drop(tasks.spawn_thread(format!("compute/{index}"), move || pool.run())?);
        }
        Ok(Self(pool))
    }

    /// Queues `job` on a lane; the answer arrives by the returned future. Dropping that future
    /// before the job's turn drops the job.
    ///
    /// # Errors
    /// [`ComputeError::QueueFull`] or [`ComputeError::Closed`] at once;
    /// [`ComputeError::Panicked`] from the future.
    pub fn submit<T, F>(
        &self,
        lane: &Lane,
        job: F,
    ) -> Result<impl Future<Output = Result<T, ComputeError>> + Send + use<T, F>, ComputeError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !sender.is_closed() {
                // The caller may leave while the job runs: then nobody wants the answer.
                drop(sender.send(guarded(job)));
            }
        });
        self.0.push(lane, job)?;
        Ok(async move { answer.await.unwrap_or(Err(ComputeError::Closed)) })
    }

    /// Jobs that wait for a thread.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

/// Runs a job so that its panic stays its own.
///
/// # Errors
/// [`ComputeError::Panicked`].
pub(super) fn guarded<T>(job: impl FnOnce() -> T) -> Result<T, ComputeError> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        ComputeError::Panicked { message }
    })
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock and are guarded: a poisoned lock still holds whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lane: &Lane, job: Job) -> Result<(), ComputeError> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return Err(ComputeError::Closed);
        }
        if state.waiting >= self.ceiling {
            return Err(ComputeError::QueueFull {
                ceiling: self.ceiling,
            });
        }
        state.waiting += 1;
        let waiting = state.lanes.entry(Arc::clone(&lane.id)).or_default();
        waiting.jobs.push_back(job);
        if waiting.turns < lane.threads.max(1) {
            waiting.turns += 1;
            state.ready.push_back(Arc::clone(&lane.id));
            self.work.notify_one();
        }
        Ok(())
    }

    /// One thread's life.
    fn run(&self) {
        while let Some((lane, job)) = self.next() {
            job();
            self.finish(lane);
        }
    }

    /// Waits for a turn; `None` once the pool is closed and empty.
    fn next(&self) -> Option<(Arc<str>, Job)> {
        let mut guard = self.lock();
        loop {
            let state = &mut *guard;
            while let Some(lane) = state.ready.pop_front() {
                let job = state
                    .lanes
                    .get_mut(&lane)
                    .and_then(|waiting| waiting.jobs.pop_front());
                if let Some(job) = job {
                    state.waiting -= 1;
                    return Some((lane, job));
                }
                state.give_back(&lane);
            }
            if state.closed {
                return None;
            }
            guard = self
                .work
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, lane: Arc<str>) {
        let mut state = self.lock();
        if state
            .lanes
            .get(&lane)
            .is_some_and(|waiting| !waiting.jobs.is_empty())
        {
            // To the end of the line: lanes take turns. The thread that asks next finds it.
            state.ready.push_back(lane);
        } else {
            state.give_back(&lane);
        }
    }
}

impl State {
    /// Takes one turn from a lane, and the lane off the list with its last one.
    fn give_back(&mut self, lane: &str) {
        if let Some(waiting) = self.lanes.get_mut(lane) {
            waiting.turns = waiting.turns.saturating_sub(1);
            if waiting.turns == 0 {
                self.lanes.remove(lane);
            }
        }
    }
}
