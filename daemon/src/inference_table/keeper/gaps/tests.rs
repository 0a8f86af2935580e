//! Few files, and not one sequence more or less in them.

use edgeward_base::durable::RealFs;

use super::super::super::tests::world::World;
use super::*;

fn gaps(world: &World) -> Vec<SealedSegment> {
    let mut sealed = world.sealed();
    sealed.retain(|segment| segment.name.kind == SegmentKind::Gaps);
    sealed
}

/// A boot that sealed so many files of rows and of gaps.
fn world(files: usize) -> World {
    let mut world = World::new(RealFs::shared());
    world.start();
    for _ in 0..files {
        world.offer(0, 4);
        world.drop_rows(0, 2);
        world.commit();
        world.compact();
    }
    world
}

#[test]
fn many_files_of_gaps_become_one() {
    let mut world = world(9);
    assert_eq!(gaps(&world).len(), 9);
    assert_eq!(world.ledger().consolidate_gaps(9).unwrap(), 0);
    assert_eq!(world.ledger().consolidate_gaps(MOST_FILES).unwrap(), 9);
    let [merged] = &gaps(&world)[..] else {
        panic!("one file")
    };
    assert_eq!((merged.rows, merged.sequences), (9, 18));
    world.check();
    assert!(world.verify().is_sound(), "{}", world.verify());
}

#[test]
fn what_may_have_landed_keeps_its_file() {
    let mut world = world(9);
    let offered = gaps(&world).remove(4);
    world.mark_offered(&offered.name);
    assert_eq!(world.ledger().consolidate_gaps(1).unwrap(), 8);
    assert!(gaps(&world).iter().any(|gap| gap.name == offered.name));
    world.check();
}

#[test]
fn files_that_went_one_after_the_other_are_one_gap() {
    let mut world = World::new(RealFs::shared());
    world.start();
    for _ in 0..5 {
        world.offer(0, 4);
        world.commit();
        world.compact();
    }
    for _ in 0..4 {
        world.evict();
    }
    assert_eq!(world.ledger().consolidate_gaps(1).unwrap(), 4);
    let [merged] = &gaps(&world)[..] else {
        panic!("one file")
    };
    assert_eq!((merged.rows, merged.sequences), (1, 16));
    world.check();
}

#[test]
fn a_damaged_file_is_left_to_who_finds_it_out() {
    let mut world = world(3);
    let damaged = gaps(&world).remove(1);
    let mut bytes = std::fs::read(&damaged.path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&damaged.path, bytes).unwrap();
    assert_eq!(world.ledger().consolidate_gaps(1).unwrap(), 2);
    assert!(gaps(&world).iter().any(|gap| gap.name == damaged.name));
}

#[test]
fn a_file_whose_name_the_new_one_would_take_stays_apart() {
    let mut world = world(3);
    let mut all = gaps(&world);
    let mut wide = all.remove(0);
    wide.name.last = all[1].name.last;
    let (merged, gaps) = world.ledger().gather([vec![wide], all.clone()].concat());
    assert_eq!(merged, all);
    assert_eq!(gaps.len(), 2);
}
