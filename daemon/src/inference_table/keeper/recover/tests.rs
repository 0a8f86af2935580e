//! Boots in their order, whatever their clocks said, and what other versions left.

use std::path::Path;

use edgeward_base::clock::TestClock;
use edgeward_base::durable::RealFs;

use super::super::super::tests::world::World;
use super::*;

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
    let verified = world.verify();
    assert!(
        verified.is_sound() && verified.foreign == [account],
        "{verified}"
    );
}

/// An account that a later version wrote, with a CRC that is right.
fn later_version() -> String {
    let rest = "EDGEWARD ACCOUNT 2{}";
    format!(
        "EDGEWARD ACCOUNT 2 {:08x}\n{{}}",
        crc32fast::hash(rest.as_bytes())
    )
}
