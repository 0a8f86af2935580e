//! Boots in their order, whatever their clocks said, and what other versions left.

use std::path::Path;

use arrow::array::{Array as _, AsArray as _};
use edgeward_base::clock::TestClock;
use edgeward_base::durable::{DurableFile, FaultFs, RealFs, Space};
use edgeward_base::units::ByteCount;

use super::super::super::tests::landed::read_parquet;
use super::super::super::tests::world::World;
use super::*;

/// A disk that does not read one file in one go.
#[derive(Debug)]
struct BadSector {
    file: PathBuf,
    answer: fn() -> io::Error,
}

/// What the disk says of a sector that it cannot read.
fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl DurableFs for BadSector {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.file {
            return Err((self.answer)());
        }
        RealFs.read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        RealFs.list(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        RealFs.space(directory)
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        RealFs.size(path)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        RealFs.create_dir_all(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        RealFs.create_new(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        RealFs.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealFs.sync_dir(directory)
    }
}

/// Rows that version 0 left: 20 sealed and 12 in the log of one table, one and one of another,
/// and no close.
const VERSION_0: &str = "../tests/fixtures/rows-v0";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn ledger(rows: &Path, boot: u64) -> Ledger {
    Ledger::new(
        RealFs::shared(),
        TestClock::at(0),
        Folders::of(rows),
        "box-1".parse().unwrap(),
        BootId(boot),
    )
}

#[test]
fn rows_of_version_0_are_all_there_with_the_log_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(VERSION_0);
    copy(&from, folder.path());
    let mut ledger = ledger(folder.path(), 1);
    let report = ledger.recover();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.quarantined, Vec::<PathBuf>::new());
    let mut rows = BTreeMap::<String, u64>::new();
    for segment in ledger.sealed() {
        if segment.name.kind == edgeward_wire::segment::SegmentKind::Rows {
            *rows.entry(segment.name.table.to_string()).or_default() += segment.rows;
        }
    }
    let expected = [
        ("edgeward.system._unmatched", 2),
        ("main.default.fraud", 32),
    ];
    assert_eq!(
        rows,
        expected
            .map(|(table, rows)| (table.to_owned(), rows))
            .into()
    );
    let verified = super::super::super::verify(&RealFs, folder.path()).unwrap();
    assert!(verified.is_sound(), "{verified}");
    assert_eq!(
        ledger.account(BootId(1)).ordinal,
        1,
        "after boots that nobody counted"
    );
}

#[test]
fn boots_are_in_their_order_though_the_clock_went_back_to_1970() {
    let mut world = World::new(RealFs::shared());
    for boot in 1..=4_u64 {
        if boot == 3 {
            world.clock.set_wall_micros(0);
        }
        world.start();
        world.offer(0, 2);
        world.commit();
        // Of the odd ones only the log is left.
        if boot % 2 == 0 {
            world.compact();
        }
        world.crash();
    }
    world.start();
    let boots: Vec<u64> = world
        .sealed()
        .iter()
        .map(|segment| segment.name.boot.0)
        .collect();
    assert!(boots.is_sorted(), "{boots:?}");
    let verified: Vec<u64> = world
        .verify()
        .boots
        .iter()
        .map(|boot| boot.boot.0)
        .collect();
    assert_eq!(verified, [1, 2, 3, 4]);
    world.check();
}

/// What the files below a folder take of the disk.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    let sizes = entries.map(|entry| match entry.unwrap().path() {
        folder if folder.is_dir() => bytes_below(&folder),
        file => RealFs.size(&file).unwrap().0,
    });
    sizes.sum()
}

#[test]
fn an_account_of_a_later_version_is_left_alone_with_its_boot() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 3);
    world.commit();
    world.compact();
    world.crash();
    let account = Account::path(&Folders::of(&world.rows_folder()).account, BootId(1));
    let text = later_version();
    std::fs::write(&account, &text).unwrap();
    let report = world.start();
    assert_eq!(report.foreign, std::slice::from_ref(&account));
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(world.sealed(), []);
    assert_eq!(std::fs::read_to_string(&account).unwrap(), text);
    // Nobody here deletes its files, so they take of the room of all others.
    let rows = world.rows_folder();
    let taken = ["account", "parquet"].map(|folder| bytes_below(&rows.join(folder)));
    assert_eq!(world.ledger().usage().bytes(), taken.iter().sum::<u64>());
    assert!(taken.iter().all(|bytes| *bytes > 0), "{taken:?}");
    let verified = world.verify();
    assert!(
        verified.is_sound() && verified.foreign == [account],
        "{verified}"
    );
}

