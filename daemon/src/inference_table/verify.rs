//! Checks the row log of this box: is every sequence accounted for, and is every file whole?
//!
//! Owns the report that `edgeward logs verify` prints. Reads accounts, the log and every sealed
//! file; changes nothing. For each boot and table, rows and counted gaps, landed or still here,
//! must add up to the last committed sequence. While the daemon runs, its log is read in motion:
//! what seems wrong is looked at twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use edgeward_base::digest::Digest;
use edgeward_base::durable::DurableFs;
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::SegmentKind;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::gap::Gap;
use super::keeper::BootEnd;
use super::keeper::account::{Account, ParseAccountError};
use super::keeper::ledger::Folders;
use super::keeper::recover::find;
use super::record::StoredRow;
use super::segment::{SealedSegment, path_of};
use super::wal::{Replay, Start, WalName, read_start, replay};

#[cfg(test)]
mod tests;

/// One table in one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedTable {
    /// Which.
    pub table: TableName,
    /// Rows that are here or have landed.
    pub rows: u64,
    /// Of those, rows that have landed and are not kept here.
    pub landed: u64,
    /// Sequences that gaps count.
    pub gaps: u64,
    /// Those, by cause; `landed` are those whose gap rows have landed and are not kept here.
    pub causes: BTreeMap<String, u64>,
    /// Whether a gap of unknown length is here.
    pub unknown: bool,
    /// Bytes of the sealed files that are here.
    pub bytes: u64,
    /// Last committed sequence.
    pub last: u64,
    /// Whether rows and gaps add up to it.
    pub complete: bool,
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedBoot {
    /// Which.
    pub boot: BootId,
    /// How it ended. What a boot lost after its last commit is known only of a clean one.
    pub end: BootEnd,
    /// Its tables.
    pub tables: Vec<VerifiedTable>,
}

/// How often a look begins before a file that keeps going away is an error.
const MOST_LOOKS: usize = 8;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The boots that are known, oldest first.
    pub boots: Vec<VerifiedBoot>,
    /// Files in quarantine.
    pub quarantine: Vec<PathBuf>,
    /// What they take on the disk.
    pub quarantine_bytes: u64,
    /// Files that a later version of this program wrote: left alone, and not counted here.
    pub foreign: Vec<PathBuf>,
    /// What is wrong: damaged files, sequences that are neither row nor gap.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for boot in &self.boots {
            let end = match boot.end {
                BootEnd::Running => "running, or not yet recovered",
                BootEnd::Clean => "ended cleanly",
                BootEnd::PowerLoss => "ended without a close: rows after the last are unknown",
            };
            writeln!(formatter, "boot {}: {end}", boot.boot)?;
            for VerifiedTable {
                table,
                rows,
                landed,
                gaps,
                causes,
                unknown,
                last,
                complete,
                ..
            } in &boot.tables
            {
                let sign = if *complete { "=" } else { "but" };
                let causes: Vec<_> = causes
                    .iter()
                    .map(|(cause, rows)| format!("{cause} {rows}"))
                    .collect();
                let causes = match causes.join(", ") {
                    none if none.is_empty() => none,
                    some => format!(" ({some})"),
                };
                let more = if *unknown {
                    ", and an unknown number after it"
                } else {
                    ""
                };
                writeln!(
                    formatter,
                    "  {table}: {rows} rows ({landed} landed) + {gaps} in gaps{causes} {sign} \
                     last {last}{more}"
                )?;
            }
        }
        for path in &self.quarantine {
            writeln!(formatter, "quarantine: {}", path.display())?;
        }
        for path in &self.foreign {
            writeln!(formatter, "of a later version: {}", path.display())?;
        }
        for problem in &self.problems {
            writeln!(formatter, "wrong: {problem}")?;
        }
        let verdict = if self.is_sound() {
            "sound"
        } else {
            "NOT SOUND"
        };
        write!(formatter, "the row log is {verdict}")
    }
}

/// What is here of one table.
#[derive(Debug, Default, Clone)]
struct Sums {
    rows: u64,
    gaps: u64,
    causes: BTreeMap<String, u64>,
    unknown: bool,
    bytes: u64,
}

