//! A small world for the row log: one folder, boots that follow each other, a landing folder, and
//! what must hold whatever happened.
//!
//! The log and the ledger run here without their threads, so that every step is where the test
//! puts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use edgeward_base::clock::{Clock as _, TestClock};
use edgeward_base::durable::SharedFs;
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentKind, SegmentName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::super::gap::{GapCause, LossKey, Lost};
use super::super::keeper::ledger::{Folders, Ledger};
use super::super::policy::TablePolicy;
use super::super::record::{OfferedRow, Row};
use super::super::segment::SealedSegment;
use super::super::wal::{LogCounters, LogOptions, RowLog, WalSegment};
use super::super::{BootEnd, RecoveryReport};

/// Just before a midnight, so that rows of two days meet.
pub(in super::super) const NOON: i64 = 1_780_012_800_000_000;
const DAY: i64 = 86_400_000_000;

/// A folder on a file system that syncs for free, where there is one.
pub(super) fn quick_folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

pub(in super::super) fn table(number: u8) -> TableName {
    TableName::new("main", "default", &format!("t{number}")).unwrap()
}

/// All rows of a Parquet file.
pub(in super::super) fn read_parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// The boot that runs, with what it was given.
struct Boot {
    log: RowLog,
    ledger: Ledger,
    counters: Arc<LogCounters>,
    id: BootId,
    backlog: Vec<WalSegment>,
    pending: Vec<(TableName, u64)>,
}

/// What the world knows of a boot.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Ids of offered rows, by table, in their order; `None` for one that the channel dropped.
    offered: BTreeMap<TableName, Vec<Option<u64>>>,
    /// Ids that were committed: acknowledged.
    acknowledged: BTreeSet<u64>,
    closed: bool,
}

/// See the module.
pub(in super::super) struct World {
    folder: tempfile::TempDir,
    fs: SharedFs,
    pub(in super::super) clock: Arc<TestClock>,
    boot: Option<Boot>,
    pub(super) told: BTreeMap<BootId, Told>,
    /// Landed segments, with what they hold.
    landed: BTreeMap<SegmentName, Contents>,
    /// Ids of rows that were to make room, whether or not that worked.
    evicted: BTreeSet<u64>,
    next_boot: u64,
    next_id: u64,
}

/// What a segment holds: sequence and row id, or a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Contents {
    Rows(Vec<(u64, u64)>),
    Gaps(Vec<(u64, Option<u64>, Option<u64>, String)>),
}

impl World {
    pub(in super::super) fn new(fs: SharedFs) -> Self {
        Self {
            folder: quick_folder(),
            fs,
            clock: TestClock::at(NOON),
            boot: None,
            told: BTreeMap::new(),
            landed: BTreeMap::new(),
            evicted: BTreeSet::new(),
            next_boot: 1,
            next_id: 1,
        }
    }

    /// `{rows}`.
    pub(in super::super) fn rows_folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Goes on with another file system, as after a repair.
    pub(in super::super) fn set_fs(&mut self, fs: SharedFs) {
        self.fs = fs;
    }

    /// Starts the next boot.
    pub(in super::super) fn start(&mut self) -> RecoveryReport {
        let id = BootId(self.next_boot);
        self.next_boot += 1;
        let folders = Folders::of(self.folder.path());
        let counters = Arc::<LogCounters>::default();
        let mut ledger = Ledger::new(
            Arc::clone(&self.fs),
            self.clock.clone(),
            folders.clone(),
            "box-1".parse().unwrap(),
            id,
        );
        let options = LogOptions {
            directory: folders.wal,
            device: "box-1".parse().unwrap(),
            boot: id,
            ordinal: ledger.ordinal(),
            seal_after: Duration::from_secs(600),
            seal_size: 16 << 10,
            clock: self.clock.clone(),
            fs: Arc::clone(&self.fs),
        };
        let report = ledger.recover();
        let log = RowLog::new(options, Arc::clone(&counters));
        let (backlog, pending) = (Vec::new(), Vec::new());
        self.boot = Some(Boot {
            log,
            ledger,
            counters,
            id,
            backlog,
            pending,
        });
        report
    }

    /// The process is gone; the disk stays.
    pub(in super::super) fn crash(&mut self) {
        self.boot = None;
    }

