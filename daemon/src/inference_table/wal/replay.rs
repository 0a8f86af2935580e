//! Reading the log back: every sequence once, and every jump a gap.
//!
//! Sequences below the expected one stand in an earlier segment already (a failed write that
//! reached the disk after all) and are passed over. A jump forward leaves out what was committed
//! and then damaged.

use std::collections::BTreeMap;

use edgeward_base::names::TableName;

use super::super::gap::{Gap, GapCause, StoredGap};
use super::super::record::StoredRow;
use super::entry::{Entry, entries};
use super::segment::{Start, Step, WalName, read_frames, read_start, tables_of};

/// Who takes what is read.
pub(in super::super) trait Replay {
    /// Why it could not be taken.
    type Error;

    /// Takes one row.
    fn row(
        &mut self,
        table: &TableName,
        sequence: u64,
        row: &StoredRow<'_>,
    ) -> Result<(), Self::Error>;

    /// Takes one gap.
    fn gap(&mut self, table: &TableName, gap: &Gap<'_>) -> Result<(), Self::Error>;
}

/// The first sequence of each table that was not read yet; 1 for those that are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Position(BTreeMap<TableName, u64>);

impl Position {
    /// The next sequence of `table`.
    pub(in super::super) fn next(&self, table: &TableName) -> u64 {
        self.0.get(table).copied().unwrap_or(1)
    }

    fn move_to(&mut self, table: &TableName, next: u64) {
        match self.0.get_mut(table) {
            Some(place) => *place = next,
            None => drop(self.0.insert(table.clone(), next)),
        }
    }

    /// The tables that have sequences, with the next one.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = (&TableName, u64)> {
        self.0.iter().map(|(table, next)| (table, *next))
    }

    /// Gives `replay` the gap of damaged rows that a jump to `next` leaves, if it is one.
    pub(in super::super) fn jump<R: Replay>(
        &mut self,
        table: &TableName,
        next: u64,
        replay: &mut R,
    ) -> Result<(), R::Error> {
        let first = self.next(table);
        if next <= first {
            return Ok(());
        }
        replay.gap(
            table,
            &Gap {
                endpoint: None,
                cause: GapCause::CorruptTail,
                first,
                last: Some(next - 1),
                rows: Some(next - first),
                bytes: None,
                times_us: None,
            },
        )?;
        self.move_to(table, next);
        Ok(())
    }
}

impl FromIterator<(TableName, u64)> for Position {
    fn from_iter<I: IntoIterator<Item = (TableName, u64)>>(places: I) -> Self {
        Self(places.into_iter().collect())
    }
}

/// What a segment held beside rows and gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Passed {
    /// Where its bad tail starts, if it has one.
    pub(in super::super) bad_tail: Option<usize>,
    /// Whether it ends with the mark of a clean end.
    pub(in super::super) closed: bool,
}

/// Reads the segment `bytes` up to its end or its first damage.
pub(in super::super) fn replay<R: Replay>(
    name: WalName,
    bytes: &[u8],
    position: &mut Position,
    to: &mut R,
) -> Result<Passed, R::Error> {
    let mut passed = Passed::default();
    if let Start::Good { opening, .. } = read_start(name, bytes) {
        for (table, next) in tables_of(&opening) {
            position.jump(&table, next, to)?;
        }
    }
    for step in read_frames(name, bytes) {
        let (offset, read) = match step {
            Step::Batch { offset, batch } => (offset, replay_batch(&batch, position, to)?),
            Step::BadTail(offset) => (offset, None),
        };
        let Some(closed) = read else {
            return Ok(Passed {
                bad_tail: Some(offset),
                closed: false,
            });
        };
        passed.closed = closed;
    }
    Ok(passed)
}

/// Answers whether the batch ends the boot; `None` when it cannot be read to its end.
fn replay_batch<R: Replay>(
    batch: &[u8],
    position: &mut Position,
    to: &mut R,
) -> Result<Option<bool>, R::Error> {
    let mut place: Option<(TableName, u64)> = None;
    let mut closed = false;
    for entry in entries(batch) {
        match (entry, &mut place) {
            (Ok(Entry::Table { name, next }), place) => {
                let Ok(table) = name.parse::<TableName>() else {
                    return Ok(None);
                };
                position.jump(&table, next, to)?;
                *place = Some((table, next));
            }
            (Ok(Entry::Row(row)), Some((table, next))) => {
                if *next == position.next(table) {
                    to.row(table, *next, &row)?;
                    position.move_to(table, *next + 1);
                }
                *next = next.saturating_add(1);
            }
            (Ok(Entry::Gap(gap)), Some((table, next))) => {
                let end = next.saturating_add(gap.lost.rows);
                replay_gap(table, end, &gap, position, to)?;
                *next = end;
            }
            (Ok(Entry::Close), _) => closed = true,
            (Ok(Entry::Row(_) | Entry::Gap(_)), None) | (Err(_), _) => return Ok(None),
        }
    }
    Ok(Some(closed))
}

/// Gives on what lies of a gap before `end` and was not read yet.
fn replay_gap<R: Replay>(
    table: &TableName,
    end: u64,
    gap: &StoredGap<'_>,
    position: &mut Position,
    to: &mut R,
) -> Result<(), R::Error> {
    let first = position.next(table);
    if first >= end {
        return Ok(());
    }
    to.gap(
        table,
        &Gap {
            endpoint: gap.endpoint,
            cause: gap.cause,
            first,
            last: Some(end - 1),
            rows: Some(end - first),
            bytes: Some(gap.lost.bytes),
            times_us: Some((gap.lost.first_us, gap.lost.last_us)),
        },
    )?;
    position.move_to(table, end);
    Ok(())
}
