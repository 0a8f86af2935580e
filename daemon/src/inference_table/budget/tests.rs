use proptest::prelude::*;

use super::*;
use crate::config::RetentionConfig;

const ROOM: u64 = 1_000_000;

fn limits() -> Limits {
    Limits {
        total: ROOM + SPARE_SEGMENTS * 1_000,
        floor: 10_000,
        seal_size: 1_000,
    }
}

fn ladder() -> Ladder {
    Ladder::new(limits(), 100, 1_000)
}

fn table(name: &str) -> TableName {
    TableName::new("main", "default", name).unwrap()
}

fn budget(name: &str, bytes: Option<u64>, retain: Retain) -> TableBudget {
    TableBudget {
        table: table(name),
        budget: bytes.map(ByteCount),
        priority: RetentionConfig::PRIORITY,
        retain,
    }
}

fn sealed(bytes: u64) -> TableUsage {
    TableUsage {
        bytes,
        evictable: bytes > 0,
    }
}

/// One table that takes so many per cent of the room.
fn full(percent: u64) -> Usage {
    Usage {
        sealed: BTreeMap::from([(table("t"), sealed(ROOM / 100 * percent))]),
        ..Usage::default()
    }
}

fn on_disk(free: u64, usage: Usage) -> Usage {
    let space = Space {
        total: ByteCount(1 << 40),
        free: ByteCount(free),
        free_files: u64::MAX,
    };
    Usage {
        space: Some(space),
        ..usage
    }
}

#[test]
fn each_rung_is_entered_where_it_is_documented_and_left_five_below() {
    let mut ladder = ladder();
    let mut rungs = Vec::new();
    for percent in [69, 70, 65, 64, 85, 90, 95, 96, 90, 89, 84, 79, 64] {
        assert_eq!(ladder.step(&[], &full(percent)), None);
        rungs.push(ladder.rung(&table("t")));
    }
    use Rung::{Fifth, Half, Normal, Shed, Tenth};
    assert_eq!(
        rungs,
        [
            Normal, Shed, Shed, Normal, Half, Fifth, Tenth, Tenth, Tenth, Fifth, Half, Shed, Normal
        ]
    );
    assert_eq!(ladder.step(&[], &full(100)), Some(Effect::Evict(None)));
    assert_eq!(ladder.rung(&table("t")), Rung::Full);
    let policy = ladder.policy().default;
    assert_eq!(
        (policy.shed_cap, policy.one_in, policy.stopped),
        (Some(100), 10, false)
    );
}

#[test]
fn quarantine_goes_before_rows_and_nothing_to_go_means_no_row_is_taken() {
    let mut ladder = ladder();
    let mut usage = full(100);
    usage.quarantine = 1;
    assert_eq!(ladder.step(&[], &usage), Some(Effect::RemoveQuarantine));
    let log_only = Usage {
        kept: ROOM,
        ..Usage::default()
    };
    assert_eq!(ladder.step(&[], &log_only), None);
    assert!(ladder.policy().default.stopped);
    // It takes rows again when there is room, and not before.
    let kept = |percent| Usage {
        kept: ROOM / 100 * percent,
        ..Usage::default()
    };
    ladder.step(&[], &kept(96));
    assert!(ladder.policy().default.stopped);
    ladder.step(&[], &kept(94));
    assert_eq!(ladder.policy().default.one_in, 10);
}

#[test]
fn the_free_space_floor_counts_like_the_budget() {
    let mut ladder = ladder();
    let usage = full(10);
    // What rows take and what may still be taken is the room.
    let above = |bytes: u64| on_disk(limits().floor + bytes, usage.clone());
    assert_eq!(ladder.step(&[], &above(usage.bytes())), None);
    assert_eq!(ladder.rung(&table("t")), Rung::Normal);
    assert_eq!(ladder.step(&[], &above(usage.bytes() / 4)), None);
    assert_eq!(ladder.rung(&table("t")), Rung::Shed);
    assert_eq!(ladder.step(&[], &above(0)), Some(Effect::Evict(None)));
    let nothing_here = on_disk(limits().floor / 2, Usage::default());
    assert_eq!(ladder.step(&[], &nothing_here), None);
    assert_eq!(ladder.rung(&table("t")), Rung::Stopped);
}

#[test]
fn a_table_climbs_with_its_own_budget_and_takes_no_other_with_it() {
    let mut ladder = ladder();
    let budgets = [budget("small", Some(1_000), Retain::DropOldest)];
    let usage = Usage {
        sealed: BTreeMap::from([(table("small"), sealed(1_000)), (table("t"), sealed(5_000))]),
        ..Usage::default()
    };
    let effect = ladder.step(&budgets, &usage);
    assert_eq!(effect, Some(Effect::Evict(Some(table("small")))));
    assert_eq!(ladder.rung(&table("small")), Rung::Full);
    assert_eq!(ladder.rung(&table("t")), Rung::Normal);
    // A budget that is taken back leaves the table with all others.
    assert_eq!(ladder.step(&[], &usage), None);
    assert_eq!(ladder.rung(&table("small")), Rung::Normal);
}