    /// Offers rows; some of the next day.
    pub(in super::super) fn offer(&mut self, table_number: u8, rows: u8) {
        let Some(boot) = &mut self.boot else { return };
        let told = self.told.entry(boot.id).or_default();
        for number in 0..rows {
            let id = self.next_id;
            self.next_id += 1;
            let time_us = if number % 5 == 4 { NOON + DAY } else { NOON };
            let mut row = Row::new(Uuid::from_u64_pair(0, id), time_us);
            row.endpoint_name = Some("a".parse().unwrap());
            row.request = Some(format!("{{\"inputs\":[{id}]}}").into());
            let table = table(table_number);
            let bytes = row.encode(&TablePolicy::keep_all(1 << 20)).unwrap().0;
            boot.log.push(OfferedRow {
                table: table.clone(),
                endpoint: None,
                time_us,
                bytes,
            });
            told.offered
                .entry(table.clone())
                .or_default()
                .push(Some(id));
            boot.pending.push((table, id));
        }
    }

    /// Offers rows that arrive now, by whatever the clock says.
    pub(in super::super) fn offer_now(&mut self, table_number: u8, rows: u8) {
        let Some(boot) = &mut self.boot else { return };
        let told = self.told.entry(boot.id).or_default();
        for _ in 0..rows {
            let id = self.next_id;
            self.next_id += 1;
            let mut row = Row::new(Uuid::from_u64_pair(0, id), self.clock.wall_micros());
            row.monotonic_us = self.clock.monotonic_micros();
            row.clock_quality = self.clock.quality();
            let table = table(table_number);
            boot.log.push(OfferedRow {
                table: table.clone(),
                endpoint: None,
                time_us: row.request_time_us,
                bytes: row.encode(&TablePolicy::keep_all(1 << 20)).unwrap().0,
            });
            let offered = told.offered.entry(table.clone()).or_default();
            offered.push(Some(id));
            boot.pending.push((table, id));
        }
    }

    /// Whether compaction waits for the clock.
    pub(in super::super) fn awaits_clock(&self, waiting: usize) -> bool {
        self.boot.as_ref().unwrap().ledger.awaits_clock(waiting)
    }

    /// The channel dropped rows.
    pub(in super::super) fn drop_rows(&mut self, table_number: u8, rows: u8) {
        let Some(boot) = &mut self.boot else { return };
        let table = table(table_number);
        let lost = Lost {
            rows: rows.into(),
            bytes: 9,
            first_us: NOON,
            last_us: NOON,
        };
        let cause = GapCause::ChannelFull;
        boot.log.losses().add(
            LossKey {
                table: table.clone(),
                endpoint: None,
                cause,
            },
            lost,
        );
        let offered = &mut self.told.entry(boot.id).or_default().offered;
        offered
            .entry(table)
            .or_default()
            .extend((0..rows).map(|_| None));
    }

    /// A group commit.
    pub(in super::super) fn commit(&mut self) {
        let Some(boot) = &mut self.boot else { return };
        let before = boot.counters.lost.load(Ordering::Relaxed);
        boot.log.commit();
        boot.backlog.extend(boot.log.take_sealed());
        let pending = std::mem::take(&mut boot.pending);
        if boot.counters.lost.load(Ordering::Relaxed) == before {
            let told = self.told.entry(boot.id).or_default();
            told.acknowledged
                .extend(pending.into_iter().map(|(_, id)| id));
        }
    }

    /// Seals, and leaves compaction for later.
    pub(in super::super) fn seal(&mut self) {
        let boot = self.boot.as_mut().unwrap();
        boot.log.seal();
        boot.backlog.extend(boot.log.take_sealed());
    }

    /// Seals and compacts; answers whether that worked.
    pub(in super::super) fn compact(&mut self) -> bool {
        let Some(boot) = &mut self.boot else {
            return false;
        };
        boot.log.seal();
        boot.backlog.extend(boot.log.take_sealed());
        boot.ledger.recover_undated();
        while let Some(segment) = boot.backlog.first().copied() {
            if boot.ledger.compact(segment).is_err() {
                return false;
            }
            boot.backlog.remove(0);
        }
        true
    }

    /// Uploads the segment at `place` of the list, and deletes it after the receipt.
    pub(in super::super) fn land(&mut self, place: usize) {
        let Some(boot) = &mut self.boot else { return };
        let sealed = boot.ledger.sealed();
        let Some(segment) = sealed.get(place.checked_rem(sealed.len()).unwrap_or(0)) else {
            return;
        };
        if boot.ledger.mark_offered(&segment.name).is_err() {
            return;
        }
        land_segment(&mut self.landed, segment);
        // A failure leaves it to be landed again.
        drop(boot.ledger.land(&segment.name));
    }

