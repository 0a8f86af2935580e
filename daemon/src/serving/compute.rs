//! Compute: the threads that run what is too slow for a request's own thread.
//!
//! Owns a fixed set of threads (as many as cores) and one bounded queue in front of them. The queue
//! is made of lanes, one per served entity: a lane may hold a share of the threads and no more, and
//! lanes take turns, so a slow model leaves its neighbours their threads. A full queue refuses, or takes
//! the last job of the longest lane off where a shorter one wants in; it never waits. A job whose caller
//! has gone is dropped when its turn comes. Requests of one model may be answered together ([`batch`]).
//!
//! A thread that no job wants helps a running one whose lane has room, at loops that are worth sharing
//! ([`edgeward_kernels::team`]), and leaves it between two parts when a job comes: an idle box answers
//! one caller with all its cores, a busy one answers many.
//!
//! ```text
//! submit -> waiting in its lane --(lane below its share)--> ready -> running -> answered
//!             ^                                                        | ^
//!             +------------ the lane's next job takes the turn --------+ idle threads help
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use edgeward_base::clock::SharedClock;
use edgeward_kernels::team::Team;
use tokio::sync::oneshot;

use crate::tasks::{SpawnThreadError, Tasks};

mod batch;
mod costs;
mod lanes;
#[cfg(test)]
mod tests;

pub use batch::{Batching, Ran, Seat};
pub use costs::Costs;
use lanes::{Found, Job, Lanes, Seated, Turn};

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
    /// The job waited in the longest lane when the queue was full, and gave way to a shorter one.
    #[error("as many predictions are waiting as allowed, most of them for this served entity")]
    Displaced,
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
    clock: SharedClock,
    ceiling: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Turns that no thread has taken, as it was when the lock was last left: helpers look at it.
    pressing: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    lanes: Lanes,
}

impl Compute {
    /// Starts `threads` threads, called by `name`, behind a queue of at most `ceiling` jobs. They end
    /// after `tasks` is told to shut down and the queue is empty.
    ///
    /// # Errors
    /// [`SpawnThreadError`] when the operating system gives no thread.
    pub fn start(
        tasks: &Tasks,
        clock: SharedClock,
        name: &str,
        threads: usize,
        ceiling: usize,
    ) -> Result<Self, SpawnThreadError> {
        let pool = Arc::new(Pool {
            clock,
            ceiling,
            state: Mutex::default(),
            work: Condvar::new(),
            pressing: AtomicUsize::new(0),
        });
        // First, so that threads already started also end when a later one cannot be.
        let closing = Arc::clone(&pool);
        let shutdown = tasks.shutdown_token();
        drop(tasks.spawn(format!("{name}/close"), async move {
            shutdown.cancelled().await;
            closing.lock().closed = true;
            closing.work.notify_all();
        }));
        for index in 0..threads.max(1) {
            let pool = Arc::clone(&pool);
            drop(tasks.spawn_thread(format!("{name}/{index}"), move || pool.run())?);
        }
        Ok(Self(pool))
    }

    /// Queues `job` on a lane; the answer arrives by the returned future. Dropping that future
    /// before the job's turn drops the job.
    ///
    /// # Errors
    /// [`ComputeError::QueueFull`] or [`ComputeError::Closed`] at once;
    /// [`ComputeError::Panicked`] and [`ComputeError::Displaced`] from the future.
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
        let (pool, of_lane) = (Arc::clone(&self.0), lane.clone());
        let job = Box::new(move || {
            if !sender.is_closed() {
                // The caller may leave while the job runs: then nobody wants the answer.
                drop(sender.send(guarded(|| pool.lead(&of_lane, job))));
            }
        });
        self.0.push(lane, Job::Alone(job))?;
        Ok(answered(answer))
    }

    /// Queues a request that may be answered together with others of its lane. It answers by the sender
    /// of `answer`, which the returned future waits for; dropping that before its turn drops the request.
    ///
    /// # Errors
    /// As [`Compute::submit`].
    pub fn seat<T: Send + 'static>(
        &self,
        lane: &Lane,
        batching: Batching,
        seat: Box<dyn Seat>,
        answer: oneshot::Receiver<Result<T, ComputeError>>,
    ) -> Result<impl Future<Output = Result<T, ComputeError>> + Send + use<T>, ComputeError> {
        let seated = Seated {
            seat,
            batching,
            came: self.0.clock.monotonic(),
        };
        self.0.push(lane, Job::Seat(seated))?;
        Ok(answered(answer))
    }

    /// Jobs that wait for a thread.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().lanes.waiting()
    }
}

