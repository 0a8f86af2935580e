//! Keeping room on the disk: looks at it, lets the ladder decide, does what it says, and publishes
//! what of new rows is kept.
//!
//! Runs on the keeper's thread every few seconds and after whatever changed the disk. Must never
//! do so much at once that requests to the keeper wait.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use edgeward_base::durable::{DurableFs, Space};
use edgeward_base::names::TableName;
use edgeward_base::units::ByteCount;
use tokio::sync::watch;

use super::super::InferenceTableOptions;
use super::super::budget::{Effect, Ladder, Limits, TableBudget, Usage};
use super::super::policy::Policies;
use super::KeepSegmentsError;
use super::evict::Evicted;
use super::gaps::MOST_FILES;
use super::ledger::Ledger;

/// Files that go before requests have their turn again.
const MOST_AT_ONCE: usize = 32;

/// What rows take of the disk, and what follows from that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// All files of rows, gaps and their accounts.
    pub bytes: ByteCount,
    /// What they may take.
    pub budget: ByteCount,
    /// What is left of the disk, where it says.
    pub free: Option<ByteCount>,
    /// What is left free for others.
    pub free_floor: ByteCount,
    /// How many files may still be made, where the file system says: with fewer than 64 it is full.
    pub free_files: Option<u64>,
    /// Rows that went since the start, to make room.
    pub evicted_rows: u64,
    /// Files that they were in.
    pub evicted_files: u64,
    /// Where tables stand of which nothing is known yet: `normal`, `shed`, `sample`, `full` or
    /// `stopped`. `None` until the budgets are known and the disk was looked at.
    pub rung: Option<&'static str>,
    /// Where each table stands, in the same words.
    pub rungs: Vec<(TableName, &'static str)>,
}

/// The budgets of tables, as who opened the row log sets them; none until then.
pub(in super::super) type Budgets = Arc<ArcSwapOption<Vec<TableBudget>>>;

/// What it takes to keep room.
#[derive(Debug)]
pub(in super::super) struct Room {
    ladder: Ladder,
    budgets: Budgets,
    policies: Policies,
    disk_use: watch::Sender<Arc<DiskUse>>,
    /// Since the start.
    evicted: Evicted,
    /// Whether the ladder has decided anything.
    climbed: bool,
}

impl Room {
    /// Room on the disk that holds the rows, and what others set and see of it.
    pub(in super::super) fn on_disk(
        options: &InferenceTableOptions,
        policies: Policies,
    ) -> (Self, Budgets, watch::Receiver<Arc<DiskUse>>) {
        let disk = disk_of(options.fs.as_ref(), &options.directory);
        let limits = Limits::of(&options.budget, disk, options.seal_size.0);
        if limits.seal_size < options.seal_size.0 {
            let size = ByteCount(limits.seal_size);
            tracing::info!(%size, "row segments are smaller than configured: the budget is small");
        }
        let budgets = Budgets::default();
        let (disk_use, seen) = watch::channel(Arc::default());
        let room = Self {
            ladder: Ladder::new(
                limits,
                options.budget.shed_payload.as_usize(),
                options.payload_cap.as_usize(),
            ),
            budgets: Arc::clone(&budgets),
            policies,
            disk_use,
            evicted: Evicted::default(),
            climbed: false,
        };
        (room, budgets, seen)
    }

    /// Where a segment of the log is sealed.
    pub(in super::super) fn seal_size(&self) -> u64 {
        self.ladder.limits().seal_size
    }

    /// Whether the disk is short: then nothing waits in the log, which takes more than Parquet.
    pub(super) fn is_short(&self) -> bool {
        self.ladder.is_short()
    }

    /// Makes room where there is too little. Answers how many files went: none before the budgets
    /// are known, since a table may ask that its rows stay.
    pub(super) fn keep(&mut self, ledger: &mut Ledger) -> usize {
        let before = self.evicted.files;
        if let Some(budgets) = self.budgets.load_full() {
            if let Err(error) = ledger.keep_tables(&budgets) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "it is not noted which rows stay");
            }
            self.climb(ledger, &budgets);
            self.climbed = true;
        }
        if let Err(error) = ledger.consolidate_gaps(MOST_FILES) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "files of gaps stay apart");
        }
        let usage = ledger.usage();
        ledger
            .ballast
            .restore(usage.space, self.ladder.limits().floor);
        self.publish(&usage);
        usize::try_from(self.evicted.files - before).unwrap_or(usize::MAX)
    }

    /// Lets the ladder decide, and does what it says, until it says nothing.
    fn climb(&mut self, ledger: &mut Ledger, budgets: &[TableBudget]) {
        for _ in 0..MOST_AT_ONCE {
            let usage = ledger.usage();
            let effect = self.ladder.step(budgets, &usage);
            let done = match &effect {
                None => break,
                Some(Effect::RemoveQuarantine) => ledger.remove_quarantined(),
                Some(Effect::Evict(table)) => self.evict(ledger, table.as_ref(), budgets),
            };
            if let Err(error) = done {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, ?effect, "no room could be made for rows");
                break;
            }
        }
    }

    fn evict(
        &mut self,
        ledger: &mut Ledger,
        table: Option<&TableName>,
        budgets: &[TableBudget],
    ) -> Result<(), KeepSegmentsError> {
        if let Some(name) = ledger.next_to_evict(table, budgets) {
            let evicted = ledger.evict(&name)?;
            self.evicted.rows += evicted.rows;
            self.evicted.files += evicted.files;
        }
        Ok(())
    }

    fn publish(&self, usage: &Usage) {
        let policy = self.ladder.policy();
        let limits = self.ladder.limits();
        let mut tables: Vec<_> = policy.tables.keys().chain(usage.sealed.keys()).collect();
        tables.sort_unstable();
        tables.dedup();
        let rung = |table: &TableName| (table.clone(), self.ladder.rung(table).as_str());
        let disk_use = DiskUse {
            bytes: ByteCount(usage.bytes()),
            budget: ByteCount(limits.total),
            free: usage.space.map(|space| space.free),
            free_floor: ByteCount(limits.floor),
            free_files: usage.space.and_then(Space::known_files),
            evicted_rows: self.evicted.rows,
            evicted_files: self.evicted.files,
            rung: self.climbed.then(|| self.ladder.general().as_str()),
            rungs: tables.into_iter().map(rung).collect(),
        };
        self.policies.publish(policy);
        self.disk_use.send_replace(Arc::new(disk_use));
    }
}

/// The disk that holds a folder, if it says; before the first row the folder may not be there.
pub(super) fn disk_of(fs: &dyn DurableFs, folder: &Path) -> Option<Space> {
    folder.ancestors().find_map(|folder| fs.space(folder).ok())
}