#[test]
fn a_log_of_a_later_version_is_left_alone_and_taken_up_again() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 3);
    world.commit();
    world.crash();
    let log = WalName {
        boot: BootId(1),
        number: 1,
    }
    .path(&Folders::of(&world.rows_folder()).wal);
    let ours = std::fs::read(&log).unwrap();
    let mut later = ours.clone();
    later[14] = b'2';
    later[16..].fill(9);
    std::fs::write(&log, &later).unwrap();
    let report = world.start();
    assert_eq!(report.foreign, std::slice::from_ref(&log));
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.quarantined, Vec::<PathBuf>::new());
    let verified = world.verify();
    assert!(
        verified.is_sound() && verified.foreign == std::slice::from_ref(&log),
        "{verified}"
    );
    assert_eq!(std::fs::read(&log).unwrap(), later);
    // The later version is back.
    world.crash();
    std::fs::write(&log, ours).unwrap();
    world.check();
}

#[test]
fn damage_that_leaves_no_table_to_name_is_a_gap_all_the_same() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 3);
    world.commit();
    world.crash();
    let wal = Folders::of(&world.rows_folder()).wal;
    let name = WalName {
        boot: BootId(1),
        number: 1,
    };
    std::fs::write(name.path(&wal), [7; 4096]).unwrap();
    let report = world.start();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.quarantined.len(), 1);
    let sealed = world.sealed();
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0].name.table, TableName::unmatched());
    let gap = read_parquet(&sealed[0].path);
    let cause = gap.column_by_name("cause").unwrap().as_string::<i32>();
    assert_eq!((cause.len(), cause.value(0)), (1, "corrupt_tail"));
    assert_eq!(gap.column_by_name("rows").unwrap().null_count(), 1);
    assert!(world.verify().is_sound());
}

#[test]
fn a_bad_sector_takes_only_what_lies_behind_it() {
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    for bad in [0, 4_096, 8_192, 20_000] {
        let read = super::super::ledger::readable_start(|buffer, at| {
            let at = usize::try_from(at).unwrap();
            let end = (at + buffer.len()).min(bytes.len());
            if bad < end && bad >= at {
                return Err(unreadable());
            }
            buffer[..end - at].copy_from_slice(&bytes[at..end]);
            Ok(end - at)
        });
        assert_eq!(read, bytes[..bad]);
    }
}

#[test]
fn a_segment_that_the_disk_cannot_read_does_not_hold_up_the_others() {
    let answers: [fn() -> io::Error; 4] = [
        unreadable,
        // EBADMSG, EUCLEAN, ENODATA: the file system's own data is damaged.
        || io::Error::from_raw_os_error(74),
        || io::Error::from_raw_os_error(117),
        || io::Error::from_raw_os_error(61),
    ];
    for answer in answers {
        unreadable_log(answer);
    }
}

fn unreadable_log(answer: fn() -> io::Error) {
    let mut world = World::new(RealFs::shared());
    world.start();
    for _ in 0..2 {
        world.offer(0, 3);
        world.commit();
        world.seal();
    }
    world.crash();
    let wal = Folders::of(&world.rows_folder()).wal;
    let bad = WalName {
        boot: BootId(1),
        number: 1,
    }
    .path(&wal);
    world.set_fs(Arc::new(BadSector {
        file: bad.clone(),
        answer,
    }));
    let report = world.start();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.quarantined.len(), 1, "the file is kept for people");
    assert!(!bad.try_exists().unwrap());
    world.set_fs(RealFs::shared());
    // A real bad sector takes rows; here every one could be read in steps.
    world.check();
    assert!(world.verify().is_sound());
}

/// An account that a later version wrote, with a CRC that is right.
fn later_version() -> String {
    let rest = "EDGEWARD ACCOUNT 2{}";
    format!(
        "EDGEWARD ACCOUNT 2 {:08x}\n{{}}",
        crc32fast::hash(rest.as_bytes())
    )
}

/// The file of the log of the first boot that has this number.
fn log_of(world: &World, number: u32) -> PathBuf {
    let boot = BootId(1);
    WalName { boot, number }.path(&Folders::of(&world.rows_folder()).wal)
}

fn account_of(world: &World) -> PathBuf {
    Account::path(&Folders::of(&world.rows_folder()).account, BootId(1))
}

/// A boot that has sealed rows of two days, and has as many in its log, and has crashed.
fn sealed_and_logged() -> World {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 12);
    world.commit();
    world.compact();
    world.offer(0, 12);
    world.commit();
    world
}

