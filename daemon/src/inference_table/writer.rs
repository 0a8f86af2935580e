//! The writer thread: from the channel to the log, a group commit at a time.
//!
//! ```text
//!      first row, or counts that are due      commit's worth, interval over, or an order
//! idle ------------------> gathering -----------------------------------------------> committing
//!  ^  \-- segment too old: seal                                                          |
//!  +--------------------------------- nothing waits -------------------------------------+
//! ```

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use edgeward_base::clock::SharedClock;

use super::channel::{Close, Message, RowReceiver, Take, Waiting, sleep};
use super::keeper::{Backlog, Reply, Request};
use super::wal::RowLog;

/// So long rows that are left out wait to be counted, unless so many do.
const COUNT_EVERY: Duration = Duration::from_secs(60);
const COUNT_ROWS: u64 = 100_000;

/// What the writer thread owns.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) rows: RowReceiver,
    pub(super) log: RowLog,
    /// A commit starts so long after the first row that waits.
    pub(super) commit_interval: Duration,
    pub(super) clock: SharedClock,
    /// Where sealed segments are put for the keeper.
    pub(super) backlog: Backlog,
    pub(super) keeper: SyncSender<Request>,
    /// When rows that are left out were counted last, since the process started.
    pub(super) counted: Option<Duration>,
}

/// What the messages asked for beside rows.
#[derive(Debug, Default)]
struct Orders {
    seals: Vec<Reply<()>>,
    close: Option<Close>,
}

impl Writer {
    /// Runs until it is told to close.
    pub(super) fn run(mut self) {
        self.rows.attach();
        let mut since = self.clock.monotonic();
        loop {
            if self.idle() {
                since = self.clock.monotonic();
                continue;
            }
            self.gather(since);
            since = self.clock.monotonic();
            let orders = self.commit();
            if let Some(close) = orders.close {
                return self.close(close);
            }
        }
    }

    /// Sleeps while nothing waits. Answers whether it is worth asking again.
    fn idle(&mut self) -> bool {
        // Rows that a failing disk cost are counted as soon as it takes that.
        let count_in = self.count_in().into_iter().chain(self.log.count_in()).min();
        if self.rows.waiting() != Waiting::Nothing || count_in == Some(Duration::ZERO) {
            return false;
        }
        match self.log.seal_in() {
            Some(Duration::ZERO) => {
                self.log.seal();
                self.hand_over(None);
            }
            rest => sleep(rest.into_iter().chain(count_in).min()),
        }
        true
    }

    /// How long from now until rows that were left out have to be counted, if there are any.
    fn count_in(&self) -> Option<Duration> {
        let rest = match (self.rows.left_out(), self.counted) {
            (0, _) => return None,
            (COUNT_ROWS.., _) | (_, None) => Duration::ZERO,
            (_, Some(at)) => COUNT_EVERY.saturating_sub(self.clock.monotonic().saturating_sub(at)),
        };
        Some(rest)
    }

    /// Lets rows gather until there is a commit's worth or the interval is over.
    fn gather(&self, since: Duration) {
        while self.rows.waiting() == Waiting::Some {
            let waited = self.clock.monotonic().saturating_sub(since);
            let Some(rest) = self
                .commit_interval
                .checked_sub(waited)
                .filter(|d| !d.is_zero())
            else {
                return;
            };
            sleep(Some(rest));
        }
    }

    /// Commits what waits, or as much of it as one frame should have.
    fn commit(&mut self) -> Orders {
        let mut orders = Orders::default();
        while !self.log.is_full()
            && let Some(message) = self.rows.take()
        {
            match message {
                Message::Row(row) => self.log.push(row),
                Message::Seal(reply) => orders.seals.push(reply),
                Message::Close(close) => {
                    orders.close = Some(close);
                    break;
                }
            }
        }
        let ordered = !orders.seals.is_empty() || orders.close.is_some();
        let which = if ordered || self.count_in() == Some(Duration::ZERO) {
            self.counted = Some(self.clock.monotonic());
            Take::All
        } else {
            Take::Urgent
        };
        let now_us = self.clock.wall_micros();
        self.rows.take_dropped(which, self.log.losses(), now_us);
        if orders.close.is_some() {
            return orders;
        }
        self.log.commit();
        if !orders.seals.is_empty() || self.log.seal_in() == Some(Duration::ZERO) {
            self.log.seal();
        }
        self.hand_over(None);
        for reply in std::mem::take(&mut orders.seals) {
            self.hand_over(Some(reply));
        }
        orders
    }

    /// Gives sealed segments to the keeper, and lets it answer who waits for that.
    fn hand_over(&mut self, reply: Option<Reply<()>>) {
        let sealed = self.log.take_sealed();
        if sealed.is_empty() && reply.is_none() {
            return;
        }
        self.backlog.add(sealed);
        // A full queue means that the keeper is about to look at the backlog anyway; whoever
        // waits for an answer learns from its absence that there was no room.
        drop(self.keeper.try_send(Request::Compact(reply)));
    }

    fn close(mut self, close: Close) {
        let Close { complete, reply } = close;
        drop(self.log.close(complete));
        self.backlog.add(self.log.take_sealed());
        let (last, losses) = (self.log.position(), std::mem::take(self.log.losses()));
        let close = Request::Close {
            last,
            losses,
            complete,
            reply,
        };
        // The keeper ends with this request, so waiting for room in its queue ends too.
        drop(self.keeper.send(close));
    }
}
