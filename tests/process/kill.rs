//! `kill -9` of `edgeward serve` at random moments, under load.
//!
//! Each round starts the daemon, compares its state with what it acknowledged, loads it with
//! requests and changes, and kills it. After the last round everything lands, and each request that
//! had time to become durable must have exactly one row, with no sequence unaccounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use edgeward_base::clock::{SharedClock, SystemClock};
use edgeward_harness::{floors, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

mod commits;
mod load;
mod state;

use crate::fleet::{DEVICE, Fleet, QUICK_ROWS};
use crate::landing::{Boot, Landed, Landing};
use commits::{Commits, Watcher};
use load::Load;
use state::{Changer, Known};

/// How often the daemon is killed.
const ROUNDS: u64 = 50;
/// When, after it is ready: milliseconds.
const KILLED_AFTER: std::ops::RangeInclusive<u64> = 50..=900;
/// How long the last rows may take to land.
const LANDING_TIME: Duration = Duration::from_secs(180);
/// Every draw comes from this seed and the round's number.
const SEED: u64 = 0xED9E;

/// What the rounds have done.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    changes: u64,
    in_doubt: u64,
    /// Ids of requests whose rows must land.
    owed: BTreeSet<String>,
    /// What was seen to be durable, by boot.
    committed: BTreeMap<String, u64>,
    slowest_commit: Duration,
}

#[test]
fn nothing_acknowledged_is_lost_and_no_row_is_doubled() {
    let Some(mut fleet) = Fleet::start("process.kill", QUICK_ROWS) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(50);
    let clock = SystemClock::shared();
    let mut known = Known::read(&mut fleet.device);
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        if round > 0 {
            fleet.device.start();
            known.compare(&mut fleet.device, round);
        }
        kill_under_load(&mut fleet, &clock, &mut known, round, &mut tally);
    }
    fleet.device.start();
    known.compare(&mut fleet.device, ROUNDS);
    let account = wait_until_landed(&fleet);
    let landing = Landing::read(&fleet.registry.landing());
    let (rows, gaps) = check_rows(&landing, &account);
    let landed = landing.request_ids();
    let lost: Vec<_> = tally.owed.difference(&landed).take(10).collect();
    assert!(
        lost.is_empty(),
        "durable requests have no row: {lost:?}, ..."
    );
    check_commits(&landing, &tally.committed);
    println!(
        "process.kill: {} requests answered, {} of them owed a row; {rows} rows landed in {} boots \
         and tables, {gaps} sequences in gaps; {} changes acknowledged, {} in doubt when killed; \
         slowest group commit {:?}",
        tally.requests,
        tally.owed.len(),
        landing.boots.len(),
        tally.changes,
        tally.in_doubt,
        tally.slowest_commit,
    );
    floors::reached("process.kill.rounds", ROUNDS);
    floors::reached("process.kill.changes", tally.changes);
    floors::reached(
        "process.kill.owed_rows",
        tally.owed.len().try_into().unwrap(),
    );
    fleet.device.stop();
    fleet.registry.stop();
}

/// Loads the running daemon and kills it.
fn kill_under_load(
    fleet: &mut Fleet,
    clock: &SharedClock,
    known: &mut Known,
    round: u64,
    tally: &mut Tally,
) {
    let mut random = StdRng::seed_from_u64(SEED ^ (round << 32));
    let moment = Duration::from_millis(random.random_range(KILLED_AFTER));
    let killed = AtomicBool::new(false);
    let load = Load::new(&mut fleet.device, clock, &killed);
    let changer = Changer::new(&mut fleet.device, known, random, &killed);
    let watcher = Watcher::new(&fleet.device, clock, &killed);
    let (answered, changes, commits) = thread::scope(|scope| {
        let clients = load
            .clients()
            .map(|client| scope.spawn(move || client.run()));
        let clients: Vec<_> = clients.collect();
        let changer = scope.spawn(move || changer.run());
        let watcher = scope.spawn(move || watcher.run());
        wait::pass(moment);
        killed.store(true, Ordering::SeqCst);
        fleet.device.kill();
        let answered = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        let answered: Vec<_> = answered.collect();
        (answered, changer.join().unwrap(), watcher.join().unwrap())
    });
    tally.changes += changes.acknowledged;
    tally.in_doubt += changes.in_doubt;
    tally.requests += u64::try_from(answered.len()).unwrap();
    let Commits {
        boot,
        rows,
        owed_until,
        slowest,
    } = commits;
    tally.slowest_commit = tally.slowest_commit.max(slowest);
    let owed = answered
        .into_iter()
        .filter(|answered| Some(answered.at) < owed_until);
    tally.owed.extend(owed.map(|answered| answered.request_id));
    tally.committed.insert(boot, rows);
}

