//! What the box leaves, read without the code that wrote it: sequences of rows and of gaps, by table
//! and boot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What is left of one table in one boot.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// First and last sequence of each run of rows and of each gap.
    runs: Vec<(u64, u64)>,
    /// Sequences of rows and the fraction with which each was kept.
    fractions: BTreeMap<u64, f64>,
    /// Rows that gaps count, by cause.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// How many gaps there are.
    pub(crate) gap_rows: usize,
    /// Files of gaps.
    pub(crate) gap_files: usize,
    /// Rows that lack a payload because the disk was short.
    pub(crate) shed: u64,
    /// Highest sequence of a row that went.
    evicted_to: u64,
    /// First and last of each sampled gap.
    sampled: Vec<(u64, u64)>,
}

impl Left {
    /// Reads every Parquet file below `folder`.
    pub(crate) fn read(folder: &Path) -> BTreeMap<(String, String), Self> {
        let mut left = BTreeMap::new();
        read_below(folder, &mut |path| add_file(&mut left, folder, path));
        left
    }

    pub(crate) fn rows(&self) -> u64 {
        self.fractions.len() as u64
    }

    /// The last sequence.
    ///
    /// # Panics
    /// Where one is missing or there twice.
    pub(crate) fn assert_whole(&mut self) -> u64 {
        self.runs.sort_unstable();
        let mut next = 1;
        for (first, last) in &self.runs {
            assert_eq!(*first, next, "sequences are missing or there twice");
            next = last + 1;
        }
        next - 1
    }

    /// How many rows there were since the last one that went: as the fractions have it, and as the
    /// gaps have it.
    pub(crate) fn estimate(&self) -> (f64, f64) {
        let since = self.evicted_to;
        let kept = self.fractions.range(since + 1..);
        let estimated = kept.clone().map(|(_, fraction)| 1.0 / fraction).sum();
        let sampled = self.sampled.iter().filter(|(first, _)| *first > since);
        let left_out: u64 = sampled.map(|(first, last)| last - first + 1).sum();
        let left_out = u32::try_from(left_out).unwrap();
        let kept = u32::try_from(kept.count()).unwrap();
        (estimated, f64::from(kept) + f64::from(left_out))
    }

    fn add_rows(&mut self, batch: &RecordBatch) {
        let sequences = batch["sequence"].as_primitive::<Int64Type>();
        let fractions = batch["sampling_fraction"].as_primitive::<Float64Type>();
        let codes = batch["logging_error_codes"].as_list::<i32>();
        for row in 0..batch.num_rows() {
            let sequence = u64::try_from(sequences.value(row)).unwrap();
            match self.runs.last_mut() {
                Some((_, last)) if *last + 1 == sequence => *last = sequence,
                _ => self.runs.push((sequence, sequence)),
            }
            self.fractions.insert(sequence, fractions.value(row));
            let codes = codes.value(row);
            let codes = codes.as_string::<i32>();
            self.shed += u64::from(codes.iter().flatten().any(|code| code == "REQUEST_SHED"));
        }
    }

    fn add_gaps(&mut self, batch: &RecordBatch) {
        let number = |name: &str, row| {
            let number = batch[name].as_primitive::<Int64Type>().value(row);
            u64::try_from(number).unwrap()
        };
        for row in 0..batch.num_rows() {
            let (first, last) = (number("first_sequence", row), number("last_sequence", row));
            assert_eq!(
                number("rows", row),
                last - first + 1,
                "a gap counts its sequences"
            );
            self.runs.push((first, last));
            self.gap_rows += 1;
            let cause = batch["cause"].as_string::<i32>().value(row);
            *self.gaps.entry(cause.to_owned()).or_default() += last - first + 1;
            match cause {
                "sampled" => self.sampled.push((first, last)),
                _ => self.evicted_to = self.evicted_to.max(last),
            }
        }
    }
}

fn read_below(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, found);
        } else {
            found(&path);
        }
    }
}

fn add_file(left: &mut BTreeMap<(String, String), Left>, folder: &Path, path: &Path) {
    let levels: Vec<_> = path.strip_prefix(folder).unwrap().iter().collect();
    let table = levels[2].to_str().unwrap();
    let file = File::open(path).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    for batch in batches.build().unwrap() {
        let batch = batch.unwrap();
        let boot = batch["boot_id"].as_string::<i32>().value(0).to_owned();
        let (prefix, is_rows) = match table.strip_suffix("_payload") {
            Some(prefix) => (prefix, true),
            None => (table.strip_suffix("_gaps").unwrap(), false),
        };
        let left = left.entry((prefix.to_owned(), boot)).or_default();
        if is_rows {
            left.add_rows(&batch);
        } else {
            left.gap_files += 1;
            left.add_gaps(&batch);
        }
    }
}