    /// Makes room: the oldest rows that may go, go.
    pub(in super::super) fn evict(&mut self) {
        let Some(boot) = &mut self.boot else { return };
        let Some(name) = boot.ledger.next_to_evict(None, &[]) else {
            return;
        };
        let sealed = boot.ledger.sealed();
        let segment = sealed.iter().find(|segment| segment.name == name).unwrap();
        if let Contents::Rows(rows) = contents(segment) {
            self.evicted.extend(rows.iter().map(|(_, id)| id));
        }
        // A failure leaves them to go later.
        drop(boot.ledger.evict(&name));
    }

    /// The ledger of the boot that runs.
    pub(in super::super) fn ledger(&mut self) -> &mut Ledger {
        &mut self.boot.as_mut().unwrap().ledger
    }

    /// Puts files of gaps together.
    pub(in super::super) fn consolidate(&mut self) {
        if let Some(boot) = &mut self.boot {
            drop(boot.ledger.consolidate_gaps(1));
        }
    }

    /// The sealed segments of the boot that runs and those before it, oldest first.
    pub(in super::super) fn sealed(&self) -> Vec<SealedSegment> {
        self.boot.as_ref().unwrap().ledger.sealed()
    }

    /// Notes that a segment may have landed.
    pub(in super::super) fn mark_offered(&mut self, name: &SegmentName) {
        let boot = self.boot.as_mut().unwrap();
        boot.ledger.mark_offered(name).unwrap();
    }

    /// The registry says that a segment has landed.
    pub(in super::super) fn receipt(&mut self, name: &SegmentName) {
        self.boot.as_mut().unwrap().ledger.land(name).unwrap();
    }

    /// What was acknowledged so far need not be there any more: a test has destroyed some of it.
    pub(in super::super) fn forget_acknowledged(&mut self) {
        for told in self.told.values_mut() {
            told.acknowledged.clear();
        }
    }

    /// Closes the boot in order; answers whether it ended cleanly.
    pub(in super::super) fn close(&mut self) -> bool {
        self.commit();
        let Some(mut boot) = self.boot.take() else {
            return false;
        };
        drop(boot.log.close(true));
        let last = boot.log.position();
        boot.backlog.extend(boot.log.take_sealed());
        let told = self.told.entry(boot.id).or_default();
        for segment in boot.backlog {
            if boot.ledger.compact(segment).is_err() {
                return false;
            }
        }
        told.closed = boot.ledger.close(&last, boot.log.losses(), true).is_ok();
        told.closed
    }

    /// Starts a last boot on a sound disk, lands everything, and checks what must hold.
    pub(in super::super) fn check(&mut self) {
        self.crash();
        let report = self.start();
        assert_eq!(report.errors, Vec::<String>::new());
        // Nobody waits for the clock any longer.
        let boot = self.boot.as_mut().unwrap();
        boot.ledger.recover_undated();
        assert!(!boot.ledger.is_recovering());
        for segment in boot.ledger.sealed() {
            land_segment(&mut self.landed, &segment);
        }
        for (id, told) in &self.told {
            check_boot(*id, told, &self.landed, &self.evicted);
        }
        let leftovers = leftovers(self.folder.path(), &boot.ledger.sealed());
        assert_eq!(leftovers, Vec::<PathBuf>::new());
    }

    /// What `logs verify` says.
    pub(in super::super) fn verify(&self) -> super::super::VerifyReport {
        super::super::verify(self.fs.as_ref(), self.folder.path()).unwrap()
    }
}

/// Files that nothing accounts for.
fn leftovers(rows: &Path, sealed: &[SealedSegment]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![rows.join("parquet"), rows.join("wal")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if sealed.iter().all(|segment| segment.path != path) {
                found.push(path);
            }
        }
    }
    found
}

fn land_segment(landed: &mut BTreeMap<SegmentName, Contents>, segment: &SealedSegment) {
    let contents = contents(segment);
    if let Some(before) = landed.get(&segment.name) {
        assert_eq!(
            *before, contents,
            "{} landed again with other contents",
            segment.name
        );
    }
    landed.insert(segment.name.clone(), contents);
}

fn longs(batch: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    let column = batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>();
    column
        .iter()
        .map(|value| value.map(|value| u64::try_from(value).unwrap()))
        .collect()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    (0..column.len())
        .map(|row| column.value(row).to_owned())
        .collect()
}

