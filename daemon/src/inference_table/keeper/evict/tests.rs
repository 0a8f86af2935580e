//! What goes, what stays, and what a disk without a free byte does to it.

use std::sync::Arc;

use edgeward_base::durable::{Change, FaultFs, RealFs, Space};
use edgeward_base::units::ByteCount;

use super::super::super::compact::read_gaps;
use super::super::super::tests::world::{World, table};
use super::*;

/// A boot with one sealed file for each number of a table.
fn sealed(tables: &[u8]) -> World {
    let mut world = World::new(RealFs::shared());
    world.start();
    for number in tables {
        // Four rows: none of the next day.
        world.offer(*number, 4);
        world.commit();
        world.compact();
    }
    world
}

fn names(world: &World) -> Vec<String> {
    let sealed = world.sealed();
    sealed
        .iter()
        .map(|segment| segment.name.to_string())
        .collect()
}

#[test]
fn what_goes_leaves_a_gap_that_says_what_it_was() {
    let mut world = World::new(RealFs::shared());
    world.start();
    // Every fifth row is of the next day: two files, and runs with holes.
    world.offer(0, 12);
    world.commit();
    world.compact();
    let file = world.sealed().remove(0);
    world.evict();
    assert!(!file.path.try_exists().unwrap());
    let sealed = world.sealed();
    let gaps = sealed.iter().find(|one| one.name.kind == SegmentKind::Gaps);
    let gaps = gaps.unwrap();
    assert_eq!((gaps.sequences, gaps.date.clone()), (10, file.date));
    let runs: Vec<_> = gaps.runs().collect();
    assert_eq!(runs, [(1, 4), (6, 9), (11, 12)]);
    for gap in read_gaps(&gaps.path).unwrap() {
        let gap = gap.gap();
        assert_eq!(gap.cause, GapCause::DiskBudget);
        assert_eq!(gap.endpoint, Some("a"));
        assert!(gap.times_us.is_some() && gap.bytes.is_some());
    }
    world.check();
    assert!(world.verify().is_sound(), "{}", world.verify());
}

#[test]
fn the_oldest_of_the_lowest_priority_goes_and_never_what_stops() {
    let mut world = sealed(&[0, 1, 2, 1]);
    let budget = |number, priority, retain| TableBudget {
        table: table(number),
        budget: None,
        priority,
        retain,
    };
    let budgets = [
        budget(0, 0, Retain::Stop),
        budget(1, 60, Retain::DropOldest),
        budget(2, 90, Retain::DropOldest),
    ];
    let ledger = world.ledger();
    let next = |only: Option<u8>| {
        let only = only.map(table);
        let name = ledger.next_to_evict(only.as_ref(), &budgets);
        name.map(|name| (name.table, name.first))
    };
    assert_eq!(next(None), Some((table(1), 1)));
    assert_eq!(next(Some(2)), Some((table(2), 1)));
    assert_eq!(next(Some(0)), None, "a table that stops keeps its rows");
    assert_eq!(
        ledger.next_to_evict(None, &[]).map(|name| name.table),
        Some(table(0)),
        "without budgets the oldest goes"
    );
}

#[test]
fn what_may_have_landed_never_goes() {
    let mut world = sealed(&[0]);
    let offered = world.sealed().remove(0);
    world.mark_offered(&offered.name);
    let ledger = world.ledger();
    assert!(!ledger.usage().sealed[&table(0)].evictable);
    assert_eq!(ledger.next_to_evict(None, &[]), None);
    // Not even who names it can make it go.
    assert_eq!(ledger.evict(&offered.name).unwrap(), Evicted::default());
    assert!(offered.path.try_exists().unwrap());
    // It landed, its receipt was lost, and comes at last: the rows are rows, and in no gap.
    world.receipt(&offered.name);
    let table = &world.verify().boots[0].tables[0];
    assert_eq!((table.landed, table.gaps), (4, 0));
}

#[test]
fn a_full_disk_gives_up_its_ballast_for_what_deletes() {
    let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::StorageFull);
    let mut world = World::new(Arc::new(fs.clone()));
    world.start();
    for _ in 0..2 {
        world.offer(0, 4);
        world.commit();
        world.compact();
    }
    let ballast = world.rows_folder().join("ballast");
    let space = Space {
        total: ByteCount::mib(100),
        free: ByteCount::mib(50),
        free_files: 1_000,
    };
    let before = names(&world);
    let ledger = world.ledger();
    ledger.ballast.restore(Some(space), ByteCount::mib(50).0);
    assert!(
        !ballast.try_exists().unwrap(),
        "it is not laid down below the floor"
    );
    ledger.ballast.restore(Some(space), 0);
    assert_eq!(ballast.metadata().unwrap().len(), 1 << 20);
    // The power went while it was laid down.
    std::fs::write(&ballast, []).unwrap();
    ledger.ballast.restore(Some(space), 0);
    assert_eq!(ballast.metadata().unwrap().len(), 1 << 20);
    // The first change of the eviction finds no room.
    fs.fail_in(1);
    let name = ledger.next_to_evict(None, &[]).unwrap();
    assert_eq!(ledger.evict(&name).unwrap().rows, 4);
    assert!(!ballast.try_exists().unwrap());
    assert_ne!(names(&world), before);
    // The same for a receipt: the account that deletes finds no room.
    let ledger = world.ledger();
    ledger.ballast.restore(Some(space), 0);
    let name = ledger.next_to_evict(None, &[]).unwrap();
    fs.fail_in(1);
    ledger.land(&name).unwrap();
    assert!(!ballast.try_exists().unwrap());
    // Without a ballast the error is told.
    world.offer(0, 4);
    world.commit();
    world.compact();
    let ledger = world.ledger();
    let name = ledger.next_to_evict(None, &[]).unwrap();
    fs.fail_in(1);
    assert!(is_full(&ledger.evict(&name).unwrap_err()));
    ledger.evict(&name).unwrap();
}

