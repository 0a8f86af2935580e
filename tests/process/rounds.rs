//! Rounds of load that end suddenly: what a killed process and a disk without power have in common.
//!
//! Each round starts the daemon, compares its state with what it acknowledged, loads it with
//! requests and changes, and ends it. After the last one everything lands, and each request that
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
mod concerned;
mod load;
mod state;

use crate::fleet::{DEVICE, Fleet};
use crate::landing::{Boot, Landed, Landing};
use commits::{Commits, Watcher};
use concerned::Concerned;
use load::Load;
use state::Changer;
pub(crate) use state::Known;

/// Rows become durable soon, and however long the disk takes, all that wait find room: a request
/// that was answered is owed its row.
pub(crate) const ROWS: &str = "[inference_table]\ncommit_interval = \"50ms\"\nseal_after = \"1s\"\n\
                               channel_size = \"256MiB\"\n";
/// When a round ends, after the daemon is ready: milliseconds.
const ENDS_AFTER: std::ops::RangeInclusive<u64> = 50..=900;
/// How a start ended whose last row is known.
const CLEAN: &str = "clean";
/// So many boots that have landed the device still knows, at least.
const ACCOUNTS_KEPT: usize = 100;
/// How long the last rows of some rounds may take to land, and how much longer those of each round.
const LANDING_TIME: Duration = Duration::from_secs(180);
const LANDING_TIME_OF_A_ROUND: Duration = Duration::from_secs(6);

/// The end of a round, as its clients see it.
pub(crate) struct End {
    begun: AtomicBool,
    answers_count: bool,
}

impl End {
    /// The process is killed: what it had sent by then it had done, also when it is read later.
    pub(crate) fn of_the_process() -> Self {
        Self {
            begun: AtomicBool::new(false),
            answers_count: true,
        }
    }

    /// The power is cut: what was not read before is in doubt, the process may say anything.
    pub(crate) fn of_the_power() -> Self {
        Self {
            begun: AtomicBool::new(false),
            answers_count: false,
        }
    }

    /// To be said just before the end.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether an answer that was read just now counts.
    fn counts(&self) -> bool {
        self.answers_count || !self.has_begun()
    }
}

/// What the rounds have done.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    changes: u64,
    in_doubt: u64,
    /// Ids of requests whose rows must land, with their rounds.
    owed: BTreeMap<String, u64>,
    /// What was seen to be durable, by boot.
    committed: BTreeMap<String, Durable>,
    slowest_commit: Duration,
}

/// What a round saw of its boot.
#[derive(Debug)]
struct Durable {
    round: u64,
    rows: u64,
    /// Rows that found no room, by counter.
    left_out: String,
}

/// A fleet that goes through rounds.
pub(crate) struct Rounds {
    pub(crate) fleet: Fleet,
    name: &'static str,
    seed: u64,
    done: u64,
    clock: SharedClock,
    known: Known,
    /// Whether the state was put back, which leaves an export without a database.
    put_back: bool,
    tally: Tally,
}

impl Rounds {
    /// Rounds named `name` in `tests/floors.toml`; every draw comes from `seed` and the round's
    /// number.
    pub(crate) fn new(name: &'static str, mut fleet: Fleet, seed: u64) -> Self {
        fleet.publish_models(None);
        fleet.publish_endpoint(50);
        Self {
            known: Known::read(&mut fleet.device),
            fleet,
            name,
            seed,
            done: 0,
            clock: SystemClock::shared(),
            put_back: false,
            tally: Tally::default(),
        }
    }