/// What was durable before a kill is durable after it.
fn check_commits(landing: &Landing, committed: &BTreeMap<String, u64>) {
    for (boot, rows) in committed {
        let of_boot = landing.boots.iter().filter(|(key, _)| key.boot == *boot);
        let landed: usize = of_boot.map(|(_, landed)| landed.rows.len()).sum();
        let landed = u64::try_from(landed).unwrap();
        assert!(
            landed >= *rows,
            "boot {boot}: {rows} rows were durable, {landed} landed"
        );
    }
}

/// What the device says of each table in each boot: `edgeward logs verify`.
type Account = BTreeMap<Boot, Value>;

/// Waits until every row and every end of a boot has landed; answers the device's own account,
/// read from its files with the daemon stopped.
fn wait_until_landed(fleet: &Fleet) -> Account {
    wait::within(LANDING_TIME, "every row has landed", || {
        let account = account(fleet);
        let waits = |(_, table): (&Boot, &Value)| table["landed"] != table["rows"];
        if account.iter().any(waits) {
            return None;
        }
        let landing = Landing::read(&fleet.registry.landing());
        let ended = |boot: &Boot| {
            landing
                .boots
                .get(boot)
                .is_some_and(|l| l.unknown_from.is_some())
        };
        account.keys().all(ended).then_some(account)
    })
}

/// Asks the device for its account of the row log.
fn account(fleet: &Fleet) -> Account {
    let report = fleet
        .device
        .edgeward(&["logs", "verify", "--output", "json"])
        .json();
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    let mut account = Account::new();
    for boot in report["boots"].as_array().unwrap() {
        for table in boot["tables"].as_array().unwrap() {
            let key = Boot {
                table: table["table"].as_str().unwrap().to_owned(),
                device: DEVICE.to_owned(),
                boot: boot["boot"].as_str().unwrap().to_owned(),
            };
            account.insert(key, table.clone());
        }
    }
    account
}

/// Compares what landed with the device's account; answers the sums of rows and of gaps.
fn check_rows(landing: &Landing, account: &Account) -> (usize, i64) {
    assert!(
        landing.doubled.is_empty(),
        "rows landed twice: {:?}",
        landing.doubled
    );
    let landed: Vec<_> = landing.boots.keys().collect();
    assert_eq!(
        landed,
        account.keys().collect::<Vec<_>>(),
        "landed, and known to the device"
    );
    for (boot, table) in account {
        check_sequences(boot, &landing.boots[boot], table["last"].as_i64().unwrap());
    }
    let gaps = landing.boots.values().map(Landed::gap_rows).sum();
    (landing.rows(), gaps)
}

/// Each sequence from 1 to the last committed one is a row or is counted by a gap, never both.
fn check_sequences(boot: &Boot, landed: &Landed, last: i64) {
    let gaps: BTreeSet<i64> = landed.gaps.iter().cloned().flatten().collect();
    assert_eq!(
        i64::try_from(gaps.len()).unwrap(),
        landed.gap_rows(),
        "{boot:?}: gaps overlap"
    );
    let rows = i64::try_from(landed.rows.len()).unwrap();
    assert!(
        gaps.iter()
            .all(|sequence| !landed.rows.contains_key(sequence)),
        "{boot:?}: a row in a gap"
    );
    assert_eq!(
        rows + landed.gap_rows(),
        last,
        "{boot:?}: rows and gaps make the last sequence"
    );
    assert_eq!(
        landed.last(),
        last,
        "{boot:?}: the last sequence that landed"
    );
    assert_eq!(
        landed.unknown_from,
        Some(last + 1),
        "{boot:?}: where knowledge ends"
    );
}

/// The socket of the command line.
fn admin_socket(state: &Path) -> std::path::PathBuf {
    state.join("admin.sock")
}
