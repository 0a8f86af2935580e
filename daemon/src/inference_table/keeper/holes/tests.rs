//! Gaps say exactly which sequences are missing, and a file that may have landed is not one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use edgeward_base::durable::RealFs;
use parquet::arrow::ArrowWriter;

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

#[test]
fn a_file_that_is_not_what_its_name_says_is_set_aside_with_a_gap() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
    let backwards: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![-1, 2]));
    for sequences in [texts, backwards, negative] {
        let mut world = interleaved(3);
        let segment = world.sealed().remove(0);
        world.crash();
        let batch = RecordBatch::try_from_iter([("sequence", sequences)]).unwrap();
        let file = File::create(&segment.path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let folder = world.rows_folder();
        std::fs::remove_file(Account::path(&folder.join("account"), segment.name.boot)).unwrap();
        let report = world.start();
        assert_eq!(report.errors, Vec::<String>::new());
        assert_eq!(report.quarantined.len(), 1);
        let kinds: Vec<_> = world.sealed().iter().map(|one| one.name.kind).collect();
        assert_eq!(kinds, [SegmentKind::Gaps; 2]);
    }
}

#[test]
fn files_of_one_name_are_all_kept_in_quarantine() {
    let mut world = World::new(RealFs::shared());
    world.start();
    for number in 0..2 {
        world.offer(number, 3);
    }
    world.commit();
    world.compact();
    for segment in world.sealed() {
        world.ledger().set_aside(&segment.name).unwrap();
    }
    let quarantine = std::fs::read_dir(world.rows_folder().join("quarantine")).unwrap();
    let mut names: Vec<_> = quarantine
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let name = |table| {
        format!("main.default.{table}_payload-2026-05-29-part-0000000000000001-1-3.parquet")
    };
    assert_eq!(names, [name("t0"), name("t1")]);
}
