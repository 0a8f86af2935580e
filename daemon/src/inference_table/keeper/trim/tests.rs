//! What earlier boots reserved is free again, and nothing else is.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use edgeward_base::durable::{FaultFs, RealFs};

use super::super::super::tests::world::World;
use super::super::ledger::Folders;
use super::*;

/// What a segment of the log takes as soon as it is opened; see [`World::start`].
const RESERVED: usize = 16 << 10;

fn log_of(world: &World, boot: u64) -> PathBuf {
    let boot = BootId(boot);
    WalName { boot, number: 1 }.path(&Folders::of(&world.rows_folder()).wal)
}

/// A boot that is cut off with rows in its log, before it has recovered any other.
fn short_boot(world: &mut World) {
    world.start_without_recovery();
    world.offer(0, 3);
    world.commit();
    world.crash();
}

#[test]
fn boots_too_short_to_recover_the_one_before_do_not_fill_the_disk_with_zeros() {
    let mut world = World::new(RealFs::shared());
    for boot in 1..=20 {
        short_boot(&mut world);
        let written = fs::read(log_of(&world, boot)).unwrap();
        assert_eq!(written.len(), RESERVED, "the boot that wrote last");
        for earlier in 1..boot {
            let bytes = fs::read(log_of(&world, earlier)).unwrap();
            assert!(bytes.len() < RESERVED / 4, "boot {earlier} after {boot}");
        }
    }
    world.check();
    assert!(world.verify().is_sound(), "{}", world.verify());
}

#[test]
fn the_log_of_the_boot_that_writes_keeps_its_length() {
    let mut tried_again = 0;
    for operation in 1..40 {
        let mut world = World::new(RealFs::shared());
        short_boot(&mut world);
        let fs = FaultFs::failing_once(RealFs::shared(), operation, io::ErrorKind::Other);
        world.set_fs(Arc::new(fs));
        if world.start().errors.is_empty() {
            continue;
        }
        tried_again += 1;
        world.offer(0, 3);
        world.commit();
        assert_eq!(world.ledger().recover().errors, Vec::<String>::new());
        let written = fs::read(log_of(&world, 2)).unwrap();
        assert_eq!(written.len(), RESERVED);
        world.set_fs(RealFs::shared());
        world.check();
    }
    assert!(tried_again > 3, "{tried_again}");
}

#[test]
fn what_is_damaged_or_of_a_later_version_is_not_cut() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[last] ^= 1;
        },
        |bytes| *bytes.last_mut().unwrap() = 1,
        |bytes| bytes[40] ^= 1,
        |bytes| {
            bytes[14] = b'2';
            bytes[16..100].fill(9);
        },
    ];
    for damage in damages {
        let mut world = World::new(RealFs::shared());
        short_boot(&mut world);
        let log = log_of(&world, 1);
        let mut bytes = fs::read(&log).unwrap();
        damage(&mut bytes);
        fs::write(&log, &bytes).unwrap();
        world.start_without_recovery();
        assert_eq!(fs::read(&log).unwrap(), bytes);
    }
}

#[test]
fn a_segment_that_was_never_written_is_cut_to_nothing() {
    let mut world = World::new(RealFs::shared());
    short_boot(&mut world);
    let log = log_of(&world, 1);
    fs::write(&log, vec![0; RESERVED]).unwrap();
    world.start_without_recovery();
    assert!(fs::read(&log).unwrap().is_empty());
    world.crash();
    let report = world.start();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.quarantined, Vec::<PathBuf>::new());
    assert!(world.verify().is_sound(), "{}", world.verify());
}

#[test]
fn a_disk_that_does_not_cut_keeps_nothing_from_being_recovered() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        // To open the segment, and to shorten it.
        for operation in [1, 2] {
            let mut world = World::new(RealFs::shared());
            short_boot(&mut world);
            let fs = FaultFs::failing_once(RealFs::shared(), operation, kind);
            world.set_fs(Arc::new(fs));
            assert_eq!(world.start().errors, Vec::<String>::new());
            world.check();
        }
    }
}
