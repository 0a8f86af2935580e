//! A box that starts in 1970 loses nothing, and its rows get the day on which they arrived.

use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::Date32Type;
use edgeward_base::durable::RealFs;

use super::super::segment::{SealedSegment, day_of};
use super::super::tests::landed::read_parquet;
use super::super::tests::world::{NOON, World};

const MINUTE: Duration = Duration::from_secs(60);

/// A box without a battery: the clock starts in 1970.
fn without_clock() -> World {
    let mut world = World::new(RealFs::shared());
    world.clock.set_wall_micros(0);
    world.start();
    world
}

/// A time service has set the clock.
fn set_clock(world: &World) {
    world.clock.set_wall_micros(NOON);
    world.clock.set_synced(true);
}

/// Days and qualities of all rows, and the days of their folders.
fn dated(sealed: &[SealedSegment]) -> Vec<(i32, String, String)> {
    let mut rows = Vec::new();
    for segment in sealed {
        let batch = read_parquet(&segment.path);
        let Some(quality) = batch.column_by_name("clock_quality") else {
            continue;
        };
        let days = batch.column_by_name("request_date").unwrap();
        let days = days.as_primitive::<Date32Type>().values().iter();
        for (day, quality) in days.zip(quality.as_string::<i32>()) {
            rows.push((*day, quality.unwrap().to_owned(), segment.date.to_string()));
        }
    }
    rows
}

fn row(day: i32, quality: &str, folder: &str) -> (i32, String, String) {
    (day, quality.to_owned(), folder.to_owned())
}

#[test]
fn rows_from_before_the_clock_was_set_get_their_day() {
    let mut world = without_clock();
    world.offer_now(0, 1);
    world.commit();
    world.clock.advance(MINUTE);
    set_clock(&world);
    world.offer_now(0, 1);
    world.commit();
    world.compact();
    // The clock was set just after midnight.
    let today = day_of(NOON);
    assert_eq!(
        dated(&world.sealed()),
        [
            row(today - 1, "corrected", "2026-05-28"),
            row(today, "ntp", "2026-05-29")
        ]
    );
    world.check();
}

#[test]
fn a_crash_before_compaction_keeps_what_the_log_knew_of_the_clock() {
    let mut world = without_clock();
    world.offer_now(0, 1);
    world.commit();
    world.seal();
    set_clock(&world);
    world.offer_now(0, 1);
    world.commit();
    world.crash();
    // The machine starts without a clock again.
    world.clock.set_wall_micros(0);
    world.clock.set_synced(false);
    world.start();
    let today = day_of(NOON);
    let qualities = ["corrected", "ntp"].map(|quality| row(today, quality, "2026-05-29"));
    assert_eq!(dated(&world.sealed()), qualities);
    world.check();
}

/// Two rows in 1970, a crash between them; the machine starts so often, then the clock is set.
fn crash_in_1970(starts_of_the_machine: [u64; 2]) -> World {
    let mut world = World::new(RealFs::shared());
    for start in starts_of_the_machine {
        world.crash();
        world.clock.set_wall_micros(0);
        world.clock.start_machine(start);
        world.start();
        world.offer_now(0, 1);
        world.commit();
        world.clock.advance(MINUTE);
    }
    world
}

#[test]
fn rows_of_an_earlier_process_are_dated_by_the_clock_of_the_machine() {
    let mut world = crash_in_1970([1, 1]);
    assert_eq!(world.sealed(), []);
    set_clock(&world);
    world.compact();
    let yesterday = row(day_of(NOON) - 1, "corrected", "2026-05-28");
    assert_eq!(dated(&world.sealed()), [yesterday.clone(), yesterday]);
    world.check();
}

#[test]
fn rows_of_an_earlier_start_of_the_machine_are_nobodys_to_date() {
    let mut world = crash_in_1970([1, 2]);
    set_clock(&world);
    world.compact();
    let expected = [
        row(0, "unsynced", "1970-01-01"),
        row(day_of(NOON) - 1, "corrected", "2026-05-28"),
    ];
    assert_eq!(dated(&world.sealed()), expected);
    world.check();
}

#[test]
fn a_clock_that_nobody_vouches_for_is_better_than_1970() {
    let mut world = crash_in_1970([1, 1]);
    world.clock.set_wall_micros(NOON);
    world.compact();
    let yesterday = row(day_of(NOON) - 1, "unsynced", "2026-05-28");
    assert_eq!(dated(&world.sealed()), [yesterday.clone(), yesterday]);
    world.check();
}

#[test]
fn a_clock_of_1970_is_not_believed_whoever_set_it() {
    let mut world = without_clock();
    world.clock.set_synced(true);
    world.offer_now(0, 1);
    world.commit();
    set_clock(&world);
    world.compact();
    assert_eq!(
        dated(&world.sealed()),
        [row(day_of(NOON), "corrected", "2026-05-29")]
    );
}

#[test]
fn a_box_that_never_learns_the_time_keeps_every_row() {
    let mut world = without_clock();
    world.offer_now(0, 2);
    world.drop_rows(0, 1);
    world.commit();
    world.compact();
    let expected = row(0, "unsynced", "1970-01-01");
    assert_eq!(dated(&world.sealed()), [expected.clone(), expected]);
    world.check();
    assert!(world.verify().is_sound());
}

#[test]
fn an_unsynced_clock_that_can_be_right_is_used_at_once() {
    let mut world = World::new(RealFs::shared());
    world.start();
    assert!(!world.awaits_clock(1));
    world.offer_now(0, 1);
    world.commit();
    world.compact();
    assert_eq!(
        dated(&world.sealed()),
        [row(day_of(NOON), "unsynced", "2026-05-29")]
    );
}

#[test]
fn a_clock_of_1970_is_waited_for_but_not_for_ever() {
    let world = without_clock();
    assert!(world.awaits_clock(1));
    assert!(world.awaits_clock(6));
    assert!(!world.awaits_clock(7), "the log may not grow without end");
    set_clock(&world);
    assert!(!world.awaits_clock(1));
}

#[test]
fn a_clock_that_is_set_back_a_day_does_not_touch_rows_that_it_dated() {
    let mut world = World::new(RealFs::shared());
    world.start();
    world.clock.set_synced(true);
    world.offer_now(0, 1);
    world.commit();
    world.clock.set_wall_micros(NOON - 86_400_000_000);
    world.offer_now(0, 1);
    world.commit();
    world.compact();
    let mut days: Vec<_> = dated(&world.sealed())
        .into_iter()
        .map(|row| row.0)
        .collect();
    days.sort_unstable();
    assert_eq!(days, [day_of(NOON) - 1, day_of(NOON)]);
    world.check();
}
