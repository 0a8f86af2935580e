//! Random histories against the real log and ledger, and a fault at every single operation.

use std::io;
use std::sync::Arc;

use edgeward_base::clock::Clock as _;
use edgeward_base::durable::{FaultFs, RealFs};
use edgeward_harness::floors;
use proptest::prelude::*;

use super::super::BootEnd;
use super::super::gap::GapCause;
use super::power::PowerCutFs;
use super::world::{World, end_of};

#[derive(Debug, Clone)]
enum Action {
    Offer(u8, u8),
    OfferNow(u8, u8),
    /// Rows are left out, for this cause.
    LeaveOut(u8, u8, GapCause),
    Commit,
    Compact,
    Land(usize),
    Evict,
    Consolidate,
    Fault(u64),
    ReadFault(u64),
    NextDay,
    /// The clock is set, by so many seconds.
    Step(i32),
    To1970,
    Crash,
    /// A start that is over before it has recovered anything.
    ShortBoot,
    PowerCut(u32),
    /// A bit of a written log, by place.
    Damage(usize, usize, u8),
    Close,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0_u8..3, 1_u8..12).prop_map(|(table, rows)| Action::Offer(table, rows)),
        2 => (0_u8..3, 1_u8..5).prop_map(|(table, rows)| Action::OfferNow(table, rows)),
        2 => (0_u8..3, 1_u8..5, cause())
            .prop_map(|(table, rows, cause)| Action::LeaveOut(table, rows, cause)),
        6 => Just(Action::Commit),
        3 => Just(Action::Compact),
        2 => (0_usize..8).prop_map(Action::Land),
        2 => Just(Action::Evict),
        1 => Just(Action::Consolidate),
        3 => (1_u64..20).prop_map(Action::Fault),
        1 => (1_u64..8).prop_map(Action::ReadFault),
        1 => Just(Action::NextDay),
        1 => (-200_000..200_000).prop_map(Action::Step),
        1 => Just(Action::To1970),
        1 => Just(Action::Crash),
        1 => Just(Action::ShortBoot),
        2 => any::<u32>().prop_map(Action::PowerCut),
        1 => (any::<usize>(), any::<usize>(), 0_u8..8)
            .prop_map(|(log, at, bit)| Action::Damage(log, at, bit)),
        1 => Just(Action::Close),
    ]
}

/// Why rows are left out before they reach the log.
fn cause() -> impl Strategy<Value = GapCause> {
    prop_oneof![
        Just(GapCause::ChannelFull),
        Just(GapCause::Sampled),
        Just(GapCause::Oversize),
    ]
}

