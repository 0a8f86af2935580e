//! Inference tables: one row per request, none lost past the last group commit, none doubled,
//! and every gap counted.
//!
//! Owns `{state}/rows`: the write-ahead log, the sealed Parquet segments and the account of them.
//! Must never: make the request path wait, take a lock that a writer holds, or touch the disk on
//! it; keep the process from starting; guess a count that it does not know.
//!
//! ```text
//! offer --> channel --> writer --> {rows}/wal/{boot}-{number}.wal      group commit, fdatasync
//!              |                        | sealed by age, size, day, close
//!              | full: counted          v
//!              +--> gap row         keeper --> {rows}/parquet/...      rows and gaps, sealed
//!                                       |      {rows}/account/{boot}   what has been sealed
//!                                       v
//!                                   landed(name), after the registry's receipt: deleted
//! ```
//!
//! Two threads, each the owner of its state: the *writer* numbers rows and commits them; the
//! *keeper* recovers earlier boots, compacts sealed segments, and knows which files are there.
//!
//! `sequence` counts from 1 for each (boot, table) in the order of the log; rows that had to be
//! dropped take their numbers when the gap that counts them is committed. So for each boot and
//! table, rows + counted gaps = last committed sequence. What a boot lost after its last commit
//! nobody knows: unless it ended cleanly, a gap of unknown length says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_base::durable::SharedFs;
use edgeward_base::names::{BootId, DeviceId, TableName};
use edgeward_base::units::ByteCount;

use edgeward_wire::segment::SegmentName;
use tokio::sync::{oneshot, watch};

use crate::tasks::{SpawnThreadError, Tasks};

mod budget;
mod channel;
mod compact;
mod gap;
mod keeper;
mod policy;
mod record;
mod segment;
mod time;
mod verify;
mod views;
mod wal;
mod writer;

pub use budget::{BudgetOptions, TableBudget};
pub use compact::CompactError;
pub use gap::GapCause;
pub use keeper::{BootEnd, DiskUse, KeepSegmentsError, RecoveredBoot, RecoveryReport, put_aside};
pub use record::Row;
pub use segment::SealedSegment;
pub use verify::{VerifiedBoot, VerifiedTable, VerifyReport, verify};
pub use views::views;

use channel::{ChannelLimits, Close, Message, RowSender, channel};
use keeper::ledger::{Folders, Ledger};
use keeper::{Backlog, Budgets, Keeper, Reply, Request, Room};
use policy::Policies;
use wal::{LogCounters, LogOptions, RowLog};
use writer::Writer;

#[cfg(test)]
mod tests;

/// How inference tables are kept.
#[derive(Debug, Clone)]
pub struct InferenceTableOptions {
    /// `{state}/rows`.
    pub directory: PathBuf,
    /// This box, as each row names it.
    pub device: DeviceId,
    /// This start of the process, as each row names it.
    pub boot: BootId,
    /// Bytes of rows that may wait for the writer; more are dropped and counted. 8 MiB by default.
    pub channel_bytes: ByteCount,
    /// The largest request or response that is kept; a larger one is null. 1 MiB by default.
    pub payload_cap: ByteCount,
    /// A commit starts when so much waits. 64 KiB by default.
    pub commit_bytes: ByteCount,
    /// A commit starts so long after the first row that waits: what a power cut may take.
    /// 1 s by default.
    pub commit_interval: Duration,
    /// A segment is sealed so long after its first row. 10 minutes by default.
    pub seal_after: Duration,
    /// A segment is sealed at this size in the write-ahead log, or at a 32nd of the budget where
    /// that is less. 8 MiB by default.
    pub seal_size: ByteCount,
    /// What rows may take of the disk.
    pub budget: BudgetOptions,
    /// The clocks.
    pub clock: SharedClock,
    /// The file system.
    pub fs: SharedFs,
}

impl InferenceTableOptions {
    /// The defaults of every limit.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        device: DeviceId,
        boot: BootId,
        clock: SharedClock,
        fs: SharedFs,
    ) -> Self {
        Self {
            directory,
            device,
            boot,
            channel_bytes: ByteCount::mib(8),
            payload_cap: ByteCount::mib(1),
            commit_bytes: ByteCount::kib(64),
            commit_interval: Duration::from_secs(1),
            seal_after: Duration::from_secs(600),
            seal_size: ByteCount::mib(8),
            budget: BudgetOptions::default(),
            clock,
            fs,
        }
    }
}

/// Requests that may wait for the keeper; more are refused.
const KEEPER_REQUESTS: usize = 64;

