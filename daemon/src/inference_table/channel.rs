//! The way of a row from the request path to the writer.
//!
//! Owns a queue that is bounded in bytes and the counts of what did not fit. [`RowSender::offer`]
//! encodes the row, adds its size to one counter and pushes: it never waits, takes no lock and
//! touches no disk. When the bytes that wait reach the limit, the row is dropped and counted, by
//! table and endpoint; the writer takes the counts with its next commit and gives the lost rows
//! their sequences there.
//!
//! The writer sleeps while nothing waits. It is woken by the first row (it then gathers more until
//! the commit interval is over), by the row that makes a commit's worth, and by an order.

use std::mem::size_of;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use edgeward_base::names::{EndpointName, TableName};

use super::gap::{GapCause, LossKey, Losses, Lost};
use super::keeper::Reply;
use super::record::{OfferedRow, Row};

#[cfg(test)]
mod tests;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Log this row.
    Row(OfferedRow),
    /// Commit and seal now; answered when the segments are sealed.
    Seal(Reply<()>),
    /// Commit, seal and end; answered when the segments are sealed.
    Close(Option<Reply<()>>),
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
    /// So much makes a commit.
    pub(super) commit: usize,
    /// The largest request or response that is kept.
    pub(super) payload_cap: usize,
}

#[derive(Debug)]
struct Shared {
    limits: ChannelLimits,
    /// Bytes that wait. A row is added before it is pushed and taken off after it is popped, so
    /// that zero means an empty queue.
    waiting: AtomicUsize,
    dropped: Drops,
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

/// A channel with the given limits.
pub(super) fn channel(limits: ChannelLimits) -> (RowSender, RowReceiver) {
    // The queue itself has no end; the bytes that may wait in it have.
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Shared {
        limits,
        waiting: AtomicUsize::new(0),
        dropped: Drops::default(),
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
        let full = self.shared.waiting.load(Ordering::Relaxed) >= self.shared.limits.most;
        let bytes = if full {
            None
        } else {
            row.encode(self.shared.limits.payload_cap).ok()
        };
        let Some(bytes) = bytes else {
            return self.drop_row(
                table,
                endpoint.as_ref(),
                row.request_time_us,
                payload_bytes(row),
            );
        };
        let offered = OfferedRow {
            table: table.clone(),
            endpoint,
            time_us: row.request_time_us,
            bytes,
        };
        let size = size_of_row(&offered);
        if let Err(offered) = self.push(Message::Row(offered), size)
            && let Message::Row(OfferedRow {
                table,
                endpoint,
                time_us,
                bytes,
            }) = *offered
        {
            self.drop_row(&table, endpoint.as_ref(), time_us, bytes.len());
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

    fn push(&self, message: Message, size: usize) -> Result<(), Box<Message>> {
        let before = self.shared.waiting.fetch_add(size, Ordering::AcqRel);
        if before.saturating_add(size) > self.shared.limits.most {
            self.shared.waiting.fetch_sub(size, Ordering::AcqRel);
            return Err(Box::new(message));
        }
        self.send(message, size, before)
    }

    fn send(&self, message: Message, size: usize, before: usize) -> Result<(), Box<Message>> {
        if let Err(mpsc::SendError(message)) = self.queue.send(message) {
            self.shared.waiting.fetch_sub(size, Ordering::AcqRel);
            return Err(Box::new(message));
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
        time_us: i64,
        bytes: usize,
    ) {
        let first = self.shared.dropped.count(table, endpoint, time_us, bytes);
        if first {
            self.shared.wake();
        }
    }

    /// Rows dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.total.load(Ordering::Relaxed)
    }
}

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
        } else if bytes > 0 || self.shared.dropped.any() {
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

    /// Takes the counts of dropped rows.
    pub(super) fn take_dropped(&self, losses: &mut Losses, now_us: i64) {
        self.shared.dropped.take(losses, now_us);
    }
}

/// Counts of dropped rows.
#[derive(Debug, Default)]
struct Drops {
    /// One lane for each table and endpoint that ever dropped a row.
    lanes: ArcSwap<Vec<Arc<Lane>>>,
    /// Rows that wait to be taken.
    untaken: AtomicU64,
    total: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    table: TableName,
    endpoint: Option<EndpointName>,
    rows: AtomicU64,
    bytes: AtomicU64,
    first_us: AtomicI64,
    last_us: AtomicI64,
}

impl Drops {
    /// Counts one row. Answers whether it is the first since the counts were taken.
    fn count(
        &self,
        table: &TableName,
        endpoint: Option<&EndpointName>,
        time_us: i64,
        bytes: usize,
    ) -> bool {
        let lane = self.lane(table, endpoint);
        lane.first_us.fetch_min(time_us, Ordering::Relaxed);
        lane.last_us.fetch_max(time_us, Ordering::Relaxed);
        lane.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        lane.rows.fetch_add(1, Ordering::Release);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.untaken.fetch_add(1, Ordering::AcqRel) == 0
    }

    fn lane(&self, table: &TableName, endpoint: Option<&EndpointName>) -> Arc<Lane> {
        let find = |lanes: &[Arc<Lane>]| {
            lanes
                .iter()
                .find(|lane| lane.table == *table && lane.endpoint.as_ref() == endpoint)
                .cloned()
        };
        if let Some(lane) = find(&self.lanes.load()) {
            return lane;
        }
        let new = Arc::new(Lane {
            table: table.clone(),
            endpoint: endpoint.cloned(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_us: AtomicI64::new(i64::MAX),
            last_us: AtomicI64::new(i64::MIN),
        });
        self.lanes.rcu(|lanes| match find(lanes) {
            Some(_) => Vec::clone(lanes),
            None => lanes.iter().chain([&new]).cloned().collect(),
        });
        // Another request may have added the lane first: then that one counts.
        find(&self.lanes.load()).unwrap_or(new)
    }

    fn any(&self) -> bool {
        self.untaken.load(Ordering::Acquire) > 0
    }

    fn take(&self, losses: &mut Losses, now_us: i64) {
        if self.untaken.swap(0, Ordering::AcqRel) == 0 {
            return;
        }
        for lane in self.lanes.load().iter() {
            let rows = lane.rows.swap(0, Ordering::AcqRel);
            let (first, last) = (
                lane.first_us.swap(i64::MAX, Ordering::Relaxed),
                lane.last_us.swap(i64::MIN, Ordering::Relaxed),
            );
            // A row that is being counted right now may have left its time to the taking before.
            let lost = Lost {
                rows,
                bytes: lane.bytes.swap(0, Ordering::Relaxed),
                first_us: if first == i64::MAX { now_us } else { first },
                last_us: if last == i64::MIN { now_us } else { last },
            };
            let key = LossKey {
                table: lane.table.clone(),
                endpoint: lane.endpoint.clone(),
                cause: GapCause::ChannelFull,
            };
            losses.add(key, lost);
        }
    }
}
