//! The way of a row from the request path to the writer.
//!
//! Owns a queue that is bounded in bytes and the counts of what did not fit. [`RowSender::offer`]
//! asks the policy, encodes the row, adds its size to one counter and pushes: it never waits, takes
//! no lock and touches no disk. When the bytes that wait reach the limit, the row is dropped and
//! counted, by table, endpoint and cause; the writer takes the counts with its next commit and
//! gives the lost rows their sequences there. Rows that the policy leaves out are counted the same
//! way, but their counts wait for up to a minute: they go on for hours.
//!
//! The writer sleeps while nothing waits. It is woken by the first row (it then gathers more until
//! the commit interval is over), by the row that makes a commit's worth, and by an order.

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use edgeward_base::names::{EndpointName, TableName};

use super::gap::{GapCause, Losses};
use super::keeper::Reply;
use super::policy::Policies;
use super::record::{OfferedRow, Row};

mod drops;

#[cfg(test)]
mod tests;

use drops::Drops;
pub(super) use drops::Take;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Log this row.
    Row(OfferedRow),
    /// Commit and seal now; answered when the segments are sealed.
    Seal(Reply<()>),
    /// Commit, seal and end.
    Close(Close),
}

/// How the log ends.
#[derive(Debug)]
pub(super) struct Close {
    /// Nobody offers rows any more: what the log has is all there was.
    pub(super) complete: bool,
    /// Answered when the segments are sealed.
    pub(super) reply: Option<Reply<()>>,
}

/// What a row takes in memory while it waits.
fn size_of_row(row: &OfferedRow) -> usize {
    row.bytes.len() + size_of::<Message>()
}

/// Limits of the channel, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelLimits {
    /// Rows that would make more wait than this are dropped.
    pub(super) most: usize,
    /// So much makes a commit; half the channel does in any case.
    pub(super) commit: usize,
}

#[derive(Debug)]
struct Shared {
    limits: ChannelLimits,
    policies: Policies,
    /// Bytes that wait. A row is added before it is pushed and taken off after it is popped, so
    /// that zero means an empty queue.
    waiting: AtomicUsize,
    /// Rows since the start that were pushed, or are about to be: counted before they are pushed,
    /// so that whatever was pushed before a look is among the first so many.
    offered: AtomicU64,
    dropped: Drops,
    /// Rows that were written without a payload, because the disk is short.
    shed: AtomicU64,
    writer: OnceLock<Thread>,
}

impl Shared {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// The request path's end.
#[derive(Debug)]
pub(super) struct RowSender {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct RowReceiver {
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
}

/// A channel with the given limits that asks these policies.
pub(super) fn channel(limits: ChannelLimits, policies: Policies) -> (RowSender, RowReceiver) {
    let limits = ChannelLimits {
        // A commit, and an order that weighs as much, leave room for rows.
        commit: limits.commit.min(limits.most / 2),
        ..limits
    };
    // The queue itself has no end; the bytes that may wait in it have.
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Shared {
        limits,
        policies,
        waiting: AtomicUsize::new(0),
        offered: AtomicU64::new(0),
        dropped: Drops::default(),
        shed: AtomicU64::new(0),
        writer: OnceLock::new(),
    });
    let shared_too = Arc::clone(&shared);
    (
        RowSender {
            queue: sender,
            shared,
        },
        RowReceiver {
            queue: receiver,
            shared: shared_too,
        },
    )
}

impl RowSender {
    /// Hands a row to the writer, or counts it as dropped.
    pub(super) fn offer(&self, table: &TableName, row: &Row) {
        let endpoint = row
            .endpoint_name
            .as_ref()
            .filter(|_| *table != TableName::unmatched())
            .cloned();
        let lose = |cause, bytes| {
            self.drop_row(
                table,
                endpoint.as_ref(),
                cause,
                (row.request_time_us, bytes),
            );
        };
        let policy = self.shared.policies.of(table);
        if let Some(cause) = policy.leaves_out(row.request_id) {
            return lose(cause, payload_bytes(row));
        }
        let most = self.shared.limits.most;
        if self.shared.waiting.load(Ordering::Relaxed) >= most {
            return lose(GapCause::ChannelFull, payload_bytes(row));
        }
        // Only a length beyond the machine's memory fails to be encoded.
        let Ok((bytes, shed)) = row.encode(&policy) else {
            return lose(GapCause::Oversize, payload_bytes(row));
        };
        let length = bytes.len();
        let offered = OfferedRow {
            table: table.clone(),
            endpoint: endpoint.clone(),
            time_us: row.request_time_us,
            bytes,
        };
        let size = size_of_row(&offered);
        if size > most {
            return lose(GapCause::Oversize, length);
        }
        self.shared.offered.fetch_add(1, Ordering::Relaxed);
        match self.push(Message::Row(offered), size) {
            Err(Refused) => {
                self.shared.offered.fetch_sub(1, Ordering::Relaxed);
                lose(GapCause::ChannelFull, length);
            }
            Ok(()) if shed => drop(self.shared.shed.fetch_add(1, Ordering::Relaxed)),
            Ok(()) => {}
        }
    }

