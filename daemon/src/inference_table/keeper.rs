//! The keeper thread: the owner of everything that is sealed.
//!
//! Owns the accounts, the Parquet files and the spent part of the log. It recovers earlier boots,
//! compacts what the writer seals, lists what waits for upload, and deletes what has landed. It
//! runs at low priority, beside inference, and every change it makes is one atomic write of an
//! account; see [`account`].
//!
//! ```text
//! recovering --> waiting --compact--> files, account, log segment removed --> announced
//!                   | ^ \--landed---> account, file removed
//!                   | | \--clock of 1970---> waits for the clock, up to six segments long
//!                   | | \--failed---> tried again after a while and at the next request
//!                   | |  \--too full--> oldest rows: gaps, account, file removed
//!                   | +----------------------------------------------------------------+
//!                   +--close--> compact what is left, boot ended --> over
//! ```

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgeward_wire::segment::SegmentName;
use tokio::sync::{oneshot, watch};

use super::segment::SealedSegment;
use super::wal::{Position, WalSegment};

pub(super) mod account;
mod aside;
mod ballast;
mod evict;
mod gaps;
mod holes;
pub(super) mod ledger;
pub(super) mod recover;
mod room;

pub use account::BootEnd;
pub use aside::put_aside;
pub use ledger::KeepSegmentsError;
pub use recover::{RecoveredBoot, RecoveryReport};
pub use room::DiskUse;
pub(super) use room::{Budgets, Room};

use ledger::Ledger;

/// How long nothing may come before the disk is looked at.
const TICK: Duration = Duration::from_secs(5);
/// How many of them after a failed compaction the next try starts.
const RETRY_TICKS: u32 = 6;
/// Nice value of the keeper thread: compaction gives way to inference.
const NICE: i32 = 10;

/// Segments of the log that wait for compaction, in their order.
///
/// Short: one a seal, and each is a file on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog(Arc<Mutex<VecDeque<WalSegment>>>);

impl Backlog {
    /// Adds segments behind the others.
    pub(super) fn add(&self, segments: Vec<WalSegment>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(segments);
    }

    fn first(&self) -> Option<WalSegment> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .front()
            .copied()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn drop_first(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
    }
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, KeepSegmentsError>>;

/// What the keeper is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Compact the backlog; the writer forwards who waits for it.
    Compact(Option<Reply<()>>),
    /// List the sealed segments.
    Sealed(Reply<Vec<SealedSegment>>),
    /// Delete a segment that has landed.
    Landed(SegmentName, Reply<()>),
    /// Note that a segment may have landed from now on.
    Offered(SegmentName, Reply<()>),
    /// Replace a segment that is damaged by a gap.
    SetAside(SegmentName, Reply<()>),
    /// Compact the backlog, end the boot, stop.
    Close {
        /// Where each table ended; `None` when rows were lost that nobody could write down.
        clean: Option<Position>,
        /// Who waits for it.
        reply: Option<Reply<()>>,
    },
}

/// What the keeper thread owns.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) ledger: Ledger,
    pub(super) backlog: Backlog,
    pub(super) requests: Receiver<Request>,
    pub(super) recovered: watch::Sender<Option<Arc<RecoveryReport>>>,
    /// Counts the times that something was sealed.
    pub(super) sealings: watch::Sender<u64>,
    /// Keeps room on the disk.
    pub(super) room: Room,
    /// Ticks until a failed compaction is tried again.
    pub(super) retry_in: u32,
}

impl Keeper {
    /// Runs until it is told to close, or until nobody can tell it any more.
    pub(super) fn run(mut self) {
        lower_priority();
        let report = self.ledger.recover();
        self.announce(report.boots.iter().map(|boot| boot.sealed).sum());
        self.keep_room();
        self.recovered.send_replace(Some(Arc::new(report)));
        while let Some(request) = self.next_request() {
            match request {
                // Whoever waits for an answer wants the rows now, whatever they are dated.
                Request::Compact(None) => drop(self.compact_dated()),
                Request::Compact(reply) => {
                    let compacted = self.compact_backlog();
                    answer(reply, compacted);
                }
                Request::Sealed(reply) => answer(Some(reply), Ok(self.ledger.sealed())),
                Request::Landed(name, reply) => answer(Some(reply), self.ledger.land(&name)),
                Request::Offered(name, reply) => {
                    answer(Some(reply), self.ledger.mark_offered(&name));
                }
                Request::SetAside(name, reply) => {
                    let replaced = self
                        .ledger
                        .set_aside(&name)
                        .map(|sealed| self.announce(sealed));
                    answer(Some(reply), replaced);
                }
                Request::Close { clean, reply } => {
                    let closed = self.close(clean.as_ref());
                    return answer(reply, closed);
                }
            }
        }
    }

    /// The next request; while none comes, looks after the disk and the backlog.
    fn next_request(&mut self) -> Option<Request> {
        loop {
            match self.requests.recv_timeout(TICK) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.tick(),
            }
        }
    }

    /// Compacts the backlog, unless its rows have to wait for a clock and the disk has room for
    /// that.
    fn compact_dated(&mut self) -> Result<(), KeepSegmentsError> {
        if self.ledger.awaits_clock(self.backlog.len()) && !self.room.is_short() {
            self.keep_room();
            return Ok(());
        }
        self.compact_backlog()
    }

    fn tick(&mut self) {
        self.retry_in = self.retry_in.saturating_sub(1);
        let waits = self.backlog.first().is_some() || self.ledger.has_undated();
        if self.retry_in == 0 && waits {
            // The failure is logged where it happens.
            drop(self.compact_dated());
        } else {
            self.keep_room();
        }
    }

    fn keep_room(&mut self) {
        let replaced = self.room.keep(&mut self.ledger);
        self.announce(replaced);
    }

    /// Compacts the backlog, and keeps room for each segment: while rows come in as fast as they
    /// are compacted, this does not end.
    fn compact_backlog(&mut self) -> Result<(), KeepSegmentsError> {
        self.keep_room();
        let sealed = self.ledger.recover_undated();
        self.announce(sealed);
        while let Some(segment) = self.backlog.first() {
            let sealed = self.ledger.compact(segment).inspect_err(|error| {
                self.retry_in = RETRY_TICKS;
                let error = error as &dyn std::error::Error;
                tracing::error!(error, segment = %segment.name, "a row segment waits");
            })?;
            self.backlog.drop_first();
            self.announce(sealed);
            self.keep_room();
        }
        Ok(())
    }

    fn close(&mut self, clean: Option<&Position>) -> Result<(), KeepSegmentsError> {
        self.compact_backlog()?;
        let boot = self.ledger.boot;
        if let Some(last) = clean {
            let sealed = self.ledger.end(boot, Some(last))?;
            self.announce(sealed);
        }
        Ok(())
    }

    fn announce(&self, sealed: usize) {
        if sealed > 0 {
            self.sealings.send_modify(|count| *count += 1);
        }
    }
}

fn answer<T>(reply: Option<Reply<T>>, result: Result<T, KeepSegmentsError>) {
    if let Some(reply) = reply {
        // Who asked may have gone.
        drop(reply.send(result));
    }
}

fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "compaction runs at normal priority");
    }
}