/// Why the row log did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenInferenceTablesError {
    /// No thread for the writer.
    #[error("cannot start the row writer")]
    Writer(#[source] SpawnThreadError),
    /// No thread for the keeper.
    #[error("cannot start the row keeper")]
    Keeper(#[source] SpawnThreadError),
}

/// Why the row log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskInferenceTablesError {
    /// It was closed.
    #[error("the row log is closed")]
    Closed,
    /// Too many requests wait already: ask again later.
    #[error("the row log has too many requests waiting")]
    Busy,
    /// It tried and failed.
    #[error("the row log failed")]
    Failed(#[source] KeepSegmentsError),
}

/// What the row log did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounters {
    /// Rows handed to the writer. It commits them in this order: once `committed` and `lost`
    /// together are as many as this was, every row that was offered before is one or the other.
    pub offered: u64,
    /// Rows that are durable.
    pub committed: u64,
    /// Rows that did not fit into the channel.
    pub dropped: u64,
    /// Rows that sampling left out, because the disk was short.
    pub sampled: u64,
    /// Rows that a table which may not lose older ones did not take any more.
    pub refused: u64,
    /// Rows that were written without a payload, because the disk was short.
    pub shed: u64,
    /// Rows that the disk did not take.
    pub lost: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// Bytes written to the write-ahead log.
    pub log_bytes: u64,
}

/// A handle to the inference tables of this box. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct InferenceTables {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rows: RowSender,
    keeper: SyncSender<Request>,
    counters: Arc<LogCounters>,
    recovered: watch::Receiver<Option<Arc<RecoveryReport>>>,
    sealings: watch::Receiver<u64>,
    budgets: Budgets,
    disk_use: watch::Receiver<Arc<DiskUse>>,
}

impl Drop for Shared {
    /// Nobody can offer a row any more: what is there is committed, and the threads end.
    fn drop(&mut self) {
        let (complete, reply) = (true, None);
        self.rows.order(Message::Close(Close { complete, reply }));
    }
}

fn ledger_of(options: &InferenceTableOptions, folders: &Folders) -> Ledger {
    Ledger::new(
        Arc::clone(&options.fs),
        Arc::clone(&options.clock),
        folders.clone(),
        options.device.clone(),
        options.boot,
    )
}

