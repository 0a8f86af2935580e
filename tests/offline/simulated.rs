//! The box: offers rows and moves the clock, until its time is over.
//!
//! Simulated time does not outrun the threads of the row log by more than a real box would: a
//! second is over when its rows are in the log, but for one commit's worth, and when no more than
//! one sealed segment waits for compaction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use edgeward::config::Retain;
use edgeward::inference_table::{
    BudgetOptions, InferenceTableOptions, InferenceTables, Row, TableBudget,
};
use edgeward::tasks::Tasks;
use edgeward_base::clock::{ClockQuality, SharedClock, TestClock};
use edgeward_base::durable::RealFs;
use edgeward_base::names::{BootId, TableName};
use edgeward_base::units::ByteCount;
use edgeward_harness::wait;
use serde_json::{Value, json};
use uuid::Builder;

use crate::week::{BOX, Plan};

/// 2026-08-01.
const START_US: i64 = 1_785_542_400_000_000;
/// Of each second: to the table that lets old rows go, and to the one that keeps them.
const FRAUD: u64 = 45;
const AUDIT: u64 = 5;
/// One request in so many is a batch, which is over what a full disk keeps of a payload.
const BATCHES: u64 = 200;
const BATCH: usize = 200;
/// Rows that may be on their way into the log: more than one commit's worth.
const ON_THE_WAY: u64 = 1_000;
/// Files of the log: one that is written, one that waits.
const LOG_FILES: usize = 2;
/// Where memory is compared, per cent of the time.
pub(crate) const MARKS: [u64; 2] = [10, 100];
/// So many seconds before a mark are real ones: that is how a box rests between its rows.
const REST: u64 = 5;
const BREATH: Duration = Duration::from_micros(200);

pub(crate) const TABLES: [(&str, u64); 2] =
    [("main.default.fraud", FRAUD), ("main.default.audit", AUDIT)];

/// One invocation of the fraud model, as `serving` would have written it.
fn row(number: u64, time_us: i64, endpoint: &str) -> Row {
    let noise = |salt: u64| {
        let mut bits = (number ^ salt.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits ^ (bits >> 31)
    };
    let millis = u64::try_from(time_us / 1_000).unwrap();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&noise(1).to_le_bytes());
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let amount = noise(2) % 1_000_000;
    let instance = format!(
        "[{}.{:02},\"electronics\",{},{}]",
        amount / 100,
        amount % 100,
        noise(3) % 24,
        noise(4) & 1 == 1
    );
    let instances = if noise(7).is_multiple_of(BATCHES) {
        vec![instance; BATCH].join(",")
    } else {
        instance
    };
    let score = noise(5) % 1_000_000;
    let mut row = Row::new(id, time_us);
    row.monotonic_us = u64::try_from(time_us - START_US).unwrap();
    row.clock_quality = ClockQuality::Ntp;
    row.request = Some(Bytes::from(format!(
        "{{\"dataframe_split\":{{\"columns\":[\"amount\",\"merchant_category\",\"hour\",\
         \"is_foreign\"],\"data\":[{instances}]}}}}"
    )));
    row.response = Some(Bytes::from(format!("{{\"predictions\":[0.{score:06}]}}")));
    row.endpoint_name = Some(endpoint.parse().unwrap());
    row.served_entity_name = Some("champion".parse().unwrap());
    row.entity_name = Some("main.default.fraud".parse().unwrap());
    row.entity_version = Some("3".parse().unwrap());
    row.config_version = Some(1);
    row.engine = Some("tract");
    row.execution_duration_us = 20 + noise(6) % 30;
    row
}

struct Simulated {
    rows: InferenceTables,
    wal: PathBuf,
    offered: u64,
    rungs: BTreeSet<String>,
}

impl Simulated {
    fn open(plan: &Plan, clock: SharedClock, tasks: &Tasks) -> Self {
        let folder = Path::new(&plan.folder);
        let fs = RealFs::shared();
        let device = "box-1".parse().unwrap();
        let mut options =
            InferenceTableOptions::new(folder.to_owned(), device, BootId(1), clock, fs);
        options.budget = BudgetOptions {
            total: Some(ByteCount(plan.budget)),
            free_floor: Some(ByteCount(0)),
            ..BudgetOptions::default()
        };
        let rows = InferenceTables::open(options, tasks).unwrap();
        rows.set_budgets(vec![TableBudget {
            table: TABLES[1].0.parse().unwrap(),
            budget: Some(ByteCount(plan.budget / 8)),
            priority: 100,
            retain: Retain::Stop,
        }]);
        Self {
            rows,
            wal: folder.join("wal"),
            offered: 0,
            rungs: BTreeSet::new(),
        }
    }

    fn second(&mut self, tables: &[(TableName, u64)], start_us: i64) {
        for (table, rows) in tables {
            let (_, _, endpoint) = table.parts();
            for number in 0..*rows {
                let part = i64::try_from(number * 1_000_000 / rows).unwrap();
                self.offered += 1;
                self.rows
                    .offer(table, &row(self.offered, start_us + part, endpoint));
            }
        }
        while self.is_behind() {
            std::thread::park_timeout(BREATH);
        }
        for (table, rung) in &self.rows.disk_use().rungs {
            let (_, _, prefix) = table.parts();
            self.rungs.insert(format!("{prefix} {rung}"));
        }
    }

    fn is_behind(&self) -> bool {
        let counted = self.rows.counters();
        assert_eq!((counted.lost, counted.failures), (0, 0), "the disk failed");
        let settled = counted.committed + counted.sampled + counted.refused + counted.dropped;
        let files = std::fs::read_dir(&self.wal).map_or(0, Iterator::count);
        self.offered - settled > ON_THE_WAY || files > LOG_FILES
    }

    fn told(&self) -> Value {
        let (counters, disk_use) = (self.rows.counters(), self.rows.disk_use());
        json!({
            "offered": self.offered, "committed": counters.committed, "shed": counters.shed,
            "sampled": counters.sampled, "refused": counters.refused, "dropped": counters.dropped,
            "evicted_rows": disk_use.evicted_rows, "evicted_files": disk_use.evicted_files,
            "log_bytes": counters.log_bytes, "rungs": self.rungs,
        })
    }
}

/// Not a test of its own: [`BOX`] makes it the process that is watched.
#[test]
#[ignore = "the process that the other test starts and watches"]
fn the_box() {
    let plan = std::env::var(BOX).unwrap();
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let tasks = Tasks::new(runtime.handle().clone());
    let clock = TestClock::at(START_US);
    clock.set_synced(true);
    let mut simulated = Simulated::open(&plan, clock.clone(), &tasks);
    let tables = TABLES.map(|(table, rows)| (table.parse().unwrap(), rows));
    let marks = MARKS.map(|mark| plan.seconds * mark / 100);
    for second in 0..plan.seconds {
        let start_us = START_US + i64::try_from(second * 1_000_000).unwrap();
        simulated.second(&tables, start_us);
        clock.advance(Duration::from_secs(1));
        if let Some(mark) = marks
            .iter()
            .position(|mark| (mark - REST..*mark).contains(&second))
        {
            println!("offline: near {} %", MARKS[mark]);
            wait::pass(Duration::from_secs(1));
        } else if marks.contains(&second) {
            println!("offline: on");
        }
    }
    runtime.block_on(simulated.rows.close(true)).unwrap();
    println!("offline: told {}", simulated.told());
}
