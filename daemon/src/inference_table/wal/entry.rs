//! What a batch holds, and how it is built up between two commits.

use std::collections::BTreeMap;

use edgeward_base::names::{EndpointName, TableName};
use serde::{Deserialize, Serialize};

use super::super::gap::{GapCause, LossKey, Losses, Lost, StoredGap};
use super::super::record::{OfferedRow, StoredRow};

/// One entry of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "read one at a time, never kept; almost all are rows"
)]
pub(in super::super) enum Entry<'a> {
    /// The entries that follow are of this table, from this sequence on.
    Table {
        /// `catalog.schema.prefix`.
        name: &'a str,
        /// Sequence of the next row.
        next: u64,
    },
    /// One row.
    #[serde(borrow)]
    Row(StoredRow<'a>),
    /// Rows that were lost.
    Gap(StoredGap<'a>),
    /// The boot ended cleanly.
    Close,
}

/// The postcard discriminant of [`Entry::Row`]: a row is encoded where it was offered, and only
/// this is put before it.
const ROW: u8 = 1;

/// The entries of a batch, until one cannot be read.
pub(in super::super) fn entries(
    mut batch: &[u8],
) -> impl Iterator<Item = Result<Entry<'_>, postcard::Error>> {
    std::iter::from_fn(move || {
        if batch.is_empty() {
            return None;
        }
        let entry = postcard::take_from_bytes(batch).map(|(entry, rest)| {
            batch = rest;
            entry
        });
        if entry.is_err() {
            batch = &[];
        }
        Some(entry)
    })
}

/// The rows of one table that wait for a commit.
#[derive(Debug)]
struct Group {
    /// [`Entry::Row`]s.
    rows: Vec<u8>,
    /// Whose they are; `None` when there are several.
    endpoint: Option<EndpointName>,
    lost: Lost,
}

/// The rows that wait for a commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    groups: BTreeMap<TableName, Group>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, row: OfferedRow) {
        let OfferedRow {
            table,
            endpoint,
            time_us,
            bytes,
        } = row;
        self.bytes += bytes.len() + 1;
        let group = self.groups.entry(table).or_insert_with(|| Group {
            rows: Vec::new(),
            endpoint: endpoint.clone(),
            lost: Lost {
                rows: 0,
                bytes: 0,
                first_us: time_us,
                last_us: time_us,
            },
        });
        group.rows.push(ROW);
        group.rows.extend_from_slice(&bytes);
        group.lost.rows += 1;
        group.lost.bytes += bytes.len() as u64;
        group.lost.first_us = group.lost.first_us.min(time_us);
        group.lost.last_us = group.lost.last_us.max(time_us);
        if group.endpoint != endpoint {
            group.endpoint = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Bytes of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives every row up: they are lost for `cause`.
    pub(super) fn lose(&mut self, cause: GapCause, losses: &mut Losses) {
        for (table, group) in std::mem::take(&mut self.groups) {
            losses.add(
                LossKey {
                    table,
                    endpoint: group.endpoint,
                    cause,
                },
                group.lost,
            );
        }
        self.bytes = 0;
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.bytes = 0;
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> u64 {
        self.groups.values().map(|group| group.lost.rows).sum()
    }

    /// The batch as it goes into a frame: rows and losses, with their sequences from `next` on.
    ///
    /// `next` moves to what the next batch starts from.
    pub(super) fn encode(
        &self,
        losses: &Losses,
        next: &mut BTreeMap<TableName, u64>,
    ) -> Result<Vec<u8>, postcard::Error> {
        let mut out = Vec::with_capacity(self.bytes + 128);
        // Losses come first: they are of rows that were to be written before these. Should a
        // failed write have reached the disk after all, the same sequences stand there.
        for (
            LossKey {
                table,
                endpoint,
                cause,
            },
            lost,
        ) in losses.iter()
        {
            let next = next.entry(table.clone()).or_insert(1);
            out = postcard::to_extend(
                &Entry::Table {
                    name: table.as_str(),
                    next: *next,
                },
                out,
            )?;
            let endpoint = endpoint.as_ref().map(EndpointName::as_str);
            let gap = StoredGap {
                endpoint,
                cause: *cause,
                lost: *lost,
            };
            out = postcard::to_extend(&Entry::Gap(gap), out)?;
            *next += lost.rows;
        }
        for (table, group) in &self.groups {
            let next = next.entry(table.clone()).or_insert(1);
            out = postcard::to_extend(
                &Entry::Table {
                    name: table.as_str(),
                    next: *next,
                },
                out,
            )?;
            out.extend_from_slice(&group.rows);
            *next += group.lost.rows;
        }
        Ok(out)
    }
}
