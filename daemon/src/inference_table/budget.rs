//! The disk budget of rows: how full the disk is, and what follows from that.
//!
//! Owns the ladder, which is pure: [`Ladder::step`] looks at a [`Usage`] and answers what has to
//! go next, and [`Ladder::policy`] what of new rows is kept. Must never: take a gap away, or a row
//! of a table that asked to stop instead.
//!
//! ```text
//!            70 %             85, 90, 95 %                100 %                 nothing can go
//! normal ----------> shed ------------------> sample ---------------> full ----------------> stopped
//!                    large payloads           1 row in 2, 5, 10      the oldest file         no row
//!                    are null                 is kept                goes                    is taken
//! ```
//!
//! Each rung is left 5 % below where it was entered. Per cent are of the room: the total budget
//! less [`SPARE_SEGMENTS`] of the log, which are written before anything can go; or what rows take
//! plus what may still be written above the free-space floor, where that is less. A table with a
//! budget of its own climbs with whichever of the two is fuller.

use std::collections::{BTreeMap, HashMap};

use edgeward_base::durable::Space;
use edgeward_base::names::TableName;
use edgeward_base::units::ByteCount;

use super::policy::{Policy, TablePolicy};
use crate::config::Retain;

#[cfg(test)]
mod tests;

/// What one table may take of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableBudget {
    /// Which table.
    pub table: TableName,
    /// What its sealed rows may take; without it only the total counts.
    pub budget: Option<ByteCount>,
    /// Rows of a lower priority go first, 0 to 100.
    pub priority: u8,
    /// What happens when there is no room.
    pub retain: Retain,
}

/// What rows may take of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetOptions {
    /// All files of all tables; by default a tenth of the disk, or `most` where that is less.
    pub total: Option<ByteCount>,
    /// The most that the default may be. 2 GB by default.
    pub most: ByteCount,
    /// What rows leave free for others; by default a fiftieth of the disk, 32 MiB to 1 GiB.
    pub free_floor: Option<ByteCount>,
    /// What a payload may have while the disk is short; larger ones are null. 4 KiB by default.
    pub shed_payload: ByteCount,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self {
            total: None,
            most: ByteCount(2_000_000_000),
            free_floor: None,
            shed_payload: ByteCount::kib(4),
        }
    }
}

/// The budget on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) total: u64,
    pub(super) floor: u64,
    /// Where a segment of the log is sealed: smaller where the budget is.
    pub(super) seal_size: u64,
}

/// Rows go by the segment: with few of them, one would be several rungs.
const SEGMENTS_IN_BUDGET: u64 = 32;
/// Of the budget: one segment that is written, one that is compacted, and the Parquet file that
/// comes of it, which small rows make up to twice as large as their log.
const SPARE_SEGMENTS: u64 = 4;
/// A disk where fewer files than this can still be made is full: each file that goes may need two
/// new ones first, of gaps and of the account, and others want some as well.
const LEAST_FILES: u64 = 64;
/// No log is sealed at less, however small the disk.
const LEAST_SEAL_SIZE: u64 = 64 << 10;

impl Limits {
    /// The limits on a disk; `None` when it does not say how large it is.
    pub(super) fn of(options: &BudgetOptions, disk: Option<Space>, seal_size: u64) -> Self {
        let disk = disk.map_or(u64::MAX, |space| space.total.0);
        let total = options
            .total
            .unwrap_or_else(|| options.most.min(ByteCount(disk / 10)))
            .0;
        let floor = options.free_floor.map_or_else(
            || (disk / 50).clamp(32 << 20, 1 << 30).min(disk / 4),
            |floor| floor.0,
        );
        let seal_size = seal_size
            .min(total / SEGMENTS_IN_BUDGET)
            .max(LEAST_SEAL_SIZE.min(seal_size));
        Self {
            total,
            floor,
            seal_size,
        }
    }
}

/// What one table has sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableUsage {
    /// Bytes of its rows.
    pub(super) bytes: u64,
    /// Whether it has a file that could go.
    pub(super) evictable: bool,
}

/// What is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// The log, gaps and accounts, bytes.
    pub(super) kept: u64,
    /// Damaged bytes that were set aside.
    pub(super) quarantine: u64,
    /// Sealed rows.
    pub(super) sealed: BTreeMap<TableName, TableUsage>,
    /// The disk; `None` when it does not say.
    pub(super) space: Option<Space>,
}

impl Usage {
    /// All of it, bytes.
    pub(super) fn bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.values().map(|table| table.bytes).sum();
        self.kept + self.quarantine + sealed
    }
}

/// How short the disk is for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    Normal,
    Shed,
    Half,
    Fifth,
    Tenth,
    Full,
    Stopped,
}

/// A rung is left so many per cent below where it was entered.
const HYSTERESIS: u64 = 5;
const FULL: u64 = 100;

impl Rung {
    /// Those that follow from how full it is, in their order.
    const CLIMBED: [Self; 6] = [
        Self::Normal,
        Self::Shed,
        Self::Half,
        Self::Fifth,
        Self::Tenth,
        Self::Full,
    ];

