//! The disk budget through the handle: rows stay within it, and gaps say what became of the rest.

use edgeward_base::durable::Space;

use super::*;
use crate::config::{Retain, RetentionConfig};

const BUDGET: ByteCount = ByteCount::mib(1);
/// What comes in at once.
const ROUND: u64 = 20;
/// Far more than it takes to fill the budget.
const ROUNDS: u64 = 1_000;

fn table() -> TableName {
    "main.default.fraud".parse().unwrap()
}

/// No row of the table goes to make room.
fn stop() -> TableBudget {
    TableBudget {
        table: table(),
        budget: Some(ByteCount::kib(256)),
        priority: RetentionConfig::PRIORITY,
        retain: Retain::Stop,
    }
}

fn small(directory: &Path, shed_payload: ByteCount) -> InferenceTables {
    let mut options = options(directory, 1);
    options.seal_size = ByteCount::kib(64);
    options.budget = BudgetOptions {
        total: Some(BUDGET),
        free_floor: Some(ByteCount(0)),
        shed_payload,
        ..BudgetOptions::default()
    };
    let tables = open(options);
    tables.set_budgets(Vec::new());
    tables
}

/// A row whose payload cannot be compressed.
fn row(number: u64) -> Row {
    let mut row = super::row(number);
    let noise: String = (0..200_u64)
        .map(|place| {
            let mixed = (number * 1_000 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{:016x}", mixed ^ (mixed >> 31))
        })
        .collect();
    row.request = Some(Bytes::from(noise));
    row
}

/// Offers rows until something is true of the log; answers how many.
async fn offer_until(tables: &InferenceTables, done: impl Fn(&InferenceTables) -> bool) -> u64 {
    for round in 0..ROUNDS {
        if done(tables) {
            return round * ROUND;
        }
        for number in 0..ROUND {
            tables.offer(&table(), &row(round * ROUND + number));
        }
        tables.seal().await.unwrap();
        assert!(tables.disk_use().bytes <= BUDGET, "{:?}", tables.disk_use());
    }
    panic!("never: {:?} {:?}", tables.disk_use(), tables.counters());
}

/// Rows and gaps of all tables, as the accounts have them.
async fn accounted(tables: &InferenceTables, folder: &Path) -> (u64, u64) {
    tables.close(true).await.unwrap();
    let report = verify(&RealFs, folder).unwrap();
    assert!(report.is_sound(), "{report}");
    let tables = report.boots.iter().flat_map(|boot| &boot.tables);
    tables.fold((0, 0), |sums, table| {
        (sums.0 + table.rows, sums.1 + table.gaps)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_budget_samples_then_gives_up_the_oldest_and_accounts_for_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let tables = small(folder.path(), ByteCount::mib(1));
    let offered = offer_until(&tables, |tables| tables.disk_use().evicted_rows > 0).await;
    let disk_use = tables.disk_use();
    let (counters, evicted) = (tables.counters(), disk_use.evicted_rows);
    assert!(counters.sampled > 0 && counters.shed == 0, "{counters:?}");
    assert!(
        ["sample", "full"].contains(&disk_use.rungs[0].1),
        "{disk_use:?}"
    );
    assert_eq!(counters.committed + counters.sampled, offered);
    let (rows, gaps) = accounted(&tables, folder.path()).await;
    assert_eq!(
        (rows, gaps),
        (counters.committed - evicted, counters.sampled + evicted)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_go_before_rows_do() {
    let folder = tempfile::tempdir().unwrap();
    let tables = small(folder.path(), ByteCount::kib(1));
    let offered = offer_until(&tables, |tables| tables.counters().shed > 0).await;
    let counters = tables.counters();
    assert_eq!((counters.sampled, counters.committed), (0, offered));
    assert_eq!(accounted(&tables, folder.path()).await, (offered, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stops_keeps_what_it_has_and_counts_what_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let tables = small(folder.path(), ByteCount::kib(1));
    tables.set_budgets(vec![stop()]);
    let offered = offer_until(&tables, |tables| tables.counters().refused > 0).await;
    let counters = tables.counters();
    assert_eq!((counters.sampled, counters.shed), (0, 0));
    assert_eq!(tables.disk_use().evicted_rows, 0);
    assert_eq!(tables.disk_use().rungs, [(table(), "stopped")]);
    assert_eq!(
        accounted(&tables, folder.path()).await,
        (counters.committed, counters.refused)
    );
    assert_eq!(counters.committed + counters.refused, offered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stops_keeps_what_it_has_at_the_next_start_and_without_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let tables = small(folder.path(), ByteCount::kib(1));
    tables.set_budgets(vec![stop()]);
    offer_until(&tables, |tables| tables.counters().refused > 0).await;
    let (rows, _) = accounted(&tables, folder.path()).await;
    // Others take the disk: there is no room at all, whatever rows do.
    let mut full = options(folder.path(), 2);
    full.budget.total = Some(ByteCount::kib(64));
    full.budget.free_floor = Some(ByteCount(0));
    let tables = open(full);
    tables.recovery().await.unwrap();
    tables.seal().await.unwrap();
    assert_eq!(
        tables.disk_use().evicted_rows,
        0,
        "before the budgets are known"
    );
    for number in 0..ROUND {
        tables.offer(&table(), &row(number));
    }
    tables.seal().await.unwrap();
    assert_eq!(tables.counters().committed, ROUND, "every new row is kept");
    // Its endpoint was deleted while the box was off: only what came since is no audit.
    tables.set_budgets(Vec::new());
    tables.seal().await.unwrap();
    assert_eq!(tables.disk_use().evicted_rows, ROUND, "without a budget");
    assert_eq!(tables.disk_use().rungs, [(table(), "stopped")]);
    assert_eq!(accounted(&tables, folder.path()).await.0, rows);
    // Who configures something else may have room.
    let mut full = options(folder.path(), 3);
    full.budget.total = Some(ByteCount::kib(64));
    full.budget.free_floor = Some(ByteCount(0));
    let tables = open(full);
    tables.set_budgets(vec![TableBudget {
        retain: Retain::DropOldest,
        ..stop()
    }]);
    tables.seal().await.unwrap();
    assert!(
        tables.disk_use().evicted_rows > 0,
        "{:?}",
        tables.disk_use()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_files_to_spare_takes_no_row_and_says_so_of_a_table_without_any() {
    let folder = tempfile::tempdir().unwrap();
    let fs = FaultFs::failing_once(RealFs::shared(), 0, std::io::ErrorKind::Other);
    let with_files = |free_files| {
        Some(Space {
            total: ByteCount::mib(1 << 20),
            free: ByteCount::mib(1 << 19),
            free_files,
        })
    };
    fs.set_space(with_files(63));
    let mut options = options(folder.path(), 1);
    options.fs = Arc::new(fs.clone());
    let tables = open(options);
    tables.recovery().await.unwrap();
    assert_eq!(tables.disk_use().rung, None, "nobody has decided yet");
    tables.set_budgets(Vec::new());
    tables.seal().await.unwrap();
    let disk_use = tables.disk_use();
    assert_eq!(
        (disk_use.rung, disk_use.free_files),
        (Some("stopped"), Some(63))
    );
    assert_eq!(disk_use.rungs, [], "no table has a row");
    tables.offer(&table(), &row(1));
    assert_eq!(
        (tables.counters().refused, tables.counters().offered),
        (1, 0)
    );
    fs.set_space(with_files(64));
    tables.seal().await.unwrap();
    assert_eq!(tables.disk_use().rung, Some("normal"));
    tables.offer(&table(), &row(2));
    tables.seal().await.unwrap();
    let counters = tables.counters();
    assert_eq!((counters.offered, counters.committed), (1, 1));
    assert_eq!(accounted(&tables, folder.path()).await, (1, 1));
}
