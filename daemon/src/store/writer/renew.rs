//! Renewal: a new database in the place of one that failed or has grown, while the store is open.
//!
//! A failed sync is never repeated, and a sled that failed once answers nothing but that failure. So
//! the new database and a new export are made of what was acknowledged, which the writer remembers,
//! under names of their own: neither the failed database nor a file that may rot is asked.
//! An attempt that fails is repeated after twice the time, up to a minute.
//!
//! Must never write to the file whose sync failed, and never keep a change that was refused.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgeward_base::durable::DurableFs;
use edgeward_base::error::chain;
use edgeward_base::units::ByteCount;

use crate::telemetry::{Counter, Gauge};

use super::super::ballast::is_full;
use super::super::database::{Databases, read_all};
use super::super::export::{self, Export};
use super::super::open::{OpenStoreError, catch, file_error};
use super::super::record::Durability;
use super::Thread;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// With less room than this, ballast that was given back is left to the changes that needed it.
const PLENTY: ByteCount = ByteCount::mib(16);

/// When the database is to be replaced.
#[derive(Debug)]
pub(super) struct Renewal {
    due: Option<Duration>,
    wait: Duration,
    /// The disk was full when it failed.
    full: bool,
    /// Ballast is missing, or may be.
    owed: bool,
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            due: None,
            wait: FIRST_WAIT,
            full: false,
            owed: true,
        }
    }
}

impl Renewal {
    /// The database failed.
    pub(super) fn failed(&mut self, now: Duration, full: bool) {
        self.full = full;
        self.due = Some(now + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// The database has grown.
    pub(super) fn want(&mut self, now: Duration) {
        self.due.get_or_insert(now);
    }

    /// A change was acknowledged: the next failure is not one of a row.
    pub(super) fn succeeded(&mut self) {
        self.wait = FIRST_WAIT;
    }

    /// How long until an attempt; `None` while none is wanted.
    pub(super) fn due_in(&self, now: Duration) -> Option<Duration> {
        self.due.map(|due| due.saturating_sub(now))
    }
}

impl Thread {
    /// Replaces the database when it is time to.
    pub(super) fn renew_when_due(&mut self) {
        let now = self.options.clock.monotonic();
        if self.renewal.due_in(now) != Some(Duration::ZERO) {
            return;
        }
        self.renewal.due = None;
        if self.renewal.full && self.ballast.release() {
            self.renewal.owed = true;
        }
        let renewed = catch(|| self.renew());
        let (reason, full) = match renewed {
            Ok(Ok(())) => return self.renewed(),
            Ok(Err(error)) => (chain(&error), is_full(&error)),
            Err(message) => (format!("panicked: {message}"), false),
        };
        tracing::error!(%reason, "cannot make a new state database");
        self.options.metrics.add(Counter::StateFailures, 1);
        self.renewal.failed(now, full);
    }

    fn renewed(&mut self) {
        tracing::warn!(generation = self.generation, "the state has a new database");
        self.poison.clear();
        self.figures.reopens.fetch_add(1, Ordering::Relaxed);
        let metrics = &self.options.metrics;
        metrics.set(Gauge::StatePoisoned, 0);
        metrics.add(Counter::StateReopens, 1);
        self.show_generation();
    }

    /// Builds the next database of what was acknowledged, makes it and its export durable, and goes
    /// on with it.
    fn renew(&mut self) -> Result<(), OpenStoreError> {
        let options = self.options.clone();
        let (fs, exports) = (options.fs.as_ref(), options.state_dir.join("export"));
        let databases = Databases::of(&options);
        let highest = self.drop_refused(fs, &exports);
        let highest = highest.map_err(file_error("remove", &exports))?;
        let export = Export {
            generation: highest.max(self.generation) + 1,
            records: self.acknowledged.clone(),
        };
        let progress = read_all(&self.shelves, Durability::Progress).unwrap_or_default();
        let number = databases.next()?;
        let contents = (export.records.as_slice(), progress.as_slice());
        let shelves = databases.build(number, contents, export.generation)?;
        let kept = databases.sync(number).and_then(|synced| {
            export::write(fs, &exports, &export)?;
            Ok(synced)
        });
        match kept {
            Ok(synced) => self.database = synced,
            Err(error) => {
                drop(shelves);
                databases.remove(number);
                return Err(error);
            }
        }
        self.shared.store(Arc::new(shelves.clone()));
        let failed = std::mem::replace(&mut self.shelves, shelves);
        // What sled does when it ends must not undo this.
        drop(catch(|| drop(failed)));
        let old = std::mem::replace(&mut self.number, number);
        self.generation = export.generation;
        self.dirty_since = None;
        if self.poison.get().is_none() {
            databases.remove(old);
        } else if let Err(error) = databases.move_aside(old) {
            tracing::warn!(%error, "cannot move the failed database aside");
        }
        Ok(())
    }

    /// Makes the ballast again once there is room for it.
    pub(super) fn restore_ballast(&mut self) {
        if self.renewal.owed {
            self.ballast.restore(PLENTY);
            self.renewal.owed = self.ballast.bytes().0 < 2 * self.options.ballast.0;
        }
    }

    /// Removes the exports of changes that were refused, and the spare file, whose sync may be what
    /// failed. Answers the highest generation that was there.
    fn drop_refused(&self, fs: &dyn DurableFs, exports: &Path) -> io::Result<u64> {
        let highest = export::highest(fs, exports)?;
        let refused = (self.generation + 1..=highest).map(export::file_name);
        for name in refused.chain([export::SPARE.to_owned()]) {
            match fs.remove(&exports.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(highest)
    }
}
