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
//!
//! A turn is one look at the disk if one is due, one request, and one segment of the log. Earlier
//! boots that could not be recovered are tried again from here. Must never end for a panic.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgeward_wire::segment::SegmentName;
use tokio::sync::{oneshot, watch};

use super::gap::Losses;
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
mod trim;

pub use account::BootEnd;
pub use aside::put_aside;
pub use ledger::KeepSegmentsError;
pub use recover::{RecoveredBoot, RecoveryReport};
pub use room::DiskUse;
pub(super) use room::{Budgets, Room};

use ledger::Ledger;

/// How often the disk is looked at.
const TICK: Duration = Duration::from_secs(5);
/// How many of them after a failed compaction or recovery the next try starts.
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

    fn last(&self) -> Option<WalSegment> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .back()
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
        /// Where each table ended.
        last: Position,
        /// Rows that were lost after that, which the log did not take either.
        losses: Losses,
        /// Whether nobody offers any more: only then the boot has ended cleanly.
        complete: bool,
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
    pub(super) agenda: Agenda,
}

/// What the keeper has to do beside what it is asked.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// When the disk is looked at next, since the process started.
    next_tick: Duration,
    /// Ticks until what failed is tried again.
    retry_in: u32,
    /// Whether the backlog is compacted, a segment a turn.
    compacting: bool,
    /// Who waits for the backlog up to a segment of that number.
    waiting: VecDeque<(u32, Reply<()>)>,
    closing: bool,
}