impl InferenceTables {
    /// Starts the writer and the keeper. Recovery of earlier boots runs beside them, so this
    /// returns at once whatever lies on the disk; no disk at all means that rows are lost and
    /// counted, not that this fails.
    ///
    /// # Errors
    /// [`OpenInferenceTablesError`] when the operating system gives no thread.
    pub fn open(
        options: InferenceTableOptions,
        tasks: &Tasks,
    ) -> Result<Self, OpenInferenceTablesError> {
        let folders = Folders::of(&options.directory);
        let policies = Policies::new(options.payload_cap.as_usize());
        let limits = ChannelLimits {
            most: options.channel_bytes.as_usize(),
            commit: options.commit_bytes.as_usize(),
        };
        let (rows, receiver) = channel(limits, policies.clone());
        let (room, budgets, disk_use) = Room::on_disk(&options, policies);
        let seal_size = room.seal_size();
        let (requests, waiting) = sync_channel(KEEPER_REQUESTS);
        let (recovered, recovered_seen) = watch::channel(None);
        let (sealings, sealings_seen) = watch::channel(0);
        let backlog = Backlog::default();
        let counters = Arc::new(LogCounters::default());
        let ledger = ledger_of(&options, &folders);
        let ordinal = ledger.ordinal();
        let keeper = Keeper {
            ledger,
            backlog: backlog.clone(),
            requests: waiting,
            recovered,
            sealings,
            room,
            agenda: keeper::Agenda::default(),
        };
        let writer = Writer {
            rows: receiver,
            commit_interval: options.commit_interval,
            clock: Arc::clone(&options.clock),
            log: RowLog::new(
                LogOptions {
                    directory: folders.wal,
                    device: options.device,
                    boot: options.boot,
                    ordinal,
                    seal_after: options.seal_after,
                    seal_size,
                    clock: options.clock,
                    fs: options.fs,
                },
                Arc::clone(&counters),
            ),
            backlog,
            keeper: requests.clone(),
            counted: None,
        };
        let shared = Shared {
            rows,
            keeper: requests,
            counters,
            recovered: recovered_seen,
            sealings: sealings_seen,
            budgets,
            disk_use,
        };
        tasks
            .spawn_thread("rows-keeper", move || keeper.run())
            .map_err(OpenInferenceTablesError::Keeper)?;
        tasks
            .spawn_thread("rows-writer", move || writer.run())
            .map_err(OpenInferenceTablesError::Writer)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Hands a row over. Never waits and never fails: a row that finds no room is counted, and
    /// a gap row will stand for it.
    pub fn offer(&self, table: &TableName, row: &Row) {
        self.shared.rows.offer(table, row);
    }

    /// What was found of earlier boots, once that was tried for the first time with each.
    ///
    /// # Errors
    /// [`AskInferenceTablesError::Closed`] when the keeper ended before.
    pub async fn recovery(&self) -> Result<Arc<RecoveryReport>, AskInferenceTablesError> {
        let mut recovered = self.shared.recovered.clone();
        let report = recovered.wait_for(Option::is_some).await;
        report
            .ok()
            .and_then(|report| report.clone())
            .ok_or(AskInferenceTablesError::Closed)
    }

    /// What of earlier boots could not be brought into order yet; it is tried again.
    #[must_use]
    pub fn recovery_errors(&self) -> Vec<String> {
        let report = self.shared.recovered.borrow();
        let errors = report.as_ref().map(|report| report.errors.clone());
        errors.unwrap_or_default()
    }

    /// Sealed segments that have not landed, oldest boot first. Waits for recovery.
    ///
    /// # Errors
    /// [`AskInferenceTablesError::Busy`] or `Closed`.
    pub async fn sealed(&self) -> Result<Vec<SealedSegment>, AskInferenceTablesError> {
        self.ask(Request::Sealed).await
    }

    /// Notes durably that a segment may have landed from now on. To be called before its last
    /// bytes are sent: should its receipt be lost, it is not given up in favour of a gap, which
    /// would count rows that are in the landing folder.
    ///
    /// # Errors
    /// [`AskInferenceTablesError`]; its last bytes must then not be sent.
    pub async fn offered(&self, segment: &SegmentName) -> Result<(), AskInferenceTablesError> {
        self.ask(|reply| Request::Offered(segment.clone(), reply))
            .await
    }

    /// Deletes a segment that has landed: the caller has verified the receipt. A segment that is
    /// not there has been deleted before, which is no error.
    ///
    /// # Errors
    /// [`AskInferenceTablesError`]; the segment is then offered again, or gone at the next start.
    pub async fn landed(&self, segment: &SegmentName) -> Result<(), AskInferenceTablesError> {
        self.ask(|reply| Request::Landed(segment.clone(), reply))
            .await
    }

    /// Moves a segment whose bytes do not have its digest any more into quarantine; a gap takes
    /// its place and is uploaded instead.
    ///
    /// # Errors
    /// [`AskInferenceTablesError`]; the segment is then still listed.
    pub async fn set_aside(&self, segment: &SegmentName) -> Result<(), AskInferenceTablesError> {
        self.ask(|reply| Request::SetAside(segment.clone(), reply))
            .await
    }

    /// Changes whenever something was sealed.
    #[must_use]
    pub fn sealings(&self) -> watch::Receiver<u64> {
        self.shared.sealings.clone()
    }

    /// Commits and seals what was offered so far, without waiting for its time.
    ///
    /// # Errors
    /// [`AskInferenceTablesError`]; what is committed stays so and is sealed later.
    pub async fn seal(&self) -> Result<(), AskInferenceTablesError> {
        let (reply, answer) = oneshot::channel();
        self.shared.rows.order(Message::Seal(reply));
        settle(answer).await
    }

    /// Commits and seals what was offered so far, ends the boot, and ends the threads. Rows offered
    /// later are dropped, and other requests answer that the log is closed: only when nobody offers
    /// any more is the log `complete`, and the boot ends cleanly.
    ///
    /// # Errors
    /// [`AskInferenceTablesError`]; what is committed stays so, and the next start goes on from
    /// there.
    pub async fn close(&self, complete: bool) -> Result<(), AskInferenceTablesError> {
        let (reply, answer) = oneshot::channel();
        let reply = Some(reply);
        self.shared
            .rows
            .order(Message::Close(Close { complete, reply }));
        settle(answer).await
    }

    /// Sets what single tables may take of the disk; it holds within seconds. Until this is called
    /// for the first time nothing goes to make room, and every new row is kept.
    pub fn set_budgets(&self, budgets: Vec<TableBudget>) {
        self.shared.budgets.store(Some(Arc::new(budgets)));
    }

    /// What rows take of the disk, as of a few seconds ago.
    #[must_use]
    pub fn disk_use(&self) -> Arc<DiskUse> {
        Arc::clone(&self.shared.disk_use.borrow())
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> RowCounters {
        let (counters, rows) = (&self.shared.counters, &self.shared.rows);
        RowCounters {
            offered: rows.offered(),
            committed: counters.committed.load(Ordering::Relaxed),
            dropped: rows.dropped(&[GapCause::ChannelFull, GapCause::Oversize]),
            sampled: rows.dropped(&[GapCause::Sampled]),
            refused: rows.dropped(&[GapCause::DiskBudget]),
            shed: rows.shed(),
            lost: counters.lost.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            log_bytes: counters.bytes.load(Ordering::Relaxed),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, AskInferenceTablesError> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .keeper
            .try_send(request(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => AskInferenceTablesError::Busy,
                TrySendError::Disconnected(_) => AskInferenceTablesError::Closed,
            })?;
        settle(answer).await
    }
}

async fn settle<T>(
    answer: oneshot::Receiver<Result<T, KeepSegmentsError>>,
) -> Result<T, AskInferenceTablesError> {
    let answer = answer.await.map_err(|_| AskInferenceTablesError::Closed)?;
    answer.map_err(AskInferenceTablesError::Failed)
}