impl Sums {
    /// Counts a gap; one of unknown length has no rows.
    fn gap(&mut self, cause: &str, rows: Option<u64>) {
        let Some(rows) = rows else {
            self.unknown = true;
            return;
        };
        self.gaps += rows;
        *self.causes.entry(cause.to_owned()).or_default() += rows;
    }
}

/// Counts what the log and the sealed files hold, by table.
#[derive(Debug, Default)]
struct Counter(BTreeMap<TableName, Sums>);

impl Counter {
    fn of(&mut self, table: &TableName) -> &mut Sums {
        self.0.entry(table.clone()).or_default()
    }

    /// Counts a sealed segment; the gaps in it by what its file says, if that can be read.
    fn segment(&mut self, segment: &SealedSegment, path: &Path) {
        let sums = self.of(&segment.name.table);
        sums.bytes += segment.size;
        match segment.name.kind {
            SegmentKind::Rows => sums.rows += segment.sequences,
            SegmentKind::Gaps => match gaps_in(path) {
                Ok(gaps) => gaps
                    .into_iter()
                    .for_each(|(cause, rows)| sums.gap(&cause, rows)),
                // That it is damaged stands among the problems already.
                Err(_) => sums.gaps += segment.sequences,
            },
        }
    }
}

impl Replay for Counter {
    type Error = Infallible;

    fn row(&mut self, table: &TableName, _: u64, _: &StoredRow<'_>) -> Result<(), Infallible> {
        self.of(table).rows += 1;
        Ok(())
    }

    fn gap(&mut self, table: &TableName, gap: &Gap<'_>) -> Result<(), Infallible> {
        self.of(table).gap(gap.cause.as_str(), gap.rows);
        Ok(())
    }
}

/// Cause and rows of each gap in a sealed file.
fn gaps_in(path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
    let file = File::open(path)?;
    let parquet = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
    let mut gaps = Vec::new();
    for batch in parquet.build().map_err(io::Error::other)? {
        let batch = batch.map_err(io::Error::other)?;
        let column = |name| {
            let missing = || io::Error::other(format!("no column {name}"));
            batch.column_by_name(name).ok_or_else(missing)
        };
        let (causes, rows) = (column("cause")?, column("rows")?);
        let wrong = || io::Error::other("a column is not what it is written as");
        let causes = causes.as_string_opt::<i32>().ok_or_else(wrong)?.iter();
        let rows = rows.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        for (cause, rows) in causes.zip(rows) {
            let rows = rows.map(u64::try_from).transpose();
            gaps.push((
                cause.unwrap_or_default().to_owned(),
                rows.map_err(io::Error::other)?,
            ));
        }
    }
    Ok(gaps)
}

/// Checks the row log in `rows`, which is `{state}/rows`.
///
/// # Errors
/// When a folder or a segment of the log cannot be read. What can be read and is wrong stands in
/// the report.
pub fn verify(fs: &dyn DurableFs, rows: &Path) -> io::Result<VerifyReport> {
    let first = steady_look(fs, rows);
    if first.as_ref().is_ok_and(VerifyReport::is_sound) {
        return first;
    }
    // A daemon that runs deletes what has landed while we read, and its account says so before the
    // file is gone: what is really wrong is wrong at the second look too.
    let mut second = steady_look(fs, rows)?;
    if let Ok(first) = first {
        let again = |problem: &String| first.problems.contains(problem);
        second.problems.retain(again);
    }
    Ok(second)
}

/// Looks again when a file that was listed is gone when it is read: recovery compacts one log after
/// the other, and each time only what is left is looked at.
fn steady_look(fs: &dyn DurableFs, rows: &Path) -> io::Result<VerifyReport> {
    for _ in 1..MOST_LOOKS {
        match look(fs, rows) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            looked => return looked,
        }
    }
    look(fs, rows)
}

