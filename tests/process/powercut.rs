//! Power cuts under load: the disk goes dead at a random moment, and the process with it.
//!
//! Device and registry have a disk each, ext4 on a loop device. What the kernel had not written
//! when the power went is gone, so what was acknowledged must have been synced, by sled and by
//! everything beside it. Only answers that were read before the cut count.

use std::time::Duration;

use edgeward_base::units::ByteCount;
use edgeward_harness::disk::LoopDisk;
use edgeward_harness::{floors, wait};
use edgeward_wire::ordering::Kind;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::fleet::{Disks, Fleet};
use crate::rounds::{End, ROWS, Rounds};

const NAME: &str = "process.powercut";
const SEED: u64 = 0xDEAD;
/// Large enough that no disk here fills up.
const DISK: ByteCount = ByteCount::mib(1024);
/// All that a long round writes has room: the disk may stall for a minute, and rows over their
/// budget are sampled.
const BUDGET: &str = "budget = \"900MiB\"\n";
/// How long the process may go on with a dead disk: milliseconds.
const OUTLIVED: std::ops::RangeInclusive<u64> = 0..=80;
/// In one of so many rounds the registry loses its power, too.
const REGISTRY_EVERY: u64 = 4;

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let Some(device) = LoopDisk::ext4(NAME, DISK) else {
        return;
    };
    let Some(registry) = LoopDisk::ext4(NAME, DISK) else {
        return;
    };
    let (on_device, on_registry) = (device.path(), registry.path());
    let disks = Disks {
        device: Some(&on_device),
        registry: Some(&on_registry),
    };
    let rows = format!("{ROWS}{BUDGET}");
    let Some(fleet) = Fleet::start_on(NAME, &rows, disks) else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    let cuts = floors::length("process.powercut.rounds");
    for round in 0..cuts {
        let end = End::of_the_power();
        rounds.round(&end, |fleet, random| {
            if round % REGISTRY_EVERY == REGISTRY_EVERY - 1 {
                cut_registry(fleet, &registry, random);
            }
            end.begin();
            device.cut_power();
            wait::pass(Duration::from_millis(random.random_range(OUTLIVED)));
            fleet.device.kill();
        });
        device.restore();
    }
    rounds.settle();
    floors::reached("process.powercut.registry_cuts", cuts / REGISTRY_EVERY);
}

/// Publishes something, cuts the registry's power, and asserts that it is still published.
fn cut_registry(fleet: &mut Fleet, disk: &LoopDisk, random: &mut StdRng) {
    fleet.publish_traffic(random.random_range(0..=100));
    let published = fleet.published(Kind::Endpoints);
    disk.cut_power();
    fleet.registry.kill();
    disk.restore();
    fleet.registry.start();
    let found = fleet.published(Kind::Endpoints);
    assert!(found >= published, "{found} after {published}");
}
