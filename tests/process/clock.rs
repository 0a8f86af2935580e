//! Wrong clocks: a box that starts in 1970, and one whose clock jumps, under load.
//!
//! The clock of the device is the test's to move; that of the machine and all monotonic time is
//! real, as on a box without a battery. What arrived when is known, so each row's time can be held
//! against it.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use edgeward_harness::clock::{MovedClock, real_time};
use edgeward_harness::{floors, wait};

use crate::fleet::{Disks, Fleet};
use crate::landing::{batches, files, text};
use crate::rounds::{End, Rounds};

const SEED: u64 = 1970;
const DAY: i64 = 86_400;
/// Nothing is sealed because of its age: what waits for the clock waits in the log.
const ROWS: &str = "[inference_table]\ncommit_interval = \"50ms\"\nseal_after = \"1h\"\n\
                    channel_size = \"256MiB\"\n";

fn fleet(case: &str, clock: &MovedClock) -> Option<Fleet> {
    Fleet::start_prepared(case, ROWS, Disks::default(), |device| {
        clock.install(device);
        device.set_environment("WATCHDOG_USEC", "1000000");
    })
}

fn committed(fleet: &Fleet) -> u64 {
    fleet.device.status()["rows"]["committed"].as_u64().unwrap()
}

/// When the rows of each boot arrived, first and last, and how many there are of each quality.
#[derive(Default)]
struct Dated {
    boots: BTreeMap<String, (i64, i64)>,
    qualities: BTreeMap<String, u64>,
}

impl Dated {
    /// Reads every row, and asserts that it lies in the folder of its day.
    fn read(landing: &Path) -> Self {
        let mut dated = Self::default();
        let payloads = files(landing).into_iter().filter(|file| {
            file.iter()
                .any(|level| level.to_string_lossy().ends_with("_payload"))
        });
        for file in payloads {
            for batch in batches(&file) {
                let times = batch["request_time"].as_primitive::<TimestampMicrosecondType>();
                let days = batch["request_date"].as_primitive::<Date32Type>();
                for row in 0..batch.num_rows() {
                    let time = times.value(row);
                    assert_eq!(
                        i64::from(days.value(row)),
                        time.div_euclid(DAY * 1_000_000),
                        "{}",
                        file.display()
                    );
                    let boot = dated.boots.entry(text(&batch, "boot_id", row));
                    let (first, last) = boot.or_insert((time, time));
                    (*first, *last) = ((*first).min(time), (*last).max(time));
                    let quality = text(&batch, "clock_quality", row);
                    *dated.qualities.entry(quality).or_default() += 1;
                }
            }
        }
        dated
    }

    fn count(&self, quality: &str) -> u64 {
        self.qualities.get(quality).copied().unwrap_or(0)
    }
}

#[test]
fn rows_of_1970_get_the_time_at_which_they_arrived() {
    const NAME: &str = "process.clock.unset";
    let clock = MovedClock::build();
    clock.start_in_1970();
    let began = i64::try_from(real_time().as_micros()).unwrap();
    let Some(fleet) = fleet(NAME, &clock) else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    for _ in 0..2 {
        let end = End::of_the_process();
        rounds.round(&end, |fleet, _| {
            end.begin();
            fleet.device.kill();
        });
        clock.start_in_1970();
    }
    assert_eq!(
        rounds.fleet.registry.landed("_payload"),
        Vec::<std::path::PathBuf>::new(),
        "before the time is known"
    );
    let end = End::of_the_process();
    rounds.round(&end, |fleet, _| {
        clock.set_synchronised(true);
        clock.move_by(0);
        wait::until("rows land once the time is known", || {
            (!fleet.registry.landed("_payload").is_empty()).then_some(())
        });
        end.begin();
        fleet.device.kill();
    });
    let mut dated = Dated::default();
    rounds.settle_and(|landing| dated = Dated::read(landing));

    let ended = i64::try_from(real_time().as_micros()).unwrap();
    let mut spans: Vec<_> = dated.boots.values().copied().collect();
    spans.sort_unstable();
    let mut before = began;
    for (first, last) in spans {
        assert!(
            before <= first && last <= ended,
            "{:?} since {began}",
            dated.boots
        );
        before = last;
    }
    println!(
        "{NAME}: {} boots, rows by quality: {:?}",
        dated.boots.len(),
        dated.qualities
    );
    assert_eq!(dated.count("unsynced"), 0);
    floors::reached("process.clock.unset.corrected", dated.count("corrected"));
}

#[test]
fn a_clock_that_jumps_loses_no_row_and_stops_nothing() {
    const NAME: &str = "process.clock.jumps";
    let clock = MovedClock::build();
    clock.set_synchronised(true);
    let Some(fleet) = fleet(NAME, &clock) else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    let jumps = [30 * DAY, 29 * DAY, 0];
    for _ in 0..2 {
        let end = End::of_the_process();
        rounds.round(&end, |fleet, _| {
            for jump in jumps {
                clock.move_by(jump);
                let before = committed(fleet);
                wait::until("rows are durable after a jump", || {
                    (committed(fleet) > before).then_some(())
                });
                fleet.device.wait_for_notice("WATCHDOG=1");
            }
            end.begin();
            fleet.device.kill();
        });
    }
    let mut dated = Dated::default();
    rounds.settle_and(|landing| dated = Dated::read(landing));
    let ahead = dated.boots.values();
    let ahead = ahead.map(|(first, last)| (last - first) / 1_000_000 / DAY);
    let ahead: Vec<_> = ahead.filter(|days| *days >= 29).collect();
    assert!(!ahead.is_empty(), "no row saw a jump: {:?}", dated.boots);
}