    /// One round: load, until `finish` says that the end begins and brings it about.
    pub(crate) fn round(&mut self, end: &End, finish: impl FnOnce(&mut Fleet, &mut StdRng)) {
        if self.done > 0 {
            self.restart();
        }
        let fleet = &mut self.fleet;
        let mut random = StdRng::seed_from_u64(self.seed ^ (self.done << 32));
        let moment = Duration::from_millis(random.random_range(ENDS_AFTER));
        let changes = StdRng::seed_from_u64(random.random());
        let load = Load::new(&mut fleet.device, &self.clock, end);
        let changer = Changer::new(&mut fleet.device, &mut self.known, changes, end);
        let watcher = Watcher::new(&fleet.device, &self.clock, end);
        let (answered, changes, commits) = thread::scope(|scope| {
            let clients = load
                .clients()
                .map(|client| scope.spawn(move || client.run()));
            let clients: Vec<_> = clients.collect();
            let changer = scope.spawn(move || changer.run());
            let watcher = scope.spawn(move || watcher.run());
            wait::pass(moment);
            finish(fleet, &mut random);
            let answered = clients
                .into_iter()
                .flat_map(|client| client.join().unwrap());
            let answered: Vec<_> = answered.collect();
            (answered, changer.join().unwrap(), watcher.join().unwrap())
        });
        let tally = &mut self.tally;
        tally.changes += changes.acknowledged;
        tally.in_doubt += changes.in_doubt;
        tally.requests += u64::try_from(answered.len()).unwrap();
        let Commits {
            boot,
            rows,
            owed_until,
            slowest,
            left_out,
        } = commits;
        let round = self.done;
        tally.slowest_commit = tally.slowest_commit.max(slowest);
        let owed = answered
            .into_iter()
            .filter(|answered| Some(answered.at) < owed_until);
        let owed = owed.map(|answered| (answered.request_id, round));
        tally.owed.extend(owed);
        let durable = Durable {
            round,
            rows,
            left_out,
        };
        tally.committed.insert(boot, durable);
        self.done += 1;
    }

    /// Starts the daemon, asserts that it has all that it acknowledged, and kills it while nothing
    /// changes. Answers what it has.
    pub(crate) fn look(&mut self) -> Known {
        self.restart();
        self.fleet.device.kill();
        self.known.clone()
    }

    /// The next start must find what an earlier look found: someone has put that state back.
    pub(crate) fn expect(&mut self, known: Known) {
        self.known = known;
        self.put_back = true;
    }

    /// Starts the daemon and asserts that it has all that it acknowledged, in the database itself:
    /// the export must not have to stand in for one that was not synced.
    fn restart(&mut self) {
        self.fleet.device.start();
        let rebuilt = &self.fleet.device.status()["state"]["rebuilt"];
        let rebuilt = (*rebuilt != Value::Null).then(|| rebuilt.to_string());
        let expected = std::mem::take(&mut self.put_back).then(|| "\"missing\"".to_owned());
        assert_eq!(rebuilt, expected, "round {}", self.done);
        self.known.compare(&mut self.fleet.device, self.done);
    }

    /// Waits until everything has landed and asserts that nothing is lost, doubled or unknown.
    /// Answers what landed.
    pub(crate) fn settle(self) -> Landing {
        self.settle_and(|_| {})
    }

    /// Like [`settle`](Self::settle), with a look at the landing folder.
    pub(crate) fn settle_and(mut self, look: impl FnOnce(&Path)) -> Landing {
        self.restart();
        let Self {
            mut fleet,
            name,
            done,
            tally,
            ..
        } = self;
        let (landing, gaps) = all_landed(&fleet, done.try_into().unwrap());
        let rows = landing.rows();
        let concerned = Concerned::find(&tally, &landing);
        assert!(
            concerned.is_empty(),
            "{concerned}; {gaps} sequences are in gaps\n{}\nthe device warned:\n{}",
            concerned::gaps(&landing),
            fleet.device.warnings().join("\n")
        );
        let owed = tally.owed.len();
        println!(
            "{name}: {done} rounds; {} requests answered, {owed} of them owed a row; {rows} rows \
             landed in {} boots and tables, {gaps} sequences in gaps; {} changes acknowledged, {} \
             in doubt at the end of a round; slowest group commit {:?}",
            tally.requests,
            landing.boots.len(),
            tally.changes,
            tally.in_doubt,
            tally.slowest_commit,
        );
        floors::reached(&format!("{name}.rounds"), done);
        floors::reached(&format!("{name}.changes"), tally.changes);
        floors::reached(&format!("{name}.owed_rows"), owed.try_into().unwrap());
        look(&fleet.registry.landing());
        fleet.device.stop();
        fleet.registry.stop();
        landing
    }
}

/// Waits until every row and every end of a boot has landed, and asserts that they are what the
/// device accounts for; answers the landing folder and how many sequences are in gaps. The more
/// rounds there were, the longer it may take.
pub(crate) fn all_landed(fleet: &Fleet, rounds: u32) -> (Landing, i64) {
    let account = wait_until_landed(fleet, LANDING_TIME + rounds * LANDING_TIME_OF_A_ROUND);
    let landing = Landing::read(&fleet.registry.landing());
    let gaps = check_rows(&landing, &account);
    (landing, gaps)
}

