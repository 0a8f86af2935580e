//! Gaps say exactly which sequences are missing, and a file that may have landed is not one.

use edgeward_base::durable::RealFs;

use super::super::super::tests::world::World;
use super::*;

/// A boot whose rows of two days interleave, sealed; and it has crashed.
fn interleaved(rows: u8) -> World {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.offer(0, rows);
    world.commit();
    world.compact();
    world
}

#[test]
fn a_segment_knows_the_runs_that_it_holds() {
    let world = interleaved(12);
    let sealed = world.sealed();
    let runs: Vec<Vec<_>> = sealed
        .iter()
        .map(|segment| segment.runs().collect())
        .collect();
    // Every fifth row is of the next day.
    assert_eq!(
        runs,
        [vec![(1, 4), (6, 9), (11, 12)], vec![(5, 5), (10, 10)]]
    );
}

#[test]
fn a_file_that_would_have_too_many_runs_is_followed_by_another() {
    let mut world = World::new(RealFs::shared());
    world.start();
    for _ in 0..3 {
        world.offer(0, 250);
    }
    world.commit();
    world.compact();
    let sealed = world.sealed();
    assert!(sealed.iter().all(|segment| segment.runs().count() <= 64));
    assert_eq!(sealed.len(), 6, "150 runs of each day, 64 in a file");
    world.check();
    assert!(world.verify().is_sound());
}

#[test]
fn what_a_lost_file_held_becomes_gaps_that_overlap_nothing() {
    let mut world = interleaved(12);
    let lost = world.sealed().remove(0);
    world.crash();
    std::fs::remove_file(lost.path).unwrap();
    world.start();
    // Checks that each sequence has one fate; the acknowledged rows of the lost file are gone.
    world.forget_acknowledged();
    world.check();
    assert!(world.verify().is_sound());
}

#[test]
fn a_file_that_may_have_landed_is_no_gap_until_the_registry_has_answered() {
    let mut world = interleaved(3);
    let segment = world.sealed().remove(0);
    world.mark_offered(&segment.name);
    world.crash();
    std::fs::remove_file(&segment.path).unwrap();
    world.start();
    assert_eq!(
        world.sealed().first().map(|first| &first.name),
        Some(&segment.name)
    );
    // The registry has it: a receipt.
    world.receipt(&segment.name);
    world.forget_acknowledged();
    let verified = world.verify();
    assert!(verified.is_sound(), "{verified}");
    assert_eq!(verified.boots[0].tables[0].landed, 3);
    assert_eq!(verified.boots[0].tables[0].gaps, 0);
}

#[test]
fn files_without_an_account_tell_which_sequences_they_hold() {
    let world = interleaved(12);
    for segment in world.sealed() {
        let read = adopted(&segment.name, &segment.date, &segment.path).unwrap();
        assert_eq!(read, segment);
    }
}
