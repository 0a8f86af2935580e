//! What must hold of what landed, whatever happened: each sequence has one fate, each row says what
//! it said when it was offered, and what is missing is counted, by its cause.

use std::collections::{BTreeMap, BTreeSet};

use edgeward_base::names::{BootId, TableName};

use super::super::gap::GapCause;
use super::landed::{Contents, Landed, LandedGap, LandedRow};

/// A row as it was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) request: String,
    pub(super) endpoint: Option<&'static str>,
}

/// What the world knows of a boot.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Ids of offered rows, by table, in their order; `None` for one that was left out.
    pub(super) offered: BTreeMap<TableName, Vec<Option<u64>>>,
    /// What the offered rows say, by id.
    pub(super) said: BTreeMap<u64, Said>,
    /// Rows that were left out, by table and cause.
    pub(super) left_out: BTreeMap<(TableName, GapCause), u64>,
    /// Rows that were committed, with their ids: acknowledged.
    pub(super) acknowledged: BTreeMap<TableName, BTreeSet<u64>>,
    /// Whether it was closed in order.
    pub(super) closed: bool,
    /// Whether written bytes of its log were damaged.
    pub(super) damaged: bool,
}

/// What landed of one table in one boot.
#[derive(Debug, Default)]
struct Fates<'a> {
    /// The row of each sequence; `None` for one in a gap.
    by_sequence: BTreeMap<u64, Option<&'a LandedRow>>,
    /// Sequences in gaps, by cause.
    causes: BTreeMap<&'a str, u64>,
    /// Where gaps of unknown length start.
    open: Vec<u64>,
}

impl<'a> Fates<'a> {
    fn of(boot: BootId, table: &TableName, landed: &'a Landed) -> Self {
        let mut fates = Self::default();
        let mine = landed
            .iter()
            .filter(|(name, _)| name.boot == boot && name.table == *table);
        for (name, contents) in mine {
            match contents {
                Contents::Rows(rows) => {
                    for row in rows {
                        let before = fates.by_sequence.insert(row.sequence, Some(row));
                        assert_eq!(before, None, "{name}: {row:?} is there twice");
                    }
                }
                Contents::Gaps(gaps) => gaps.iter().for_each(|gap| fates.add_gap(gap)),
            }
        }
        fates
    }

    fn add_gap(&mut self, gap: &'a LandedGap) {
        let Some(last) = gap.last else {
            assert_eq!((gap.cause.as_str(), gap.rows), ("power_loss", None));
            return self.open.push(gap.first);
        };
        let rows = last - gap.first + 1;
        assert_eq!(gap.rows, Some(rows), "{gap:?}");
        *self.causes.entry(&gap.cause).or_default() += rows;
        for sequence in gap.first..=last {
            let before = self.by_sequence.insert(sequence, None);
            assert_eq!(
                before, None,
                "sequence {sequence} of {gap:?} is there twice"
            );
        }
    }

    fn last(&self) -> u64 {
        self.by_sequence.keys().next_back().copied().unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = &'a LandedRow> {
        self.by_sequence.values().copied().flatten()
    }
}

/// Checks one boot. Rows of `evicted` were to make room, whether or not that worked.
pub(super) fn check_boot(boot: BootId, told: &Told, landed: &Landed, evicted: &BTreeSet<u64>) {
    let of_boot = landed.iter().filter(|(name, _)| name.boot == boot);
    let gaps = of_boot.filter_map(|(_, contents)| match contents {
        Contents::Gaps(gaps) => Some(gaps),
        Contents::Rows(_) => None,
    });
    let has_open_gap = gaps.flatten().any(|gap| gap.last.is_none());
    for (table, offered) in &told.offered {
        let fates = Fates::of(boot, table, landed);
        let at = format!("boot {boot}, {table}");
        assert_eq!(
            fates.by_sequence.len() as u64,
            fates.last(),
            "{at}: a sequence has no fate"
        );
        check_rows(&at, told, offered, &fates);
        check_end(&at, told, offered, &fates);
        check_causes(&at, told, table, &fates);
        let excused = match fates.causes.get("corrupt_tail") {
            _ if told.damaged && has_open_gap => u64::MAX,
            Some(rows) if told.damaged => *rows,
            _ => 0,
        };
        let present: BTreeSet<u64> = fates.rows().map(|row| row.id).collect();
        let acknowledged = told.acknowledged.get(table).into_iter().flatten();
        let lost = acknowledged.filter(|id| !present.contains(id) && !evicted.contains(id));
        let lost: Vec<_> = lost.collect();
        assert!(
            lost.len() as u64 <= excused,
            "{at}: acknowledged rows are lost: {lost:?}; {excused} are in gaps for damage"
        );
    }
}

/// Each row was offered, in this order, and says what it said.
fn check_rows(at: &str, told: &Told, offered: &[Option<u64>], fates: &Fates<'_>) {
    let given: BTreeSet<u64> = offered.iter().copied().flatten().collect();
    let mut before = 0;
    for row in fates.rows() {
        let id = row.id;
        assert!(given.contains(&id), "{at}: an invented row: {row:?}");
        assert!(before < id, "{at}: rows {before} and {id} are out of order");
        before = id;
        let said = &told.said[&id];
        assert_eq!(
            (row.request.as_deref(), row.endpoint.as_deref()),
            (Some(said.request.as_str()), said.endpoint),
            "{at}: what row {id} says"
        );
    }
}

/// The end of a boot is known when it was closed in order, and said to be unknown otherwise.
fn check_end(at: &str, told: &Told, offered: &[Option<u64>], fates: &Fates<'_>) {
    let last = fates.last();
    if told.closed {
        assert_eq!(fates.open, [0; 0], "{at} ended cleanly");
        assert_eq!(last, offered.len() as u64, "{at}: rows + gaps = offered");
    } else if last > 0 {
        // A close that could not be completed may still have left its mark in the log.
        let open = &fates.open;
        assert!(
            open.is_empty() || *open == [last + 1],
            "{at}: {open:?} {last}"
        );
    }
}

/// Rows that were left out stand in gaps of their cause: all of them in a boot that was closed in
/// order and kept its log, and no others in any.
fn check_causes(at: &str, told: &Told, table: &TableName, fates: &Fates<'_>) {
    for cause in [GapCause::ChannelFull, GapCause::Sampled, GapCause::Oversize] {
        let key = (table.clone(), cause);
        let left_out = told.left_out.get(&key).copied().unwrap_or(0);
        let cause = cause.as_str();
        let counted = fates.causes.get(cause).copied().unwrap_or(0);
        assert!(counted <= left_out, "{at}: {counted} of {left_out} {cause}");
        if told.closed && !told.damaged {
            assert_eq!(counted, left_out, "{at}: {cause}");
        }
    }
}
