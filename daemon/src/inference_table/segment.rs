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
//! hold every one between: around midnight, sequences of two days interleave. Each sequence is in
//! exactly one segment, so no two segments of one table, kind and boot have the same `first`.
//! A gap of unknown length is called by the sequence that it starts with, twice.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use edgeward_base::digest::Digest;
use edgeward_base::names::{BootId, TableName};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// Rows of the inference table.
    Rows,
    /// Gaps: ranges of sequences that have no row, and why.
    Gaps,
}

impl SegmentKind {
    /// What follows the table's prefix in the name of its folder.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Rows => "payload",
            Self::Gaps => "gaps",
        }
    }
}

/// What a segment of this box is called. Two segments of one name are the same segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentName {
    /// Inference table.
    pub table: TableName,
    /// Rows or gaps.
    pub kind: SegmentKind,
    /// The boot in which the rows were logged.
    pub boot: BootId,
    /// Lowest sequence.
    pub first: u64,
    /// Highest sequence.
    pub last: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            kind,
            boot,
            first,
            last,
        } = self;
        write!(formatter, "{table}_{} {boot} {first}-{last}", kind.suffix())
    }
}

impl SegmentName {
    /// The segment's folder, relative to a folder of tables.
    #[must_use]
    pub fn folder(&self, date: SegmentDate) -> PathBuf {
        let (catalog, schema, prefix) = self.table.parts();
        let table = format!("{prefix}_{}", self.kind.suffix());
        [catalog, schema, &table, &format!("date={date}")]
            .iter()
            .collect()
    }

    /// The name of the segment's file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("part-{}-{}-{}.parquet", self.boot, self.first, self.last)
    }

    /// Reads the name and the day from a path relative to a folder of tables.
    #[must_use]
    pub fn parse(path: &Path) -> Option<(Self, SegmentDate)> {
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
        let name = Self {
            table: TableName::new(catalog, schema, prefix).ok()?,
            kind,
            boot: range.next()?.parse().ok()?,
            first: range.next()?.parse().ok()?,
            last: range.next()?.parse().ok()?,
        };
        let whole = range.next().is_none() && parts.next().is_none();
        whole.then_some((name, date.strip_prefix("date=")?.parse().ok()?))
    }
}

/// A UTC day, written `YYYY-MM-DD`: the partition in which a segment lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentDate {
    days: i32,
}

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days that have four-digit years: 0000-01-01 to 9999-12-31.
const WRITABLE_DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

impl SegmentDate {
    /// The day of a time in microseconds since the Unix epoch; the first or last day that can be
    /// written where a wild clock goes beyond it.
    #[must_use]
    pub fn of_micros(micros: i64) -> Self {
        let days = micros.div_euclid(MICROS_PER_DAY);
        let days = days.clamp(*WRITABLE_DAYS.start(), *WRITABLE_DAYS.end());
        Self {
            days: i32::try_from(days).unwrap_or_default(),
        }
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn days(self) -> i32 {
        self.days
    }

    /// Year, month and day, counted in eras of 400 years that start on 1 March.
    const fn civil(self) -> (i32, i32, i32) {
        let since_era_zero = self.days + 719_468;
        let era = since_era_zero.div_euclid(146_097);
        let day_of_era = since_era_zero.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        (year_of_era + era * 400 + (month <= 2) as i32, month, day)
    }
}

impl fmt::Display for SegmentDate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// A text that is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a segment's date is a day of the calendar, YYYY-MM-DD")]
pub struct ParseSegmentDateError;

impl FromStr for SegmentDate {
    type Err = ParseSegmentDateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '-').map(str::parse::<i32>);
        let mut next = || {
            parts
                .next()
                .and_then(Result::ok)
                .ok_or(ParseSegmentDateError)
        };
        let (year, month, day) = (next()?, next()?, next()?);
        if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(ParseSegmentDateError);
        }
        let from_march = (month + 9) % 12;
        let year = year - i32::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let date = Self {
            days: era * 146_097 + day_of_era - 719_468,
        };
        // The way back tells 31 February from a day.
        if date.to_string() == text {
            Ok(date)
        } else {
            Err(ParseSegmentDateError)
        }
    }
}

impl TryFrom<String> for SegmentDate {
    type Error = ParseSegmentDateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for SegmentDate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentDate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A segment that is complete, durable, and ready to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSegment {
    /// Its name.
    #[serde(flatten)]
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
    /// Where the Parquet file lies on this box.
    #[serde(skip)]
    pub path: PathBuf,
}