/// What a job answers. One whose sender is gone never had its turn: the queue is empty before threads end.
async fn answered<T>(
    answer: oneshot::Receiver<Result<T, ComputeError>>,
) -> Result<T, ComputeError> {
    answer.await.unwrap_or(Err(ComputeError::Displaced))
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
        let mut displaced = None;
        let mut state = self.lock();
        if state.closed {
            return Err(ComputeError::Closed);
        }
        if state.lanes.waiting() >= self.ceiling {
            displaced = state.lanes.displace(&lane.id);
            if displaced.is_none() {
                return Err(ComputeError::QueueFull {
                    ceiling: self.ceiling,
                });
            }
        }
        if state.lanes.push(lane, job) {
            self.press(&state);
            self.work.notify_one();
            state.lanes.wake();
        }
        drop(state);
        // Its caller is woken out of the lock.
        drop(displaced);
        Ok(())
    }

    /// Says how many turns there are that nobody has taken.
    fn press(&self, state: &State) {
        self.pressing.store(state.lanes.ready(), Ordering::SeqCst);
    }

    /// Runs a job on this thread, where idle threads may help it as far as its lane has room.
    fn lead<T>(self: &Arc<Self>, lane: &Lane, job: impl FnOnce() -> T) -> T {
        /// Sends the helpers away, whatever happens.
        struct Over<'a>(&'a Pool, Arc<Team>);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.lock().lanes.hang_up(&self.1);
                self.1.close();
            }
        }
        if lane.threads < 2 {
            return job();
        }
        let (pool, id, helpers) = (Arc::clone(self), Arc::clone(&lane.id), lane.threads - 1);
        let recruit = move |team: &Arc<Team>| {
            pool.lock().lanes.call(&id, Arc::clone(team));
            (0..helpers).for_each(|_| pool.work.notify_one());
        };
        let over = Over(
            self,
            Arc::new(Team::new(lane.threads, Team::WORTH, recruit)),
        );
        over.1.lead(job)
    }

    /// One thread's life.
    fn run(self: &Arc<Self>) {
        while let Some((lane, turn)) = self.next() {
            match turn {
                Turn::Job(job) => {
                    job();
                    self.finish(lane);
                }
                Turn::Batch(seats, batching, threads) => {
                    let id = Arc::clone(&lane);
                    let of_lane = Lane { id, threads };
                    let run = || batch::run(seats, &batching, self.clock.as_ref());
                    // Each request answers for itself; a panic between them must not end the thread.
                    if let Err(error) = guarded(|| self.lead(&of_lane, run)) {
                        tracing::error!(%error, "a batch was given up");
                    }
                    self.finish(lane);
                }
                Turn::Help(team, leave) => {
                    team.attend(|| {
                        self.pressing.load(Ordering::SeqCst) > 0 || leave.load(Ordering::SeqCst)
                    });
                    self.lock().lanes.left(&lane);
                }
            }
        }
    }

    fn finish(&self, lane: Arc<str>) {
        let mut state = self.lock();
        state.lanes.finish(lane);
        self.press(&state);
    }

    /// Waits for a turn; `None` once the pool is closed and empty.
    fn next(&self) -> Option<(Arc<str>, Turn)> {
        let mut state = self.lock();
        loop {
            let now = self.clock.monotonic();
            let closed = state.closed;
            let later = match state.lanes.next(now, closed) {
                Found::Turn(lane, turn) => {
                    self.press(&state);
                    if state.lanes.ready() > 0 {
                        // One of them may wait for company, and nobody for it.
                        self.work.notify_one();
                    }
                    return Some((lane, turn));
                }
                Found::Later(at) => Some(at.saturating_sub(now)),
                Found::Nothing if closed => return None,
                Found::Nothing => None,
            };
            state = match later {
                None => {
                    let waited = self.work.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(time) => {
                    let waited = self.work.wait_timeout(state, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
