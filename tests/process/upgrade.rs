//! Upgrade and rollback between two versions of the formats, with rows in flight.
//!
//! ```text
//! fixtures   version 0 as files --upgrade--> today's binary, under load
//! future     today's binary --> its files become version 2 --refused, rollback--> today's binary
//!            --> the files are readable again: the newer version is back --> everything lands
//! binaries   a binary of version 0 --upgrade--> today's --refused, rollback--> version 0
//!            --upgrade--> today's --> everything lands; where EDGEWARD_OLD_BIN names one
//! ```
//!
//! Each is made of rounds that are killed under load, and ends as all rounds do: what was
//! acknowledged is there, each owed row landed once, rows and gaps make the last sequence.

use std::fs;
use std::path::{Path, PathBuf};

use edgeward_harness::process::run;
use edgeward_harness::{edgeward, floors, skip, wait, workspace};
use serde_json::Value;

use crate::fleet::{Disks, Fleet};
use crate::rounds::{End, ROWS, Rounds};

mod newer;

use newer::Newer;

const SEED: u64 = 0x0DD;
/// Rounds of each version between two changes of version.
const ROUNDS: u64 = 2;
/// Exit status of a binary that meets the state of a newer one.
const REFUSED: &str = "exit status: 78";

/// Rounds that end with `kill -9`. The last one is without a broker, so that nothing lands, and lasts
/// until rows are sealed: some are in flight in the log, and some in a file.
fn load(rounds: &mut Rounds) {
    for round in 1..=ROUNDS {
        let end = End::of_the_process();
        let is_last = round == ROUNDS;
        if is_last {
            rounds.fleet.broker.kill();
        }
        rounds.round(&end, |fleet, _| {
            if is_last {
                let state = fleet.device.state();
                let sealed = || newer::sealed(&state).is_some().then_some(());
                wait::until("rows are sealed and accounted for", sealed);
            }
            end.begin();
            fleet.device.kill();
        });
        if is_last {
            rounds.fleet.broker.restart();
        }
    }
}

/// What `serve` says when it refuses the state.
fn refused(fleet: &mut Fleet) -> String {
    let said = fleet.device.try_start().unwrap_err();
    assert!(said.contains(REFUSED), "{said}");
    said
}

/// The device's share of today's `edgeward state rollback`.
fn rollback(fleet: &Fleet) -> Value {
    let state = fleet.device.state();
    let arguments = ["state", "rollback", "--output", "json", "--state"].map(AsRef::as_ref);
    let arguments: Vec<&std::ffi::OsStr> = [&arguments[..], &[state.as_os_str()]].concat();
    run(&edgeward(), &arguments).json()
}

fn copy_into(fixture: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let from = workspace().join("tests/fixtures").join(fixture).join(".");
    let arguments = ["-r".as_ref(), from.as_os_str(), to.as_os_str()];
    run(Path::new("cp"), &arguments).success();
}

#[test]
fn what_version_0_left_is_taken_up_under_load() {
    const NAME: &str = "process.upgrade.fixtures";
    let prepared = Fleet::start_prepared(NAME, ROWS, Disks::default(), |device| {
        copy_into("state-v0", &device.state());
        copy_into("rows-v0", &device.state().join("rows"));
    });
    let Some(mut fleet) = prepared else {
        return;
    };
    let kept = format!("export/pre-{}.export", env!("CARGO_PKG_VERSION"));
    assert!(fleet.device.state().join(kept).is_file());
    let mut client = fleet.device.client();
    for endpoint in ["tumour-a", "tumour-b"] {
        let found = client.get(&format!("/api/2.0/serving-endpoints/{endpoint}"));
        assert_eq!(found.status, 200, "{}", found.text());
    }
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    load(&mut rounds);
    let landing = rounds.settle();
    let older = landing
        .boots
        .iter()
        .filter(|(boot, _)| boot.boot == "c979cc2a17c1c47f");
    let older: Vec<_> = older
        .map(|(boot, landed)| (boot.table.as_str(), landed.rows.len()))
        .collect();
    assert_eq!(
        older,
        [
            ("edgeward.system._unmatched", 2),
            ("main.default.fraud", 32)
        ]
    );
    floors::reached("process.upgrade.fixtures.older_rows", 2 + 32);
}

#[test]
fn a_newer_version_is_gone_back_from_and_its_rows_land_when_it_returns() {
    const NAME: &str = "process.upgrade.future";
    let Some(fleet) = Fleet::start(NAME, ROWS) else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    load(&mut rounds);
    let known = rounds.look();
    let state = rounds.fleet.device.state();
    newer::keep_state(&state);
    load(&mut rounds);

    let newer = Newer::make(&state);
    let said = refused(&mut rounds.fleet);
    assert!(said.contains("edgeward state rollback"), "{said}");
    newer.assert_untouched();
    let rolled = rollback(&rounds.fleet);
    assert!(
        rolled["from"].as_str().unwrap().contains("pre-"),
        "{rolled}"
    );
    rounds.expect(known);
    load(&mut rounds);
    newer.assert_untouched();
    newer.assert_is_named(&rounds.fleet.device);

    let (logs, files) = newer.bring_back();
    println!("{NAME}: {logs} logs and {files} sealed files of version 2 were left untouched");
    load(&mut rounds);
    rounds.settle();
    floors::reached("process.upgrade.future.newer_logs", logs);
    floors::reached("process.upgrade.future.newer_sealed", files);
}

#[test]
fn two_binaries_take_turns_on_one_box() {
    const NAME: &str = "process.upgrade.binaries";
    let Some(older) = std::env::var_os("EDGEWARD_OLD_BIN").map(PathBuf::from) else {
        skip(NAME, "EDGEWARD_OLD_BIN names no binary of format version 0");
        return;
    };
    let fleet = Fleet::start_prepared(NAME, ROWS, Disks::default(), |device| {
        device.set_binary(older.clone());
    });
    let Some(fleet) = fleet else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    load(&mut rounds);

    rounds.fleet.device.set_binary(edgeward());
    let known = rounds.look();
    load(&mut rounds);

    rounds.fleet.device.set_binary(older);
    refused(&mut rounds.fleet);
    rollback(&rounds.fleet);
    rounds.expect(known);
    load(&mut rounds);

    rounds.fleet.device.set_binary(edgeward());
    load(&mut rounds);
    rounds.settle();
}
