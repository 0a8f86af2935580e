//! The writer: the one thread that changes the database.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use edgeward_base::durable::DurableFile;
use edgeward_base::error::chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::tasks::SpawnThreadError;
use crate::telemetry::{Counter, Gauge, Histogram};

use super::ballast::{Ballast, is_full};
use super::check::{self, StateCheck};
use super::export::{self, Export};
use super::lock::StateLock;
use super::open::{REBUILD_ABOVE_BYTES, catch};
use super::record::{Change, Durability, Edit};
use super::shelf::{Shelves, Stored};
use super::{CheckStoreError, CommitStoreError, Figures, Poison, StoreOptions};

mod renew;

use renew::Renewal;

/// Changes that may wait for the writer; whoever comes later waits for a place. They share one
/// fsync, so waiting costs little.
const QUEUE: usize = 64;

/// What the writer thread works with.
pub(super) struct WriterOptions {
    /// The number of the database in use.
    pub(super) number: u32,
    pub(super) shelves: Shelves,
    /// All committed records.
    pub(super) acknowledged: Vec<Stored>,
    /// What readers use.
    pub(super) shared: Arc<ArcSwap<Shelves>>,
    /// The database's file, opened by us: what is synced after each flush.
    pub(super) synced: Box<dyn DurableFile>,
    pub(super) ballast: Ballast,
    pub(super) figures: Arc<Figures>,
    pub(super) poison: Poison,
    pub(super) lock: Arc<StateLock>,
    pub(super) options: StoreOptions,
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    places: Arc<Semaphore>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

#[derive(Debug)]
enum Job {
    Commit(Waiting<u64>),
    Progress(Waiting<()>),
    Check(Checked),
    Close(Done<()>),
}

type Checked = oneshot::Sender<Result<StateCheck, CheckStoreError>>;

type Done<T> = oneshot::Sender<Result<T, CommitStoreError>>;

/// A change, whoever waits for it, and its place in the queue.
#[derive(Debug)]
struct Waiting<T> {
    change: Change,
    done: Done<T>,
    _place: OwnedSemaphorePermit,
}

impl Writer {
    pub(super) fn start(options: WriterOptions) -> Result<Self, SpawnThreadError> {
        let (sender, jobs) = mpsc::channel();
        let tasks = options.options.tasks.clone();
        let thread = Thread {
            number: options.number,
            database: options.synced,
            shelves: options.shelves,
            acknowledged: options.acknowledged,
            shared: options.shared,
            generation: options.figures.generation.load(Ordering::Relaxed),
            ballast: options.ballast,
            figures: options.figures,
            poison: options.poison,
            dirty_since: None,
            renewal: Renewal::default(),
            _lock: options.lock,
            options: options.options,
        };
        drop(tasks.spawn_thread("store-writer", move || thread.run(&jobs))?);
        Ok(Self {
            places: Arc::new(Semaphore::new(QUEUE)),
            jobs: Mutex::new(Some(sender)),
        })
    }

    pub(super) async fn commit(&self, change: Change) -> Result<u64, CommitStoreError> {
        self.send(change, Job::Commit).await
    }

    pub(super) async fn record_progress(&self, change: Change) -> Result<(), CommitStoreError> {
        self.send(change, Job::Progress).await
    }

    pub(super) async fn close(&self) -> Result<(), CommitStoreError> {
        let sender = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (done, answer) = oneshot::channel();
        let sender = sender.ok_or(CommitStoreError::Closed)?;
        sender
            .send(Job::Close(done))
            .map_err(|_| CommitStoreError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| CommitStoreError::Closed)?
    }

    pub(super) async fn check(&self) -> Result<StateCheck, CheckStoreError> {
        let (done, answer) = oneshot::channel();
        let sent = match self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            Some(sender) => sender.send(Job::Check(done)).is_ok(),
            None => false,
        };
        if !sent {
            return Err(CheckStoreError::Closed);
        }
        answer.await.map_err(|_| CheckStoreError::Closed)?
    }

    async fn send<T>(
        &self,
        change: Change,
        job: impl FnOnce(Waiting<T>) -> Job,
    ) -> Result<T, CommitStoreError> {
        let places = Arc::clone(&self.places);
        let place = places
            .acquire_owned()
            .await
            .map_err(|_| CommitStoreError::Closed)?;
        let (done, answer) = oneshot::channel();
        let job = job(Waiting {
            change,
            done,
            _place: place,
        });
        let sent = match self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            Some(sender) => sender.send(job).is_ok(),
            None => false,
        };
        if !sent {
            return Err(CommitStoreError::Closed);
        }
        answer.await.map_err(|_| CommitStoreError::Closed)?
    }
}