    /// Tells the writer something other than a row, at once.
    ///
    /// Answers whether the writer is still there.
    pub(super) fn order(&self, message: Message) -> bool {
        // As heavy as a commit's worth, so that the writer does not gather any longer; and never
        // refused, because orders are few and each has somebody who waits.
        let size = self.shared.limits.commit;
        let before = self.shared.waiting.fetch_add(size, Ordering::AcqRel);
        self.send(message, size, before).is_ok()
    }

    fn push(&self, message: Message, size: usize) -> Result<(), Refused> {
        let before = self.shared.waiting.fetch_add(size, Ordering::AcqRel);
        if before.saturating_add(size) > self.shared.limits.most {
            self.shared.waiting.fetch_sub(size, Ordering::AcqRel);
            return Err(Refused);
        }
        self.send(message, size, before)
    }

    fn send(&self, message: Message, size: usize, before: usize) -> Result<(), Refused> {
        if self.queue.send(message).is_err() {
            self.shared.waiting.fetch_sub(size, Ordering::AcqRel);
            return Err(Refused);
        }
        let commit = self.shared.limits.commit;
        if before == 0 || (before < commit && before.saturating_add(size) >= commit) {
            self.shared.wake();
        }
        Ok(())
    }

    fn drop_row(
        &self,
        table: &TableName,
        endpoint: Option<&EndpointName>,
        cause: GapCause,
        (time_us, bytes): (i64, usize),
    ) {
        let dropped = &self.shared.dropped;
        if dropped.count(table, endpoint, cause, (time_us, bytes)) {
            self.shared.wake();
        }
    }

    /// Rows handed to the writer since the start, in the order in which it commits them.
    pub(super) fn offered(&self) -> u64 {
        self.shared.offered.load(Ordering::Relaxed)
    }

    /// Rows dropped for these causes since the start.
    pub(super) fn dropped(&self, causes: &[GapCause]) -> u64 {
        self.shared.dropped.total(causes)
    }

    /// Rows written without a payload since the start, because the disk was short.
    pub(super) fn shed(&self) -> u64 {
        self.shared.shed.load(Ordering::Relaxed)
    }
}

/// The writer has no room for a message, or is gone.
#[derive(Debug)]
struct Refused;

fn payload_bytes(row: &Row) -> usize {
    row.request.as_ref().map_or(0, bytes::Bytes::len)
        + row.response.as_ref().map_or(0, bytes::Bytes::len)
}

/// How the writer came out of its sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nothing waits.
    Nothing,
    /// Something waits, less than a commit's worth.
    Some,
    /// A commit's worth waits, or an order.
    Commit,
}

/// Sleeps until a row or an order wakes this thread or the time is over; may also return for no
/// reason.
pub(super) fn sleep(most: Option<Duration>) {
    match most {
        Some(most) => std::thread::park_timeout(most),
        None => std::thread::park(),
    }
}

impl RowReceiver {
    /// Makes the calling thread the one that is woken.
    pub(super) fn attach(&self) {
        // A second writer cannot be: the receiver is not shared.
        drop(self.shared.writer.set(std::thread::current()));
    }

    /// What waits now.
    pub(super) fn waiting(&self) -> Waiting {
        let bytes = self.shared.waiting.load(Ordering::Acquire);
        if bytes >= self.shared.limits.commit {
            Waiting::Commit
        } else if bytes > 0 || self.shared.dropped.any_urgent() {
            Waiting::Some
        } else {
            Waiting::Nothing
        }
    }

    /// Takes the next message, if one is there.
    pub(super) fn take(&self) -> Option<Message> {
        let message = self.queue.try_recv().ok()?;
        let size = match &message {
            Message::Row(row) => size_of_row(row),
            Message::Seal(_) | Message::Close(_) => self.shared.limits.commit,
        };
        self.shared.waiting.fetch_sub(size, Ordering::AcqRel);
        Some(message)
    }

    /// Takes counts of dropped rows.
    pub(super) fn take_dropped(&self, which: Take, losses: &mut Losses, now_us: i64) {
        self.shared.dropped.take(which, losses, now_us);
    }

    /// Rows that were left out and are not counted yet.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.dropped.patient()
    }
}