#[test]
fn everything_on_the_disk_is_counted() {
    let mut world = sealed(&[0, 1]);
    std::fs::create_dir_all(world.rows_folder().join("quarantine")).unwrap();
    let damaged = world.rows_folder().join("quarantine/1-1.wal.from-9");
    std::fs::write(&damaged, vec![1; 10_000]).unwrap();
    world.offer(0, 3);
    world.commit();
    let ledger = world.ledger();
    let usage = ledger.usage();
    assert!(usage.quarantine >= 10_000);
    assert!(usage.kept >= 16 << 10, "the log is preallocated");
    assert_eq!(usage.sealed.len(), 2);
    let files = ledger.sealed();
    let sealed: u64 = usage.sealed.values().map(|table| table.bytes).sum();
    let blocks = files.iter().map(|file| file.size.next_multiple_of(BLOCK));
    assert_eq!(sealed, blocks.sum::<u64>());
    ledger.remove_quarantined().unwrap();
    assert!(!damaged.try_exists().unwrap());
}

/// All files and folders of days below `{rows}/parquet`.
fn below_parquet(world: &World) -> Vec<std::path::PathBuf> {
    let mut level = vec![world.rows_folder().join("parquet")];
    for _ in 0..3 {
        let list = |folder| std::fs::read_dir(folder).unwrap();
        let entries = level.iter().flat_map(list);
        level = entries.map(|entry| entry.unwrap().path()).collect();
    }
    let days = level
        .iter()
        .flat_map(|table| std::fs::read_dir(table).unwrap());
    let days: Vec<_> = days.map(|entry| entry.unwrap().path()).collect();
    let files = days.iter().flat_map(|day| std::fs::read_dir(day).unwrap());
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    [days, files].concat()
}

#[test]
fn a_change_that_fails_leaves_no_file_that_nobody_counts() {
    for operation in 1..60 {
        let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::StorageFull);
        let mut world = World::new(Arc::new(fs.clone()));
        world.start();
        for _ in 0..3 {
            world.offer(0, 12);
            world.commit();
            world.compact();
            world.evict();
        }
        world.offer(0, 12);
        world.commit();
        world.seal();
        fs.fail_in(operation);
        world.compact();
        world.evict();
        world.consolidate();
        fs.fail_in(u64::MAX / 2);
        let mut known: Vec<_> = world.sealed().into_iter().map(|one| one.path).collect();
        known.sort_unstable();
        let mut found = below_parquet(&world);
        found.retain(|path| path.is_file());
        found.sort_unstable();
        // What is only to be removed is tried again at the next start.
        let removal = fs.log().iter().any(|done| {
            done.failed && matches!(done.change, Change::Remove | Change::SyncDirectory)
        });
        assert!(
            removal || found == known,
            "operation {operation}: {found:?}\n{known:?}"
        );
        world.compact();
        world.check();
        assert!(world.verify().is_sound(), "operation {operation}");
    }
}

#[test]
fn folders_of_days_go_with_their_last_file() {
    let mut world = sealed(&[0, 1]);
    for segment in world.sealed() {
        world.mark_offered(&segment.name);
        world.receipt(&segment.name);
    }
    assert_eq!(below_parquet(&world), Vec::<std::path::PathBuf>::new());
    // One that a crash left goes at the next start.
    let left = world
        .rows_folder()
        .join("parquet/main/default/t0_payload/date=2026-05-01");
    std::fs::create_dir_all(&left).unwrap();
    world.crash();
    world.start();
    assert!(!left.try_exists().unwrap());
}

#[test]
fn what_is_gone_is_not_offered_and_what_lands_makes_its_own_room() {
    let fs = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::StorageFull);
    let mut world = World::new(Arc::new(fs.clone()));
    world.start();
    for _ in 0..2 {
        world.offer(0, 4);
        world.commit();
        world.compact();
    }
    let [first, second] = &world.sealed()[..] else {
        panic!("two files")
    };
    let (first, second) = (first.clone(), second.clone());
    world.evict();
    let unknown = world.ledger().mark_offered(&first.name).unwrap_err();
    assert!(
        matches!(unknown, KeepSegmentsError::Unknown(_)),
        "{unknown}"
    );
    // No byte is free, and there is no ballast: the file goes first.
    world.mark_offered(&second.name);
    fs.fail_in(1);
    world.ledger().land(&second.name).unwrap();
    assert!(!second.path.try_exists().unwrap());
    assert_eq!(world.sealed().len(), 1, "the gap");
}