impl Keeper {
    /// Runs until it is told to close, or until nobody can tell it any more.
    pub(super) fn run(mut self) {
        lower_priority();
        if let Err(error) = catch(|| self.recover()) {
            let errors = vec![error.to_string()];
            self.publish(RecoveryReport {
                errors,
                ..RecoveryReport::default()
            });
        }
        self.agenda.next_tick = self.ledger.clock.monotonic() + TICK;
        loop {
            match catch(|| self.turn()) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    tracing::error!(%error, "the row keeper goes on");
                    if self.agenda.closing {
                        return;
                    }
                    self.agenda.compacting = false;
                    self.agenda.waiting.clear();
                    self.agenda.retry_in = RETRY_TICKS;
                }
            }
        }
    }

    /// Looks after the disk when that is due, whatever is asked meanwhile; then serves one request
    /// and compacts one segment, so that neither holds up the other.
    fn turn(&mut self) -> ControlFlow<()> {
        let now = self.ledger.clock.monotonic();
        if now >= self.agenda.next_tick {
            self.agenda.next_tick = now + TICK;
            self.tick();
        }
        let rest = if self.agenda.compacting {
            Duration::ZERO
        } else {
            self.agenda.next_tick.saturating_sub(now)
        };
        match self.requests.recv_timeout(rest) {
            Ok(request) => self.serve(request)?,
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            Err(RecvTimeoutError::Timeout) if self.agenda.compacting => {}
            Err(RecvTimeoutError::Timeout) => self.agenda.next_tick = now,
        }
        if self.agenda.compacting {
            self.compact_next();
        }
        ControlFlow::Continue(())
    }

    fn serve(&mut self, request: Request) -> ControlFlow<()> {
        match request {
            // Whoever waits for an answer wants the rows now, whatever they are dated.
            Request::Compact(None) => self.compact_dated(),
            Request::Compact(Some(reply)) => {
                let last = self.backlog.last().map_or(0, |segment| segment.name.number);
                self.agenda.waiting.push_back((last, reply));
                self.start_compaction();
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
            Request::Close {
                last,
                losses,
                complete,
                reply,
            } => {
                self.agenda.closing = true;
                let closed = self.close(&last, &losses, complete);
                answer(reply, closed);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Brings what earlier boots left into order, as far as that works, with room made in between.
    fn recover(&mut self) {
        let mut recovery = self.ledger.start_recovery();
        self.keep_room();
        while self.ledger.recover_next(&mut recovery) {
            self.keep_room();
        }
        let report = self.ledger.finish_recovery(recovery);
        self.announce(report.sealed());
        self.publish(report);
    }

    /// Adds to what is known of recovery.
    fn publish(&self, again: RecoveryReport) {
        self.recovered.send_modify(|known| {
            let mut report = known.as_deref().cloned().unwrap_or_default();
            report.follow(again);
            *known = Some(Arc::new(report));
        });
    }

    /// Compacts the backlog, unless its rows have to wait for a clock and the disk has room for
    /// that.
    fn compact_dated(&mut self) {
        if self.ledger.awaits_clock(self.backlog.len()) && !self.room.is_short() {
            self.keep_room();
        } else {
            self.start_compaction();
        }
    }

    fn tick(&mut self) {
        self.agenda.retry_in = self.agenda.retry_in.saturating_sub(1);
        self.keep_room();
        if self.agenda.retry_in > 0 {
            return;
        }
        if self.ledger.is_recovering() {
            self.recover();
            if self.ledger.is_recovering() {
                self.agenda.retry_in = RETRY_TICKS;
            }
        }
        let waits = self.backlog.first().is_some() || self.ledger.has_undated();
        if waits && !self.agenda.compacting {
            // A failure is logged where it happens.
            self.compact_dated();
        }
    }

    fn keep_room(&mut self) {
        let replaced = self.room.keep(&mut self.ledger);
        self.announce(replaced);
    }

    /// Compacts the logs of earlier boots that waited for the clock; those of this one follow.
    fn start_compaction(&mut self) {
        self.keep_room();
        let sealed = self.ledger.recover_undated();
        self.announce(sealed);
        self.agenda.compacting = true;
        self.answer_waiting();
    }

    /// Compacts the first segment of the backlog, and keeps room for the next.
    fn compact_next(&mut self) {
        let Some(segment) = self.backlog.first() else {
            self.answer_waiting();
            return;
        };
        match self.compact(segment) {
            Ok(()) => self.answer_waiting(),
            Err(error) => {
                // Who else waits has a try of its own.
                let first = self.agenda.waiting.pop_front();
                answer(first.map(|(_, reply)| reply), Err(error));
                self.agenda.compacting = !self.agenda.waiting.is_empty();
            }
        }
    }

    fn compact(&mut self, segment: WalSegment) -> Result<(), KeepSegmentsError> {
        let sealed = self.ledger.compact(segment).inspect_err(|error| {
            self.agenda.retry_in = RETRY_TICKS;
            let error = error as &dyn std::error::Error;
            tracing::error!(error, segment = %segment.name, "a row segment waits");
        })?;
        self.backlog.drop_first();
        self.announce(sealed);
        self.keep_room();
        Ok(())
    }

    /// Answers those whose segments are compacted. Without a backlog, compaction is over.
    fn answer_waiting(&mut self) {
        let next = self.backlog.first().map(|segment| segment.name.number);
        self.agenda.compacting &= next.is_some();
        while let Some((last, _)) = self.agenda.waiting.front()
            && next.is_none_or(|next| *last < next)
        {
            let first = self.agenda.waiting.pop_front();
            answer(first.map(|(_, reply)| reply), Ok(()));
        }
    }

    fn close(
        &mut self,
        last: &Position,
        losses: &Losses,
        complete: bool,
    ) -> Result<(), KeepSegmentsError> {
        self.start_compaction();
        while let Some(segment) = self.backlog.first() {
            self.compact(segment)?;
        }
        self.answer_waiting();
        let sealed = self.ledger.close(last, losses, complete)?;
        self.announce(sealed);
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

/// Does something that must not end the keeper, whatever the disk holds. What it changed is either
/// committed or as it was before.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, KeepSegmentsError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        KeepSegmentsError::Panicked(text.unwrap_or("without a word").to_owned())
    })
}