/// Flips a bit of a log behind its magic, which the unit tests of the log flip.
fn damage(world: &mut World, disk: &PowerCutFs, log: usize, at: usize, bit: u8) {
    let logs = world.logs();
    let Some((name, path)) = logs.get(log.checked_rem(logs.len()).unwrap_or(0)) else {
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    if written > MAGIC {
        let at = MAGIC + at % (written + 1 - MAGIC);
        disk.flip(path, at, bit);
        world.damaged(name.boot);
    }
}

fn act(world: &mut World, fs: &FaultFs, disk: &PowerCutFs, action: &Action) {
    match action {
        Action::Offer(table, rows) => world.offer(*table, *rows),
        Action::OfferNow(table, rows) => world.offer_now(*table, *rows),
        Action::LeaveOut(table, rows, cause) => world.leave_out(*table, *rows, *cause),
        Action::Commit => world.commit(),
        Action::Compact => drop(world.compact()),
        Action::Land(place) => world.land(*place),
        Action::Evict => world.evict(),
        Action::Consolidate => world.consolidate(),
        Action::Fault(count) => fs.fail_in(*count),
        Action::ReadFault(count) => fs.fail_read_in(*count),
        Action::Step(seconds) => {
            let micros = world.clock.wall_micros() + i64::from(*seconds) * 1_000_000;
            world.clock.set_wall_micros(micros.max(0));
        }
        Action::To1970 => world.clock.set_wall_micros(0),
        Action::NextDay => world.clock.advance(std::time::Duration::from_secs(86_400)),
        Action::Crash => {
            world.crash();
            drop(world.start());
        }
        Action::ShortBoot => {
            world.crash();
            world.start_without_recovery();
            world.crash();
            drop(world.start());
        }
        Action::Damage(log, at, bit) => damage(world, disk, *log, *at, *bit),
        Action::PowerCut(coins) => {
            world.crash();
            let mut coins = coins.rotate_left(1);
            disk.cut(|| {
                coins = coins.rotate_left(1);
                coins & 1 == 1
            });
            drop(world.start());
        }
        Action::Close => {
            world.close();
            drop(world.start());
        }
    }
}

/// Bytes of a log before its first frame.
const MAGIC: usize = 16;

const CASES: u32 = 256;

#[test]
fn any_history_keeps_what_was_acknowledged_and_accounts_for_every_sequence() {
    let config = ProptestConfig::with_cases(CASES);
    proptest!(config, |(actions in proptest::collection::vec(action(), 1..60))| {
        let disk = PowerCutFs::default();
        let fs = FaultFs::failing_once(Arc::new(disk.clone()), 0, io::ErrorKind::StorageFull);
        let mut world = World::new(Arc::new(fs.clone()));
        world.start();
        for action in &actions {
            act(&mut world, &fs, &disk, action);
        }
        world.set_fs(Arc::new(disk));
        world.check();
        let report = world.verify();
        prop_assert!(report.is_sound(), "{}", report);
        prop_assert_eq!(fs.trusted_after_failure(), None);
    });
    floors::reached("rows.histories", u64::from(CASES));
}

/// A day in the life: commits, seals, landings, a crash, a recovery and a clean close.
fn scenario(world: &mut World) {
    world.start();
    for _ in 0..2 {
        world.offer(0, 6);
        world.offer(1, 2);
        world.commit();
        world.offer(0, 3);
        world.drop_rows(0, 2);
        world.commit();
        world.compact();
        world.land(0);
    }
    world.offer(1, 4);
    world.commit();
    world.crash();
    world.start();
    world.evict();
    world.evict();
    world.consolidate();
    world.offer(2, 5);
    world.commit();
    world.land(1);
    world.close();
}

#[test]
fn a_power_cut_after_any_operation_loses_nothing_acknowledged() {
    let operations = operations();
    for operation in 1..=operations {
        let disk = PowerCutFs::default();
        let fs = FaultFs::dying(Arc::new(disk.clone()), operation);
        let mut world = World::new(Arc::new(fs));
        scenario(&mut world);
        world.crash();
        disk.cut(|| false);
        world.set_fs(Arc::new(disk));
        world.check();
        assert!(
            world.verify().is_sound(),
            "operation {operation}: {}",
            world.verify()
        );
    }
    floors::reached("rows.power_cuts", operations);
}

fn operations() -> u64 {
    let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::Other);
    let mut world = World::new(Arc::new(fs.clone()));
    scenario(&mut world);
    fs.operations()
}

#[test]
fn a_disk_that_dies_at_any_operation_loses_nothing_acknowledged() {
    let operations = operations();
    for operation in 1..=operations {
        let fs = FaultFs::dying(RealFs::shared(), operation);
        let mut world = World::new(Arc::new(fs));
        scenario(&mut world);
        world.set_fs(RealFs::shared());
        world.check();
        assert!(
            world.verify().is_sound(),
            "operation {operation}: {}",
            world.verify()
        );
    }
    floors::reached("rows.deaths", operations);
}

#[test]
fn an_error_at_any_operation_is_survived_and_counted() {
    let operations = operations();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for operation in 1..=operations {
            let fs = FaultFs::failing_once(RealFs::shared(), operation, kind);
            let mut world = World::new(Arc::new(fs.clone()));
            scenario(&mut world);
            world.check();
            assert!(
                world.verify().is_sound(),
                "operation {operation}: {}",
                world.verify()
            );
            assert_eq!(fs.trusted_after_failure(), None, "operation {operation}");
        }
    }
    floors::reached("rows.errors", operations);
}

#[test]
fn a_recovery_that_dies_at_any_operation_is_taken_up_again() {
    let mut operation = 0;
    loop {
        operation += 1;
        let mut world = World::new(RealFs::shared());
        world.start();
        world.offer(0, 9);
        world.commit();
        world.compact();
        world.offer(0, 4);
        world.offer(1, 4);
        world.commit();
        world.crash();
        let fs = FaultFs::dying(RealFs::shared(), operation);
        world.set_fs(Arc::new(fs.clone()));
        world.start();
        world.set_fs(RealFs::shared());
        world.check();
        assert!(
            world.verify().is_sound(),
            "operation {operation}: {}",
            world.verify()
        );
        if fs.operations() < operation {
            break;
        }
    }
    floors::reached("rows.recovery_deaths", operation);
}

#[test]
fn a_boot_ends_as_what_it_was() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, 3);
    assert!(world.close());
    world.start();
    world.offer(0, 3);
    world.commit();
    assert_eq!(end_of(&world.verify(), 2), Some(BootEnd::Running));
    world.check();
    assert_eq!(end_of(&world.verify(), 1), Some(BootEnd::Clean));
    assert_eq!(end_of(&world.verify(), 2), Some(BootEnd::PowerLoss));
}