fn contents(segment: &SealedSegment) -> Contents {
    let batch = read_parquet(&segment.path);
    assert_eq!(
        segment.size,
        std::fs::metadata(&segment.path).unwrap().len()
    );
    assert_eq!(segment.rows, batch.num_rows() as u64);
    assert_eq!(segment.manifest().validate(), Ok(()));
    match segment.name.kind {
        SegmentKind::Rows => {
            let ids = texts(&batch, "databricks_request_id");
            let ids = ids
                .iter()
                .map(|id| id.parse::<Uuid>().unwrap().as_u64_pair().1);
            let sequences = longs(&batch, "sequence").into_iter().map(Option::unwrap);
            let rows: Vec<_> = sequences.zip(ids).collect();
            assert_eq!(rows.first().unwrap().0, segment.name.first);
            assert_eq!(rows.last().unwrap().0, segment.name.last);
            Contents::Rows(rows)
        }
        SegmentKind::Gaps => {
            let (first, last) = (
                longs(&batch, "first_sequence"),
                longs(&batch, "last_sequence"),
            );
            let (rows, causes) = (longs(&batch, "rows"), texts(&batch, "cause"));
            let gaps = (0..batch.num_rows())
                .map(|at| (first[at].unwrap(), last[at], rows[at], causes[at].clone()));
            Contents::Gaps(gaps.collect())
        }
    }
}

/// What became of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Row(u64),
    Gap,
}

/// What became of every sequence of a table in a boot, and where open gaps start.
fn fates(
    boot: BootId,
    table: &TableName,
    landed: &BTreeMap<SegmentName, Contents>,
) -> (BTreeMap<u64, Fate>, Vec<u64>) {
    let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
    let mut open_gaps = Vec::new();
    let mut add = |sequence, fate| {
        let before = fates.insert(sequence, fate);
        assert_eq!(
            before, None,
            "boot {boot}, {table}: sequence {sequence} twice"
        );
    };
    let mine = landed
        .iter()
        .filter(|(name, _)| name.boot == boot && name.table == *table);
    for (_, contents) in mine {
        let gaps = match contents {
            Contents::Rows(rows) => {
                rows.iter()
                    .for_each(|(sequence, id)| add(*sequence, Fate::Row(*id)));
                continue;
            }
            Contents::Gaps(gaps) => gaps,
        };
        for (first, last, rows, cause) in gaps {
            if let Some(last) = last {
                assert_eq!(*rows, Some(last - first + 1));
                (*first..=*last).for_each(|sequence| add(sequence, Fate::Gap));
            } else {
                assert_eq!((cause.as_str(), *rows), ("power_loss", None));
                open_gaps.push(*first);
            }
        }
    }
    (fates, open_gaps)
}

fn check_boot(
    boot: BootId,
    told: &Told,
    landed: &BTreeMap<SegmentName, Contents>,
    evicted: &BTreeSet<u64>,
) {
    let mut present = BTreeSet::new();
    for (table, offered) in &told.offered {
        let (fates, open_gaps) = fates(boot, table, landed);
        let last = fates.keys().next_back().copied().unwrap_or(0);
        assert_eq!(
            fates.len() as u64,
            last,
            "boot {boot}, {table}: a sequence has no fate"
        );
        let rows: Vec<u64> = fates
            .values()
            .filter_map(|fate| {
                if let Fate::Row(id) = fate {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect();
        assert!(
            rows.is_sorted(),
            "boot {boot}, {table}: rows are out of order"
        );
        let given: BTreeSet<u64> = offered.iter().copied().flatten().collect();
        assert!(
            rows.iter().all(|id| given.contains(id)),
            "boot {boot}, {table}: an invented row"
        );
        if told.closed {
            assert_eq!(
                open_gaps,
                [] as [u64; 0],
                "boot {boot}, {table} ended cleanly"
            );
            assert_eq!(
                last,
                offered.len() as u64,
                "boot {boot}, {table}: rows + gaps = offered"
            );
        } else if last > 0 {
            // A close that could not be completed may still have left its mark in the log.
            assert!(
                open_gaps.is_empty() || open_gaps == [last + 1],
                "{open_gaps:?} {last}"
            );
        }
        present.extend(rows);
    }
    let lost: Vec<_> = told
        .acknowledged
        .difference(&present)
        .filter(|id| !evicted.contains(id))
        .collect();
    assert!(
        lost.is_empty(),
        "boot {boot}: acknowledged rows are lost: {lost:?}"
    );
}

/// How a boot ended, by its account.
pub(super) fn end_of(report: &super::super::VerifyReport, boot: u64) -> Option<BootEnd> {
    report
        .boots
        .iter()
        .find(|verified| verified.boot == BootId(boot))
        .map(|boot| boot.end)
}