/// What the device says of each table in each boot: `edgeward logs verify`.
type Account = BTreeMap<Boot, Value>;

/// What is waited for, said when it was in vain.
#[derive(Default)]
struct Missing(String);

impl Drop for Missing {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("missing in the end: {}", self.0);
        }
    }
}

/// Waits until every row and every end of a boot has landed; answers the device's own account.
fn wait_until_landed(fleet: &Fleet, patience: Duration) -> Account {
    let mut missing = Missing::default();
    wait::within(patience, "every row has landed", || {
        let account = account(fleet).map_err(|unsound| missing.0 = unsound).ok()?;
        // A file of gaps may land after the rows of its boot: it was put together meanwhile.
        let landed_gaps = |table: &Value| table["causes"]["landed"].as_u64().unwrap_or(0);
        let waits = |(_, table): &(&Boot, &Value)| {
            table["landed"] != table["rows"] || table["gaps"] != landed_gaps(table)
        };
        if let Some((boot, table)) = account.iter().find(waits) {
            missing.0 = format!("{boot:?} {table}");
            return None;
        }
        let landing = Landing::read(&fleet.registry.landing());
        let open = |(boot, table): &(&Boot, &Value)| {
            let landed = landing.boots.get(boot);
            table["end"] != CLEAN && landed.is_none_or(|landed| landed.unknown_from.is_none())
        };
        if let Some((boot, table)) = account.iter().find(open) {
            missing.0 = format!("the end of {boot:?} {table}");
            return None;
        }
        Some(account)
    })
}

/// Asks the device for its account of the row log. While it is not sound, as the torn end of a log
/// is not until it has been recovered, the error is what it says.
fn account(fleet: &Fleet) -> Result<Account, String> {
    let verified = fleet
        .device
        .edgeward(&["logs", "verify", "--output", "json"]);
    if verified.code != Some(0) {
        return Err(verified.stdout);
    }
    let report = verified.json();
    let mut account = Account::new();
    for boot in report["boots"].as_array().unwrap() {
        for table in boot["tables"].as_array().unwrap() {
            let key = Boot {
                table: table["table"].as_str().unwrap().to_owned(),
                device: DEVICE.to_owned(),
                boot: boot["boot"].as_str().unwrap().to_owned(),
            };
            let mut table = table.clone();
            table["end"] = boot["end"].clone();
            account.insert(key, table);
        }
    }
    Ok(account)
}

/// Compares what landed with the device's account; answers how many sequences are in gaps.
fn check_rows(landing: &Landing, account: &Account) -> i64 {
    assert!(
        landing.doubled.is_empty(),
        "rows landed twice: {:?}",
        landing.doubled
    );
    for (boot, table) in account {
        let landed = landing.boots.get(boot);
        let landed = landed.unwrap_or_else(|| panic!("{boot:?} is known to the device alone"));
        let known = (table["last"].as_i64().unwrap(), table["end"] == CLEAN);
        check_sequences(boot, landed, known);
    }
    let known: BTreeSet<_> = account.keys().map(|boot| &boot.boot).collect();
    for (boot, landed) in &landing.boots {
        if !account.contains_key(boot) {
            // Of boots of which everything has landed, the device knows the newest hundred.
            assert!(
                known.len() >= ACCOUNTS_KEPT,
                "{boot:?} is unknown to the device"
            );
            check_sequences(boot, landed, (landed.last(), landed.unknown_from.is_none()));
        }
    }
    landing.boots.values().map(Landed::gap_rows).sum()
}

/// Each sequence from 1 to the last committed one is a row or is counted by a gap, never both.
fn check_sequences(boot: &Boot, landed: &Landed, (last, is_clean): (i64, bool)) {
    let gaps = landed.gaps.iter().map(|(gap, _)| gap.clone());
    let gaps: BTreeSet<i64> = gaps.flatten().collect();
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
        (!is_clean).then_some(last + 1),
        "{boot:?}: where knowledge ends"
    );
}

/// The socket of the command line.
fn admin_socket(state: &Path) -> std::path::PathBuf {
    state.join("admin.sock")
}
