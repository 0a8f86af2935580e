//! Damage that `logs verify` has to see.

use std::io::Write as _;

use std::sync::Mutex;

use edgeward_base::durable::{DurableFile, RealFs, Space};
use edgeward_base::units::ByteCount;

use super::super::tests::world::World;
use super::*;

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn world() -> World {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 20);
    world.drop_rows(0, 3);
    world.commit();
    assert!(world.compact());
    world.offer(0, 4);
    world.commit();
    world
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 0x40;
    File::create(path).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn a_sound_log_adds_up_sealed_landed_and_still_in_the_log() {
    let mut world = world();
    // The gap is the first sealed segment, the rows are the second.
    world.land(1);
    let report = world.verify();
    assert!(report.is_sound(), "{report}");
    let table = &report.boots[0].tables[0];
    assert_eq!((table.rows, table.gaps, table.last), (24, 3, 27));
    assert!(table.landed > 0 && table.complete);
    assert_eq!(table.causes, [("channel_full".to_owned(), 3)].into());
    assert!(!table.unknown && table.bytes > 0);
    let text = report.to_string();
    assert!(text.contains("24 rows"), "{text}");
    assert!(
        text.contains("3 in gaps (channel_full 3) = last 27"),
        "{text}"
    );
    assert!(text.ends_with("sound"), "{text}");
    serde_json::to_string(&report).unwrap();
}

#[test]
fn every_damaged_file_is_named() {
    for (extension, expected) in [
        ("parquet", "is damaged"),
        ("wal", "damaged from"),
        ("json", "is damaged"),
    ] {
        let world = world();
        let file = files(&world.rows_folder(), extension).pop().unwrap();
        flip(&file);
        let report = world.verify();
        assert!(!report.is_sound());
        let name = file.file_name().unwrap().to_str().unwrap();
        let named = report
            .problems
            .iter()
            .any(|line| line.contains(name) && line.contains(expected));
        assert!(named, "{name}: {report}");
    }
}

#[test]
fn a_file_that_is_gone_is_named() {
    let world = world();
    let file = files(&world.rows_folder(), "parquet").pop().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(!world.verify().is_sound());
}

#[test]
fn gaps_are_told_by_cause_and_the_unknown_end_too() {
    let mut world = world();
    // The gap is the first sealed segment.
    world.land(0);
    world.drop_rows(0, 2);
    world.commit();
    world.crash();
    world.start();
    let report = world.verify();
    let table = &report.boots[0].tables[0];
    let causes = [("channel_full", 2), ("landed", 3)];
    let expected = causes.map(|(cause, rows)| (cause.to_owned(), rows));
    assert_eq!(table.causes, expected.into());
    assert!(table.unknown, "the boot was cut off");
    assert!(
        report
            .to_string()
            .contains("and an unknown number after it")
    );
}

#[test]
fn quarantine_without_a_gap_is_not_sound() {
    let mut world = world();
    world.crash();
    world.start();
    let quarantine = world.rows_folder().join("quarantine");
    std::fs::create_dir_all(&quarantine).unwrap();
    // A boot of which nothing is known but that it ended, as version 0 left it.
    let boot = BootId(0xdead);
    let mut account = Account::open(boot, 1, 0);
    account.end = BootEnd::PowerLoss;
    let accounts = world.rows_folder().join("account");
    account.write(&RealFs, &accounts).unwrap();
    std::fs::write(
        quarantine.join(format!("{boot}-00000001.wal.from-0")),
        "rest",
    )
    .unwrap();
    let report = world.verify();
    assert!(!report.is_sound());
    assert!(report.quarantine_bytes >= 4);
    assert!(
        report.problems[0].contains("no gap stands for it"),
        "{report}"
    );
}

/// The disk of a daemon that goes on while it is looked at: it lands a segment just after its
/// account was read, so the first read of the account gives what it said before; it compacts logs
/// between their listing and their reading, and moves files as soon as one folder was listed.
#[derive(Debug, Default)]
struct Meanwhile {
    account: PathBuf,
    before: Mutex<Option<Vec<u8>>>,
    compacted: Vec<PathBuf>,
    moved: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl DurableFs for Meanwhile {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if self.compacted.iter().any(|log| log == path) {
            std::fs::remove_file(path)?;
            return Err(io::ErrorKind::NotFound.into());
        }
        let before = self
            .before
            .lock()
            .unwrap()
            .take_if(|_| path == self.account);
        before.map_or_else(|| RealFs.read(path), Ok)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let listed = RealFs.list(directory);
        for (from, to) in self.moved.lock().unwrap().drain(..) {
            std::fs::rename(from, to)?;
        }
        listed
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        unreachable!("verify measures no disk")
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        RealFs.size(path)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        unreachable!("verify changes nothing")
    }