fn look(fs: &dyn DurableFs, rows: &Path) -> io::Result<VerifyReport> {
    let folders = Folders::of(rows);
    let found = find(fs, &folders)?;
    let mut report = VerifyReport {
        quarantine: fs.list(&folders.quarantine)?,
        ..VerifyReport::default()
    };
    let mut boots = Vec::new();
    for boot in found.boots() {
        let account = match found.accounts.get(&boot) {
            None => Account::open(boot, 0, 0),
            Some(path) => match Account::parse(boot, &fs.read(path)?) {
                Ok(account) => account,
                Err(ParseAccountError::Newer) => {
                    report.foreign.push(path.clone());
                    continue;
                }
                Err(ParseAccountError::Damaged) => {
                    let damaged = format!("{} is damaged", path.display());
                    report.problems.push(damaged);
                    Account::open(boot, 0, 0)
                }
            },
        };
        check_files(&account, &folders, &mut report.problems);
        let wal = found.wal.get(&boot).map_or(&[][..], Vec::as_slice);
        let verified = verify_boot(fs, &folders, &account, wal, &mut report)?;
        boots.push((account.age(), verified));
    }
    boots.sort_by_key(|(age, _)| *age);
    report.boots = boots.into_iter().map(|(_, boot)| boot).collect();
    report.quarantine_bytes = report
        .quarantine
        .iter()
        .filter_map(|path| fs.size(path).ok())
        .map(|size| size.0)
        .sum();
    let unexplained = unexplained(&report);
    report.problems.extend(unexplained);
    Ok(report)
}

/// Damaged parts of the log in quarantine for which no gap can stand: their boot has ended, and no
/// table of it is known.
fn unexplained(report: &VerifyReport) -> Vec<String> {
    let ended_without_tables = |boot: BootId| {
        let known = report.boots.iter().find(|known| known.boot == boot);
        known.is_some_and(|boot| boot.end != BootEnd::Running && boot.tables.is_empty())
    };
    let of_the_log = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let (segment, _) = name.split_once(".from-").unwrap_or((name, ""));
        segment.parse::<WalName>().ok()
    };
    let without_gap = report
        .quarantine
        .iter()
        .filter(|path| of_the_log(path).is_some_and(|segment| ended_without_tables(segment.boot)));
    without_gap
        .map(|path| format!("{}: no gap stands for it", path.display()))
        .collect()
}

/// Compares every sealed file with what its account says of it.
fn check_files(account: &Account, folders: &Folders, problems: &mut Vec<String>) {
    for segment in &account.segments {
        let path = folders.parquet.join(path_of(&segment.name, &segment.date));
        match Digest::of_file(&path) {
            Ok(digest) if digest == segment.digest => {}
            Ok(_) => problems.push(format!("{} is damaged", path.display())),
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
}

fn verify_boot(
    fs: &dyn DurableFs,
    folders: &Folders,
    account: &Account,
    wal: &[WalName],
    report: &mut VerifyReport,
) -> io::Result<VerifiedBoot> {
    let VerifyReport {
        foreign, problems, ..
    } = report;
    let mut position = account.position();
    let mut counter = Counter::default();
    let mut end = account.end;
    for name in wal.iter().filter(|name| name.number > account.compacted) {
        let path = name.path(&folders.wal);
        let bytes = fs.read(&path)?;
        if read_start(*name, &bytes) == Start::Newer {
            foreign.push(path);
            break;
        }
        let Ok(passed) = replay(*name, &bytes, &mut position, &mut counter);
        if let Some(offset) = passed.bad_tail {
            problems.push(format!("{name} is damaged from byte {offset} on"));
        }
        if passed.closed {
            end = BootEnd::Clean;
        }
    }
    for segment in &account.segments {
        let path = folders.parquet.join(path_of(&segment.name, &segment.date));
        counter.segment(segment, &path);
    }
    let mut tables = Vec::new();
    for (table, next) in position.iter() {
        let known = account.tables.get(table).copied().unwrap_or_default();
        let mut sums = counter.0.remove(table).unwrap_or_default();
        if known.landed_gaps > 0 {
            sums.gap("landed", Some(known.landed_gaps));
        }
        let (rows, landed, last) = (sums.rows + known.landed_rows, known.landed_rows, next - 1);
        let complete = rows + sums.gaps == last;
        if !complete {
            problems.push(format!(
                "boot {}, {table}: {rows} rows and {} in gaps, last sequence {last}",
                account.boot, sums.gaps
            ));
        }
        tables.push(VerifiedTable {
            table: table.clone(),
            rows,
            landed,
            gaps: sums.gaps,
            causes: sums.causes,
            unknown: sums.unknown,
            bytes: sums.bytes,
            last,
            complete,
        });
    }
    Ok(VerifiedBoot {
        boot: account.boot,
        end,
        tables,
    })
}
