//! What lies in a landing folder, read as an analyst's tools read it: Parquet files by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One table in one start of one device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Boot {
    /// `catalog.schema.prefix`.
    pub(crate) table: String,
    pub(crate) device: String,
    pub(crate) boot: String,
}

/// The rows and gaps of one [`Boot`].
#[derive(Debug, Default)]
pub(crate) struct Landed {
    /// Request ids by sequence.
    pub(crate) rows: BTreeMap<i64, String>,
    /// Sequences that have no row, and are counted, with the cause.
    pub(crate) gaps: Vec<(RangeInclusive<i64>, String)>,
    /// The first sequence of which nobody knows whether it ever was: where a boot ended that was
    /// not closed.
    pub(crate) unknown_from: Option<i64>,
}

impl Landed {
    /// How many sequences are counted as gaps.
    pub(crate) fn gap_rows(&self) -> i64 {
        self.gaps
            .iter()
            .map(|(gap, _)| gap.end() - gap.start() + 1)
            .sum()
    }

    /// The last sequence of which anything is known.
    pub(crate) fn last(&self) -> i64 {
        let rows = self.rows.keys().next_back().copied().unwrap_or(0);
        self.gaps
            .iter()
            .map(|(gap, _)| *gap.end())
            .max()
            .unwrap_or(0)
            .max(rows)
    }
}

/// Every table of a landing folder.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    pub(crate) boots: BTreeMap<Boot, Landed>,
    /// Rows that are there more than once: device, boot, table and sequence are equal.
    pub(crate) doubled: Vec<(Boot, i64)>,
}

impl Landing {
    /// Reads every Parquet file below `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut landing = Self::default();
        for file in files(folder) {
            let relative = file.strip_prefix(folder).unwrap();
            let levels: Vec<_> = relative
                .iter()
                .map(|level| level.to_str().unwrap())
                .collect();
            let [catalog, schema, table, ..] = levels.as_slice() else {
                panic!("{} is not in a table", relative.display());
            };
            for batch in batches(&file) {
                if let Some(prefix) = table.strip_suffix("_payload") {
                    landing.add_rows(&format!("{catalog}.{schema}.{prefix}"), &batch);
                } else if let Some(prefix) = table.strip_suffix("_gaps") {
                    landing.add_gaps(&format!("{catalog}.{schema}.{prefix}"), &batch);
                } else {
                    panic!("{} is in no table", relative.display());
                }
            }
        }
        landing
    }

    /// The number of rows of all tables.
    pub(crate) fn rows(&self) -> usize {
        self.boots.values().map(|landed| landed.rows.len()).sum()
    }

    /// The request ids of all rows.
    pub(crate) fn request_ids(&self) -> BTreeSet<String> {
        let rows = self.boots.values().flat_map(|landed| landed.rows.values());
        rows.cloned().collect()
    }

    fn boot(&mut self, table: &str, batch: &RecordBatch, row: usize) -> (Boot, &mut Landed) {
        let boot = Boot {
            table: table.to_owned(),
            device: text(batch, "device_id", row),
            boot: text(batch, "boot_id", row),
        };
        let landed = self.boots.entry(boot.clone()).or_default();
        (boot, landed)
    }

    fn add_rows(&mut self, table: &str, batch: &RecordBatch) {
        for row in 0..batch.num_rows() {
            let sequence = number(batch, "sequence", row).unwrap();
            let id = text(batch, "databricks_request_id", row);
            let (boot, landed) = self.boot(table, batch, row);
            if landed.rows.insert(sequence, id).is_some() {
                self.doubled.push((boot, sequence));
            }
        }
    }

    fn add_gaps(&mut self, table: &str, batch: &RecordBatch) {
        for row in 0..batch.num_rows() {
            let first = number(batch, "first_sequence", row).unwrap();
            let last = number(batch, "last_sequence", row);
            let cause = text(batch, "cause", row);
            let (boot, landed) = self.boot(table, batch, row);
            match last {
                Some(last) => landed.gaps.push((first..=last, cause)),
                None => {
                    let before = landed.unknown_from.replace(first);
                    assert_eq!(before, None, "{boot:?} ends twice");
                }
            }
        }
    }
}

/// Every Parquet file below a folder, which has no other file that an analyst's tools would read.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            // Not read by pandas: a file gets its name when it is whole.
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                assert!(
                    name.ends_with(".parquet"),
                    "{} would be read",
                    path.display()
                );
                found.push(path);
            }
        }
    }
    found
}

/// What a Parquet file holds.
pub(crate) fn batches(file: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap());
    let reader = reader.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    reader.build().unwrap().map(Result::unwrap).collect()
}

pub(crate) fn text(batch: &RecordBatch, column: &str, row: usize) -> String {
    batch[column].as_string::<i32>().value(row).to_owned()
}

pub(crate) fn number(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let values = batch[column].as_primitive::<Int64Type>();
    values.is_valid(row).then(|| values.value(row))
}