    fn create_new(&self, _: &Path) -> io::Result<Box<dyn DurableFile>> {
        unreachable!("verify changes nothing")
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn DurableFile>> {
        unreachable!("verify changes nothing")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("verify changes nothing")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("verify changes nothing")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("verify changes nothing")
    }
}

#[test]
fn a_segment_that_lands_meanwhile_is_not_missed() {
    let mut world = world();
    let account = files(&world.rows_folder(), "json").pop().unwrap();
    let before = std::fs::read(&account).unwrap();
    world.land(0);
    let meanwhile = || Meanwhile {
        account: account.clone(),
        before: Mutex::new(Some(before.clone())),
        ..Meanwhile::default()
    };
    let rows = world.rows_folder();
    assert!(
        !look(&meanwhile(), &rows).unwrap().is_sound(),
        "one look sees a file that is gone"
    );
    let report = verify(&meanwhile(), &rows).unwrap();
    assert!(report.is_sound(), "{report}");
}

#[test]
fn a_boot_is_seen_while_its_rows_go_from_the_log_into_a_file() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 20);
    world.commit();
    let log = files(&world.rows_folder(), "wal").pop().unwrap();
    let bytes = std::fs::read(&log).unwrap();
    world.crash();
    world.start();
    // As it was before: the log is there, its account is not. Both change after the first listing.
    let account = files(&world.rows_folder(), "json").pop().unwrap();
    let elsewhere = tempfile::tempdir_in(world.rows_folder()).unwrap();
    let aside = elsewhere.path().join("account");
    std::fs::rename(&account, &aside).unwrap();
    std::fs::write(&log, bytes).unwrap();
    let meanwhile = Meanwhile {
        moved: Mutex::new(vec![(aside, account), (log, elsewhere.path().join("log"))]),
        ..Meanwhile::default()
    };
    let report = verify(&meanwhile, &world.rows_folder()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.boots.len(), 1, "{report}");
    assert_eq!(report.boots[0].tables[0].rows, 20, "{report}");
}

#[test]
fn logs_that_are_compacted_meanwhile_are_no_error() {
    let world = world();
    let log = files(&world.rows_folder(), "wal").pop().unwrap();
    let compacted: Vec<_> = (1..=3)
        .map(|number| log.with_file_name(format!("00000000000000aa-{number:08}.wal")))
        .collect();
    for path in &compacted {
        std::fs::copy(&log, path).unwrap();
    }
    let meanwhile = Meanwhile {
        account: PathBuf::new(),
        compacted,
        ..Meanwhile::default()
    };
    let report = verify(&meanwhile, &world.rows_folder()).unwrap();
    assert!(report.is_sound(), "{report}");
}

#[test]
fn recovery_turns_damage_into_gaps_and_quarantine_and_the_log_is_sound_again() {
    for extension in ["parquet", "wal"] {
        let mut world = world();
        world.crash();
        for file in files(&world.rows_folder(), extension) {
            let length = std::fs::metadata(&file).unwrap().len();
            // A flip inside a sealed file is found when it is read for upload; its length at once.
            match extension {
                "parquet" => {
                    File::options()
                        .write(true)
                        .open(&file)
                        .unwrap()
                        .set_len(length - 1)
                        .unwrap();
                }
                _ => flip(&file),
            }
        }
        let report = world.start();
        assert_eq!(report.errors, Vec::<String>::new());
        assert!(!report.quarantined.is_empty(), "{extension}: {report:?}");
        let verified = world.verify();
        assert!(verified.is_sound(), "{extension}: {verified}");
        assert!(!verified.quarantine.is_empty());
    }
}

#[test]
fn a_lost_account_is_rebuilt_from_the_files_that_are_there() {
    let mut world = world();
    world.crash();
    for file in files(&world.rows_folder(), "json") {
        flip(&file);
    }
    let report = world.start();
    assert_eq!(report.errors, Vec::<String>::new());
    assert!(!report.quarantined.is_empty());
    world.check();
    let verified = world.verify();
    assert!(verified.is_sound(), "{verified}");
}

#[test]
fn a_file_of_gaps_with_other_columns_is_an_error_and_no_panic() {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gaps.parquet");
    let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("cause", column()), ("rows", column())]).unwrap();
    let file = File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(gaps_in(&path).is_err());
}