#[test]
fn a_boot_that_found_no_room_is_recovered_once_there_is_some() {
    for operation in 1..40 {
        let mut world = sealed_and_logged();
        world.crash();
        let fs = FaultFs::failing_once(RealFs::shared(), operation, io::ErrorKind::StorageFull);
        world.set_fs(Arc::new(fs));
        let failed = world.start().errors;
        let ledger = world.ledger();
        assert_eq!(ledger.is_recovering(), !failed.is_empty(), "{failed:?}");
        // No start in between.
        assert_eq!(ledger.recover().errors, Vec::<String>::new(), "{failed:?}");
        assert!(!ledger.is_recovering());
        let rows: u64 = world.sealed().iter().map(|sealed| sealed.sequences).sum();
        assert_eq!(rows, 24, "{failed:?}");
        world.check();
        assert!(world.verify().is_sound());
    }
}

#[test]
fn a_compaction_that_fails_leaves_no_half_made_file() {
    let mut failed = 0;
    for operation in 1..40 {
        let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::StorageFull);
        let mut world = World::new(Arc::new(fs.clone()));
        world.start();
        world.offer(0, 12);
        world.commit();
        fs.fail_in(operation);
        if !world.compact() {
            failed += 1;
            let found = find(&RealFs, &Folders::of(&world.rows_folder())).unwrap();
            let parquet = Folders::of(&world.rows_folder()).parquet;
            let half_made = found.temporary.iter();
            let half_made: Vec<_> = half_made
                .filter(|path| path.starts_with(&parquet))
                .collect();
            assert_eq!(half_made, Vec::<&PathBuf>::new(), "operation {operation}");
        }
    }
    assert!(failed > 8, "{failed} compactions failed");
}

#[test]
fn a_bad_tail_needs_no_room_of_its_own() {
    let mut world = sealed_and_logged();
    world.crash();
    let log = log_of(&world, 2);
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let quarantine = Folders::of(&world.rows_folder()).quarantine;
    let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::StorageFull);
    fs.fill(&quarantine);
    world.set_fs(Arc::new(fs));
    let report = world.start();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(
        report.quarantined,
        [quarantine.join(log.file_name().unwrap())]
    );
    assert!(!log.try_exists().unwrap());
}

#[test]
fn a_file_that_makes_recovery_panic_costs_only_its_own_boot() {
    let mut world = sealed_and_logged();
    world.crash();
    world.set_fs(Arc::new(BadSector {
        file: log_of(&world, 2),
        answer: || panic!("no such thing"),
    }));
    let report = world.start();
    assert!(report.errors[0].contains("no such thing"), "{report:?}");
    world.offer(1, 3);
    world.commit();
    assert!(world.compact());
    world.crash();
    let report = world.start();
    assert_eq!(
        (report.boots.len(), report.errors.len()),
        (1, 1),
        "{report:?}"
    );
    world.set_fs(RealFs::shared());
    world.check();
}

#[test]
fn a_file_that_makes_every_look_at_it_panic_costs_no_other_boot_its_turn() {
    let mut world = World::new(RealFs::shared());
    // Of neither boot there is an account: their logs are looked at before they are recovered.
    for _ in 0..2 {
        world.start_without_recovery();
        world.offer(0, 3);
        world.commit();
        world.crash();
    }
    world.set_fs(Arc::new(BadSector {
        file: log_of(&world, 1),
        answer: || panic!("no such thing"),
    }));
    let report = world.start();
    let boots: Vec<_> = report.boots.iter().map(|boot| boot.boot).collect();
    assert_eq!(boots, [BootId(2)], "{report:?}");
    assert_eq!(report.errors.len(), 1, "{report:?}");
    world.set_fs(RealFs::shared());
    world.check();
}

#[test]
fn sealed_rows_outlive_the_account_of_a_boot_whose_log_goes_on() {
    let mut world = sealed_and_logged();
    world.crash();
    std::fs::remove_file(account_of(&world)).unwrap();
    let report = world.start();
    assert_eq!((report.errors, report.leftovers), (Vec::new(), 0));
    world.check();
    assert!(world.verify().is_sound(), "{}", world.verify());
}

#[test]
fn half_of_a_segment_is_no_sealed_row_while_the_log_has_all_of_it() {
    for damaged in [true, false] {
        let mut world = sealed_and_logged();
        let (log, account) = (log_of(&world, 2), account_of(&world));
        let bytes = std::fs::read(&log).unwrap();
        world.compact();
        // The power went between its two files, and the account is no more.
        let second = world.sealed().pop().unwrap();
        world.crash();
        std::fs::write(&log, bytes).unwrap();
        std::fs::remove_file(second.path).unwrap();
        if damaged {
            std::fs::write(&account, "EDGEWARD").unwrap();
        } else {
            std::fs::remove_file(&account).unwrap();
        }
        let report = world.start();
        assert_eq!((report.errors, report.leftovers), (Vec::new(), 1));
        world.check();
        assert!(world.verify().is_sound(), "{}", world.verify());
    }
}