struct Thread {
    number: u32,
    database: Box<dyn DurableFile>,
    shelves: Shelves,
    /// All committed records as of `generation`: what a new database is made of.
    acknowledged: Vec<Stored>,
    shared: Arc<ArcSwap<Shelves>>,
    generation: u64,
    ballast: Ballast,
    figures: Arc<Figures>,
    poison: Poison,
    /// Monotonic time of the oldest progress that is not durable.
    dirty_since: Option<Duration>,
    renewal: Renewal,
    /// The state directory stays locked while its writer lives.
    _lock: Arc<StateLock>,
    options: StoreOptions,
}

/// Changes that share one transaction.
#[derive(Default)]
struct Batch {
    commits: Vec<Waiting<u64>>,
    progress: Vec<Waiting<()>>,
    checks: Vec<Checked>,
    close: Option<Done<()>>,
}

impl Batch {
    fn add(&mut self, job: Job) {
        match job {
            Job::Commit(waiting) => self.commits.push(waiting),
            Job::Progress(waiting) => self.progress.push(waiting),
            Job::Check(done) => self.checks.push(done),
            Job::Close(done) => self.close = Some(done),
        }
    }
}

impl Thread {
    fn run(mut self, jobs: &Receiver<Job>) {
        let metrics = &self.options.metrics;
        metrics.set(Gauge::StateGeneration, self.generation);
        self.show_size();
        loop {
            let first = match self.patience() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => jobs.recv_timeout(patience),
            };
            let mut batch = Batch::default();
            match first {
                Ok(job) => batch.add(job),
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone without a close: what is left is progress.
                Err(RecvTimeoutError::Disconnected) => return drop(self.settle(true)),
            }
            for job in jobs.try_iter().take(QUEUE) {
                batch.add(job);
            }
            let close = batch.close.take();
            let checks = std::mem::take(&mut batch.checks);
            self.renew_when_due();
            self.write(batch);
            for done in checks {
                drop(done.send(self.check()));
            }
            let settled = self.settle(close.is_some());
            if let Some(done) = close {
                // The database and the lock are let go before the answer.
                drop(self);
                drop(done.send(settled));
                return;
            }
        }
    }

    /// Checks the state between two changes.
    fn check(&self) -> Result<StateCheck, CheckStoreError> {
        let contents = catch(|| check::read(&self.shelves, self.generation));
        let contents = contents.unwrap_or_else(|message| Err(format!("panicked: {message}")));
        let bytes = self.shelves.size_on_disk();
        let mut checked =
            check::examine(&self.options, contents, bytes).map_err(CheckStoreError::Files)?;
        if let Some(reason) = self.poison.get() {
            checked.sound = false;
            let problem = format!("the store is poisoned and accepts no changes: {reason}");
            checked.problems.push(problem);
        }
        Ok(checked)
    }

    /// Tells the numbers of the process how the last commit went.
    fn count(&self, changes: usize, began: Duration) {
        let metrics = &self.options.metrics;
        if self.poison.get().is_some() {
            metrics.set(Gauge::StatePoisoned, 1);
            return;
        }
        metrics.add(
            Counter::StateChanges,
            u64::try_from(changes).unwrap_or(u64::MAX),
        );
        let took = self.options.clock.monotonic().saturating_sub(began);
        metrics.observe(Histogram::StateCommit, took);
        self.show_generation();
    }

    fn show_generation(&self) {
        let generation = self.generation;
        self.figures.generation.store(generation, Ordering::Relaxed);
        self.options.metrics.set(Gauge::StateGeneration, generation);
    }

    /// Shows how large the database and the ballast are; a database that has grown is replaced.
    fn show_size(&mut self) {
        self.restore_ballast();
        let (bytes, ballast) = (self.shelves.size_on_disk(), self.ballast.bytes().0);
        self.figures.ballast.store(ballast, Ordering::Relaxed);
        let metrics = &self.options.metrics;
        metrics.set(Gauge::StateBytes, bytes);
        metrics.set(Gauge::StateBallastBytes, ballast);
        if bytes > REBUILD_ABOVE_BYTES {
            self.renewal.want(self.options.clock.monotonic());
        }
    }

    /// How long the thread may sleep: until progress must be durable, or the database replaced.
    fn patience(&self) -> Option<Duration> {
        let now = self.options.clock.monotonic();
        let renewal = self.renewal.due_in(now);
        [self.progress_due_in(now), renewal]
            .into_iter()
            .flatten()
            .min()
    }

    fn progress_due_in(&self, now: Duration) -> Option<Duration> {
        let waited = now.saturating_sub(self.dirty_since?);
        Some(self.options.progress_interval.saturating_sub(waited))
    }

    fn write(&mut self, batch: Batch) {
        if !batch.progress.is_empty() {
            let changes = batch.progress.iter().map(|waiting| &waiting.change);
            let result = self.write_progress(changes);
            for waiting in batch.progress {
                drop(waiting.done.send(result.clone()));
            }
        }
        if !batch.commits.is_empty() {
            let first = self.generation + 1;
            let began = self.options.clock.monotonic();
            let changes = batch.commits.iter().map(|waiting| &waiting.change);
            let result = self.write_commits(changes);
            let count = batch.commits.len();
            if result.is_ok() {
                self.renewal.succeeded();
            }
            self.count(count, began);
            for (generation, waiting) in (first..).zip(batch.commits) {
                drop(waiting.done.send(result.clone().map(|()| generation)));
            }
            // Lists a directory: nobody waits for that.
            self.show_size();
        }
    }

    fn write_progress<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), CommitStoreError> {
        let generation = self.generation;
        let edits: Vec<(u64, &Edit)> = changes
            .flat_map(Change::edits)
            .map(|edit| (generation, edit))
            .collect();
        self.step("apply progress", |this| {
            Ok(this.shelves.apply(&edits, None)?)
        })?;
        self.dirty_since
            .get_or_insert_with(|| self.options.clock.monotonic());
        Ok(())
    }

    /// The order of these steps is the contract of the store.
    fn write_commits<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), CommitStoreError> {
        let mut generation = self.generation;
        let mut edits: Vec<(u64, &Edit)> = Vec::new();
        for change in changes {
            generation += 1;
            edits.extend(change.edits().iter().map(|edit| (generation, edit)));
        }
        self.step("apply the change", |this| {
            Ok(this.shelves.apply(&edits, Some(generation))?)
        })?;
        self.make_durable()?;
        self.step("export the state", |this| {
            let records = this.shelves.of(Durability::Committed).scan(&[])?;
            let export = Export {
                generation,
                records,
            };
            export::write(
                this.options.fs.as_ref(),
                &this.options.state_dir.join("export"),
                &export,
            )?;
            this.acknowledged = export.records;
            Ok(())
        })?;
        self.generation = generation;
        Ok(())
    }

    /// Makes progress durable when its time has come, or now.
    fn settle(&mut self, now: bool) -> Result<(), CommitStoreError> {
        let due = self.progress_due_in(self.options.clock.monotonic());
        let due = due.is_some_and(|patience| patience.is_zero());
        if self.dirty_since.is_some() && (due || now) {
            self.make_durable()
        } else {
            Ok(())
        }
    }

    fn make_durable(&mut self) -> Result<(), CommitStoreError> {
        self.dirty_since = None;
        self.step("flush the database", |this| Ok(this.shelves.flush()?))?;
        self.step("sync the database", |this| Ok(this.database.sync_all()?))
    }

    /// Runs one step of a write; a failure or a panic poisons the store.
    fn step(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<(), Box<dyn std::error::Error>>,
    ) -> Result<(), CommitStoreError> {
        if let Some(reason) = self.poison.get() {
            return Err(CommitStoreError::Poisoned(reason));
        }
        let (reason, full) = match catch(|| work(self)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => (chain(error.as_ref()), is_full(error.as_ref())),
            Err(message) => (format!("panicked: {message}"), false),
        };
        let reason = self.poison.set(format!("cannot {what}: {reason}"));
        tracing::error!(%reason, "the state store accepts no changes until it has a new database");
        self.options.metrics.add(Counter::StateFailures, 1);
        self.renewal.failed(self.options.clock.monotonic(), full);
        Err(CommitStoreError::Poisoned(reason))
    }
}
