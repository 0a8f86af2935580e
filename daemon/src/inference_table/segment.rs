//! What a sealed segment is called, and where it lies on this box.
//!
//! Owns the layout below `{rows}/parquet`, which is the layout of the landing folder without its
//! `device=` level, so that the same queries read both:
//!
//! ```text
//! {catalog}/{schema}/{prefix}_payload/date=YYYY-MM-DD/part-{boot}-{first}-{last}.parquet
//! {catalog}/{schema}/{prefix}_gaps/date=YYYY-MM-DD/part-{boot}-{first}-{last}.parquet
//! ```
//!
//! A segment holds rows with sequences from `first` to `last`, both of which it holds. It need not
//! hold every one between: around midnight, sequences of two days interleave. Its account keeps the
//! runs that it does hold. Each sequence is in exactly one segment, so no two segments of one table, kind and boot have the same `first`.
//! A gap of unknown length is called by the sequence that it starts with, twice.

use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_base::names::TableName;
use edgeward_wire::segment::{SegmentDate, SegmentKind, SegmentManifest, SegmentName};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A segment that is complete, durable, and ready to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSegment {
    /// Its name.
    pub name: SegmentName,
    /// The UTC day under which it lands.
    pub date: SegmentDate,
    /// Rows of the Parquet file.
    pub rows: u64,
    /// Sequences for which the segment accounts: its rows, or the rows that its gaps count.
    pub sequences: u64,
    /// Bytes of the Parquet file.
    pub size: u64,
    /// BLAKE3 of the Parquet file.
    pub digest: Digest,
    /// The sequences that it holds or counts, first and last of each run, in order; empty when it
    /// is all of them from the first to the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u64, u64)>,
    /// Whether it was sent in full, or is about to be: it may have landed, and only a receipt or
    /// its absence at the registry can tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offered: bool,
    /// Whether its rows stay until they have landed: their table would rather take no new ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Where the Parquet file lies on this box.
    #[serde(skip)]
    pub path: PathBuf,
}

impl SealedSegment {
    /// First and last sequence of each run that the segment holds or counts, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let whole = self
            .runs
            .is_empty()
            .then_some((self.name.first, self.name.last));
        whole.into_iter().chain(self.runs.iter().copied())
    }

    /// The offer with which its upload starts.
    #[must_use]
    pub fn manifest(&self) -> SegmentManifest {
        SegmentManifest {
            name: self.name.clone(),
            rows: self.rows,
            date: self.date.clone(),
            size: self.size,
            digest: self.digest,
        }
    }
}

/// Sequences as they come, put together into runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds the sequences from `first` to `last`, which lie above all before them.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    /// How many there would be with one that starts at `first`.
    pub(super) fn count_with(&self, first: u64) -> usize {
        let joins = self.0.last().is_some_and(|(_, end)| *end + 1 == first);
        self.0.len() + usize::from(!joins)
    }

    /// How many sequences they are.
    pub(super) fn sequences(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The runs as a segment keeps them: none when there is a single one, which its name says.
    pub(super) fn kept(self) -> Vec<(u64, u64)> {
        if self.0.len() > 1 { self.0 } else { Vec::new() }
    }
}

/// The UTC day of a time, in days since 1970-01-01; both since the Unix epoch.
pub(super) fn day_of(micros: i64) -> i32 {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    // Microseconds that fit 64 bits are at most 107 million days.
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or_default()
}

/// The folder of a table's segments of one day, relative to a folder of tables.
pub(super) fn folder(table: &TableName, kind: SegmentKind, date: &SegmentDate) -> PathBuf {
    let (catalog, schema, prefix) = table.parts();
    let table = format!("{prefix}_{}", kind.suffix());
    [catalog, schema, &table, &format!("date={date}")]
        .iter()
        .collect()
}

/// The name of a segment's file.
pub(super) fn file_name(name: &SegmentName) -> String {
    format!("part-{}-{}-{}.parquet", name.boot, name.first, name.last)
}

/// A segment's file, relative to a folder of tables.
pub(super) fn path_of(name: &SegmentName, date: &SegmentDate) -> PathBuf {
    folder(&name.table, name.kind, date).join(file_name(name))
}

/// Reads name and day from the path of a segment's file, relative to a folder of tables.
pub(super) fn parse_path(path: &Path) -> Option<(SegmentName, SegmentDate)> {
    let mut parts = path.iter().map(|part| part.to_str());
    let mut next = || parts.next().flatten();
    let (catalog, schema, table) = (next()?, next()?, next()?);
    let (date, file) = (next()?, next()?);
    let (kind, prefix) = [SegmentKind::Rows, SegmentKind::Gaps]
        .into_iter()
        .find_map(|kind| Some((kind, table.strip_suffix(kind.suffix())?.strip_suffix('_')?)))?;
    let mut range = file
        .strip_prefix("part-")?
        .strip_suffix(".parquet")?
        .split('-');
    let name = SegmentName {
        table: TableName::new(catalog, schema, prefix).ok()?,
        kind,
        boot: range.next()?.parse().ok()?,
        first: range.next()?.parse().ok()?,
        last: range.next()?.parse().ok()?,
    };
    let date = date.strip_prefix("date=")?.parse().ok()?;
    let in_order = 1 <= name.first && name.first <= name.last && i64::try_from(name.last).is_ok();
    (range.next().is_none() && in_order && path_of(&name, &date) == path).then_some((name, date))
}