#[test]
fn a_table_that_stops_keeps_whole_rows_until_its_room_is_full() {
    let mut ladder = ladder();
    let budgets = [budget("audit", Some(1_000), Retain::Stop)];
    let usage = |audit, other| Usage {
        sealed: BTreeMap::from([(table("audit"), sealed(audit)), (table("t"), sealed(other))]),
        ..Usage::default()
    };
    ladder.step(&budgets, &usage(990, ROOM / 100 * 96));
    let policy = ladder.policy();
    assert_eq!(policy.of(&table("audit")), TablePolicy::keep_all(1_000));
    assert_eq!(policy.of(&table("t")).one_in, 10);
    // Its own budget is full: it stops, alone.
    assert_eq!(ladder.step(&budgets, &usage(1_000, 10)), None);
    assert!(ladder.policy().of(&table("audit")).stopped);
    assert!(!ladder.policy().of(&table("t")).stopped);
    // All room is full: others go first, and only then does it stop.
    let unbounded = [budget("audit", None, Retain::Stop)];
    assert_eq!(
        ladder.step(&unbounded, &usage(ROOM - 10, 10)),
        Some(Effect::Evict(None))
    );
    assert!(!ladder.policy().of(&table("audit")).stopped);
    assert_eq!(ladder.step(&unbounded, &usage(ROOM, 0)), None);
    assert!(ladder.policy().of(&table("audit")).stopped);
}

#[test]
fn the_defaults_follow_the_disk() {
    let disk = |bytes| {
        Some(Space {
            total: ByteCount(bytes),
            free: ByteCount(bytes / 2),
            free_files: 1_000,
        })
    };
    let of = |disk| Limits::of(&BudgetOptions::default(), disk, 8 << 20);
    let large = of(disk(1 << 40));
    assert_eq!(
        (large.total, large.floor, large.seal_size),
        (2_000_000_000, 1 << 30, 8 << 20)
    );
    let card = of(disk(8 << 30));
    assert_eq!((card.total, card.floor), ((8 << 30) / 10, (8 << 30) / 50));
    let tiny = of(disk(48 << 20));
    assert_eq!((tiny.floor, tiny.seal_size), (12 << 20, tiny.total / 32));
    assert_eq!(of(None).total, 2_000_000_000);
}

proptest! {
    /// Whatever happens: a fuller disk never keeps more, gaps and tables that stop are never
    /// touched, and as long as something goes at each step there is room in the end.
    #[test]
    fn the_ladder_makes_room_and_touches_nothing_that_stays(
        files in proptest::collection::vec((0_u8..3, 1_000_u64..300_000), 0..40),
        kept in 0_u64..ROOM,
        quarantine in 0_u64..50_000,
    ) {
        let budgets = [
            budget("t0", Some(ROOM / 4), Retain::DropOldest),
            budget("t1", Some(ROOM / 4), Retain::Stop),
        ];
        let mut ladder = ladder();
        let mut files = files;
        let mut quarantine = quarantine;
        for _ in 0..100 {
            let mut usage = Usage { kept, quarantine, ..Usage::default() };
            for (number, bytes) in &files {
                let table = usage.sealed.entry(table(&format!("t{number}"))).or_default();
                table.bytes += bytes;
                table.evictable = true;
            }
            let used = usage.bytes();
            let effect = ladder.step(&budgets, &usage);
            for (name, number) in [("t0", 0), ("t2", 2)] {
                let rung = ladder.rung(&table(name));
                let has_files = files.iter().any(|(file, _)| *file == number);
                prop_assert!(!(rung == Rung::Stopped && has_files), "{name} could make room");
            }
            match effect {
                None => {
                    let can_go = files.iter().any(|(number, _)| *number != 1);
                    prop_assert!(used < ROOM || !(can_go || quarantine > 0));
                    return Ok(());
                }
                Some(Effect::RemoveQuarantine) => {
                    prop_assert!(quarantine > 0);
                    quarantine = 0;
                }
                Some(Effect::Evict(scope)) => {
                    let may_go = |number: u8| match &scope {
                        None => number != 1,
                        Some(scope) => *scope == table(&format!("t{number}")),
                    };
                    prop_assert!(scope != Some(table("t1")), "a table that stops lost rows");
                    let place = files.iter().position(|(number, _)| may_go(*number));
                    prop_assert!(place.is_some(), "nothing there could go");
                    files.remove(place.unwrap_or(0));
                }
            }
        }
        prop_assert!(false, "the ladder does not come to an end");
    }

    #[test]
    fn a_fuller_disk_keeps_no_more(percents in proptest::collection::vec(0_u64..120, 1..30)) {
        let mut ladder = ladder();
        for percent in percents {
            let before = ladder.rung(&table("t"));
            ladder.step(&[], &full(percent));
            let now = ladder.rung(&table("t"));
            let reached = Rung::Normal.at(percent);
            prop_assert!(now >= reached);
            // It stands above what is reached only by leeway.
            prop_assert!(now == reached || (now <= before && percent + HYSTERESIS >= now.entered_at()));
        }
    }
}

#[test]
fn a_disk_without_room_for_more_files_is_full_whatever_bytes_are_free() {
    let with_files = |free_files| {
        let mut usage = on_disk(1 << 40, full(10));
        usage.space = usage.space.map(|space| Space {
            free_files,
            ..space
        });
        usage
    };
    let mut ladder = ladder();
    assert_eq!(ladder.step(&[], &with_files(LEAST_FILES)), None);
    assert_eq!(ladder.general(), Rung::Normal);
    let last = with_files(LEAST_FILES - 1);
    assert_eq!(ladder.step(&[], &last), Some(Effect::Evict(None)));
    assert_eq!(ladder.general(), Rung::Full);
    // The same as without a free byte: where nothing can go, no row is taken.
    let nothing = Usage {
        sealed: BTreeMap::new(),
        kept: 1,
        ..last
    };
    assert_eq!(ladder.step(&[], &nothing), None);
    assert!(ladder.policy().default.stopped);
    assert_eq!(ladder.step(&[], &with_files(LEAST_FILES)), None);
    assert_eq!(ladder.general(), Rung::Normal);
    assert!(!ladder.policy().default.stopped);
}
