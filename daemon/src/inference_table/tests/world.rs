//! A small world for the row log: one folder, boots that follow each other, a landing folder, and
//! what must hold whatever happened.
//!
//! The log and the ledger run here without their threads, so that every step is where the test
//! puts it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgeward_base::clock::{Clock as _, TestClock};
use edgeward_base::durable::SharedFs;
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::SegmentName;
use uuid::Uuid;

use super::super::gap::{GapCause, LossKey, Lost};
use super::super::keeper::ledger::{Folders, Ledger};
use super::super::policy::TablePolicy;
use super::super::record::{OfferedRow, Row};
use super::super::segment::SealedSegment;
use super::super::wal::{LogCounters, LogOptions, RowLog, WalName, WalSegment, end_of_frames};
use super::super::{BootEnd, RecoveryReport};
use super::fates::{Said, Told, check_boot};
use super::landed::{Contents, Landed, contents, land};

/// Just before a midnight, so that rows of two days meet.
pub(in super::super) const NOON: i64 = 1_780_012_800_000_000;
const DAY: i64 = 86_400_000_000;
/// The endpoint of the rows that have one.
const ENDPOINT: &str = "a";

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

/// The boot that runs, with what it was given.
struct Boot {
    log: RowLog,
    ledger: Ledger,
    counters: Arc<LogCounters>,
    id: BootId,
    backlog: Vec<WalSegment>,
    pending: Vec<(TableName, u64)>,
}

/// See the module.
pub(in super::super) struct World {
    folder: tempfile::TempDir,
    fs: SharedFs,
    pub(in super::super) clock: Arc<TestClock>,
    boot: Option<Boot>,
    pub(super) told: BTreeMap<BootId, Told>,
    landed: Landed,
    /// Ids of rows that were to make room, whether or not that worked.
    evicted: BTreeSet<u64>,
    next_boot: u64,
    next_id: u64,
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
        self.start_with(Ledger::recover)
    }

    /// Starts a boot that will not live long enough to recover any other.
    pub(in super::super) fn start_without_recovery(&mut self) {
        self.start_with(|ledger| drop(ledger.start_recovery()));
    }

    fn start_with<T>(&mut self, recover: impl FnOnce(&mut Ledger) -> T) -> T {
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
        let report = recover(&mut ledger);
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
        for number in 0..rows {
            let time_us = if number % 5 == 4 { NOON + DAY } else { NOON };
            let mut row = Row::new(Uuid::from_u64_pair(0, self.next_id), time_us);
            row.endpoint_name = Some(ENDPOINT.parse().unwrap());
            self.offer_row(table_number, row);
        }
    }

    /// Offers rows that arrive now, by whatever the clock says.
    pub(in super::super) fn offer_now(&mut self, table_number: u8, rows: u8) {
        for _ in 0..rows {
            let now_us = self.clock.wall_micros();
            let mut row = Row::new(Uuid::from_u64_pair(0, self.next_id), now_us);
            row.monotonic_us = self.clock.monotonic_micros();
            row.clock_quality = self.clock.quality();
            self.offer_row(table_number, row);
        }
    }

    fn offer_row(&mut self, table_number: u8, mut row: Row) {
        let Some(boot) = &mut self.boot else { return };
        let id = self.next_id;
        self.next_id += 1;
        let said = Said {
            request: format!("{{\"inputs\":[{id}]}}"),
            endpoint: row.endpoint_name.is_some().then_some(ENDPOINT),
        };
        row.request = Some(said.request.clone().into());
        let table = table(table_number);
        boot.log.push(OfferedRow {
            table: table.clone(),
            endpoint: None,
            time_us: row.request_time_us,
            bytes: row.encode(&TablePolicy::keep_all(1 << 20)).unwrap().0,
        });
        let told = self.told.entry(boot.id).or_default();
        told.said.insert(id, said);
        let offered = told.offered.entry(table.clone()).or_default();
        offered.push(Some(id));
        boot.pending.push((table, id));
    }

    /// Whether compaction waits for the clock.
    pub(in super::super) fn awaits_clock(&self, waiting: usize) -> bool {
        self.boot.as_ref().unwrap().ledger.awaits_clock(waiting)
    }

    /// The channel dropped rows.
    pub(in super::super) fn drop_rows(&mut self, table_number: u8, rows: u8) {
        self.leave_out(table_number, rows, GapCause::ChannelFull);
    }

    /// Rows are left out, for this cause.
    pub(super) fn leave_out(&mut self, table_number: u8, rows: u8, cause: GapCause) {
        let Some(boot) = &mut self.boot else { return };
        let table = table(table_number);
        let lost = Lost {
            rows: rows.into(),
            bytes: 9,
            first_us: NOON,
            last_us: NOON,
        };
        let key = LossKey {
            table: table.clone(),
            endpoint: None,
            cause,
        };
        boot.log.losses().add(key, lost);
        let told = self.told.entry(boot.id).or_default();
        *told.left_out.entry((table.clone(), cause)).or_default() += u64::from(rows);
        let offered = told.offered.entry(table).or_default();
        offered.extend((0..rows).map(|_| None));
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
            for (table, id) in pending {
                told.acknowledged.entry(table).or_default().insert(id);
            }
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
        land(&mut self.landed, segment);
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
            self.evicted.extend(rows.iter().map(|row| row.id));
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

    /// The segments of the log that lie on the disk.
    pub(super) fn logs(&self) -> Vec<(WalName, PathBuf)> {
        let wal = Folders::of(self.folder.path()).wal;
        let entries = std::fs::read_dir(wal).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = paths
            .map(|path| (WalName::of_path(&path).unwrap(), path))
            .collect();
        logs.sort_unstable();
        logs
    }

    /// Written bytes of a boot's log are not what they were: what it acknowledged may be lost, and
    /// has to be in a gap then.
    pub(super) fn damaged(&mut self, boot: BootId) {
        self.told.entry(boot).or_default().damaged = true;
    }

    /// A boot that is over at once leaves nothing behind the logs of earlier ones that was never
    /// written, and nothing of its own.
    fn check_trimmed(&mut self) {
        self.start_without_recovery();
        self.crash();
        for (name, path) in self.logs() {
            let bytes = std::fs::read(&path).unwrap();
            let end = end_of_frames(name, &bytes).unwrap_or(bytes.len());
            assert_eq!(end, bytes.len(), "{name} is longer than what it holds");
        }
    }

    /// Starts a last boot on a sound disk, lands everything, and checks what must hold.
    pub(in super::super) fn check(&mut self) {
        self.crash();
        self.check_trimmed();
        let report = self.start();
        assert_eq!(report.errors, Vec::<String>::new());
        // Nobody waits for the clock any longer.
        let boot = self.boot.as_mut().unwrap();
        boot.ledger.recover_undated();
        assert!(!boot.ledger.is_recovering());
        for segment in boot.ledger.sealed() {
            land(&mut self.landed, &segment);
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

/// How a boot ended, by its account.
pub(super) fn end_of(report: &super::super::VerifyReport, boot: u64) -> Option<BootEnd> {
    report
        .boots
        .iter()
        .find(|verified| verified.boot == BootId(boot))
        .map(|boot| boot.end)
}