    /// The per cent at which it is entered.
    fn entered_at(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Shed => 70,
            Self::Half => 85,
            Self::Fifth => 90,
            Self::Tenth => 95,
            Self::Full | Self::Stopped => FULL,
        }
    }

    /// The word in the status.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shed => "shed",
            Self::Half | Self::Fifth | Self::Tenth => "sample",
            Self::Full => "full",
            Self::Stopped => "stopped",
        }
    }

    fn one_in(self) -> u32 {
        match self {
            Self::Normal | Self::Shed | Self::Stopped => 1,
            Self::Half => 2,
            Self::Fifth => 5,
            Self::Tenth | Self::Full => 10,
        }
    }

    /// The rung at so many per cent, coming from this one.
    fn at(self, percent: u64) -> Self {
        let stays = |rung: &&Self| {
            let leeway = if **rung <= self { HYSTERESIS } else { 0 };
            percent + leeway >= rung.entered_at()
        };
        let reached = Self::CLIMBED.iter().rev().find(stays);
        reached.copied().unwrap_or(Self::Normal)
    }
}

/// What has to go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The oldest file in quarantine.
    RemoveQuarantine,
    /// The oldest rows of the lowest priority; of this table, or of any that lets rows go.
    Evict(Option<TableName>),
}

/// Where each table stands.
#[derive(Debug)]
pub(super) struct Ladder {
    limits: Limits,
    shed_payload: usize,
    payload_cap: usize,
    /// Of a table without a budget of its own.
    general: Rung,
    tables: BTreeMap<TableName, Rung>,
}

impl Ladder {
    pub(super) fn new(limits: Limits, shed_payload: usize, payload_cap: usize) -> Self {
        Self {
            limits,
            shed_payload,
            payload_cap,
            general: Rung::Normal,
            tables: BTreeMap::new(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Looks at the disk, and answers what has to go next, if anything.
    pub(super) fn step(&mut self, budgets: &[TableBudget], usage: &Usage) -> Option<Effect> {
        let percent = percent(usage.bytes(), self.room(usage));
        let stays = |table: &TableName| {
            let retain =
                |budget: &TableBudget| budget.table == *table && budget.retain == Retain::Stop;
            budgets.iter().any(retain)
        };
        let any_can_go = usage
            .sealed
            .iter()
            .any(|(table, sealed)| sealed.evictable && !stays(table));
        let way_out = any_can_go || usage.quarantine > 0;
        self.general = climb(self.general, percent, way_out);
        let mut effect = None;
        if percent >= FULL && usage.quarantine > 0 {
            effect = Some(Effect::RemoveQuarantine);
        } else if percent >= FULL && any_can_go {
            effect = Some(Effect::Evict(None));
        }
        let before = std::mem::take(&mut self.tables);
        for budget in budgets {
            let table = &budget.table;
            let sealed = usage.sealed.get(table).copied().unwrap_or_default();
            let own = budget
                .budget
                .map_or(0, |budget| self::percent(sealed.bytes, budget.0));
            let rung = before.get(table).copied().unwrap_or(Rung::Normal);
            let rung = match budget.retain {
                Retain::Stop if self.general == Rung::Stopped => Rung::Stopped,
                Retain::Stop if climb(rung, own, false) == Rung::Stopped => Rung::Stopped,
                Retain::Stop => Rung::Normal,
                Retain::DropOldest => {
                    let can_go = sealed.evictable;
                    if own >= FULL && can_go {
                        effect.get_or_insert_with(|| Effect::Evict(Some(table.clone())));
                    }
                    climb(rung, own, can_go).max(self.general)
                }
            };
            self.tables.insert(table.clone(), rung);
        }
        effect
    }

    /// What rows may take.
    fn room(&self, usage: &Usage) -> u64 {
        let Limits {
            total,
            floor,
            seal_size,
        } = self.limits;
        let by_budget = total.saturating_sub(SPARE_SEGMENTS * seal_size);
        let by_disk = usage.space.map_or(u64::MAX, |space| {
            // Without a name for it no byte can be written, whatever is free.
            let files = space.free_files >= LEAST_FILES;
            let free = if files { space.free.0 } else { 0 };
            usage.bytes().saturating_add(free).saturating_sub(floor)
        });
        by_budget.min(by_disk)
    }

    /// Where tables stand that have no budget of their own, and do not stop.
    pub(super) fn general(&self) -> Rung {
        self.general
    }

    /// Whether all tables together are beyond the first rung.
    pub(super) fn is_short(&self) -> bool {
        self.general > Rung::Normal
    }

    /// Where a table stands.
    pub(super) fn rung(&self, table: &TableName) -> Rung {
        self.tables.get(table).copied().unwrap_or(self.general)
    }

    /// What of new rows is kept.
    pub(super) fn policy(&self) -> Policy {
        let tables: HashMap<_, _> = self
            .tables
            .iter()
            .map(|(table, rung)| (table.clone(), self.policy_at(*rung)))
            .collect();
        Policy {
            default: self.policy_at(self.general),
            tables,
        }
    }

    fn policy_at(&self, rung: Rung) -> TablePolicy {
        TablePolicy {
            payload_cap: self.payload_cap,
            shed_cap: (rung >= Rung::Shed).then_some(self.shed_payload),
            one_in: rung.one_in(),
            stopped: rung == Rung::Stopped,
        }
    }
}

/// The rung at so many per cent. Full without a way out is stopped.
fn climb(now: Rung, percent: u64, way_out: bool) -> Rung {
    match now.at(percent) {
        // What was stopped takes rows again a while after room was made, not at once.
        Rung::Full if !way_out && (percent >= FULL || now == Rung::Stopped) => Rung::Stopped,
        rung => rung,
    }
}

fn percent(used: u64, room: u64) -> u64 {
    match (used, room) {
        (0, 1..) => 0,
        (_, 0) => FULL,
        _ => used.saturating_mul(100) / room,
    }
}
