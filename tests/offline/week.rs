//! The test: starts the box, watches it, and accounts for every row that it was given.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgeward_harness::process::Process;
use edgeward_harness::{floors, wait};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::left::Left;
use crate::simulated::{MARKS, TABLES};
use crate::watch::{Seen, disk, median_memory, memory};

/// The variable that makes this binary the box.
pub(crate) const BOX: &str = "EDGEWARD_OFFLINE_BOX";

pub(crate) const HOUR: u64 = 3_600;
const WEEK: u64 = 7 * 24 * HOUR;
/// What a week may take.
const BUDGET: u64 = 200_000_000;
/// The most that memory may grow between a tenth of the time and its end, per cent.
const GROWTH: u64 = 2;
/// The longest that it may run.
const PATIENCE: Duration = Duration::from_secs(3 * 3_600);
/// Between two looks in a week; an hour is over so soon that it is looked at all the time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks at each mark, at least.
const LOOKS: usize = 20;
/// What the accounts may take, of the budget.
const ACCOUNTS: u64 = 50;
/// Files of gaps for each table and day that are not put together, and gaps in each of the others.
const APART: usize = 9;
const TOGETHER: usize = 32;

/// What the box is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) folder: String,
    pub(crate) seconds: u64,
    pub(crate) budget: u64,
}

impl Plan {
    fn of_this_run(folder: &Path) -> Self {
        let seconds = if floors::is_soak() { WEEK } else { HOUR };
        Self {
            folder: folder.to_str().unwrap().to_owned(),
            seconds,
            budget: BUDGET * seconds / WEEK,
        }
    }
}

fn start(plan: &Plan) -> Process {
    let arguments = ["simulated::the_box", "--exact", "--ignored", "--nocapture"];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments);
    // What is free goes back to the system at once: what is seen is what is in use.
    command.env("MIMALLOC_PURGE_DELAY", "0");
    command.env(BOX, serde_json::to_string(plan).unwrap());
    Process::start(&mut command)
}

/// What follows `word` in a line of the box.
fn said<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    Some(line.split_once(word)?.1)
}

/// Watches the box until it ends. Answers what was seen and what it told at last.
fn watch(process: &mut Process, folder: &Path) -> (Vec<Seen>, Value) {
    let mut seen = Vec::new();
    wait::within(PATIENCE, "the time is over", || {
        let newest = process.output().pop().unwrap_or_default();
        let mark = said(&newest, "offline: near ");
        let mark = mark.and_then(|mark| mark.strip_suffix(" %")?.parse().ok());
        if let Some(memory) = memory(process.id()) {
            let disk = disk(folder);
            seen.push(Seen { mark, memory, disk });
        }
        if floors::is_soak() && mark.is_none() {
            wait::pass(LOOK_EVERY);
        }
        process.status()
    });
    assert!(process.wait().success(), "{:?}", process.output());
    let output = process.output();
    let told = output
        .iter()
        .find_map(|line| said(line, "offline: told "))
        .unwrap();
    (seen, serde_json::from_str(told).unwrap())
}

/// Memory stays what it was, and the disk within the budget.
fn check_seen(seen: &[Seen], plan: &Plan) {
    let most = seen.iter().map(|seen| seen.disk).max().unwrap();
    let [before, after] = MARKS.map(|mark| median_memory(seen, mark, LOOKS));
    println!(
        "offline: memory {before} kB at {} %, {after} kB at {} %; at most {most} of {} bytes of disk \
         in {} looks",
        MARKS[0],
        MARKS[1],
        plan.budget,
        seen.len()
    );
    assert!(
        after * 100 <= before * (100 + GROWTH),
        "memory grew from {before} to {after} kB"
    );
    assert!(most <= plan.budget, "{most} bytes of {}", plan.budget);
}

/// Every rung was reached: what follows would hold of an empty disk.
fn check_told(told: &Value, offered: u64) {
    let rungs = told["rungs"].as_array().unwrap();
    for rung in [
        "fraud normal",
        "fraud shed",
        "fraud sample",
        "fraud full",
        "audit stopped",
    ] {
        assert!(rungs.iter().any(|seen| seen == rung), "{rung}: {told}");
    }
    for counter in [
        "sampled",
        "refused",
        "shed",
        "evicted_rows",
        "evicted_files",
    ] {
        assert!(told[counter].as_u64().unwrap() > 0, "{counter}: {told}");
    }
    assert_eq!(told["offered"], offered);
}

/// Every sequence is a row or in a gap, once, and each kind is what the box says of it.
fn check_left(left: &mut BTreeMap<(String, String), Left>, told: &Value, plan: &Plan) {
    let count = |name: &str| told[name].as_u64().unwrap();
    let (mut rows, mut gaps) = (0, BTreeMap::<String, u64>::new());
    for ((table, boot), left) in left.iter_mut() {
        let (_, a_second) = TABLES
            .iter()
            .find(|(name, _)| name.ends_with(table))
            .unwrap();
        assert_eq!(left.assert_whole(), a_second * plan.seconds, "{table}");
        rows += left.rows();
        for (cause, count) in &left.gaps {
            *gaps.entry(cause.clone()).or_default() += count;
        }
        let days = usize::try_from(plan.seconds / (24 * HOUR) + 1).unwrap();
        let most = APART * days + left.gap_rows / TOGETHER;
        println!(
            "offline: {table} in boot {boot}: {} rows, {:?} in {} gaps of {} files",
            left.rows(),
            left.gaps,
            left.gap_rows,
            left.gap_files
        );
        assert!(left.gap_files <= most, "{} > {most}", left.gap_files);
    }
    assert_eq!(rows, count("committed") - count("evicted_rows"));
    let gaps = |cause: &str| gaps.get(cause).copied().unwrap_or_default();
    assert_eq!(gaps("sampled"), count("sampled"));
    assert_eq!(
        gaps("disk_budget"),
        count("refused") + count("evicted_rows")
    );
    assert_eq!(gaps("channel_full"), count("dropped"));

    let find = |name: &str| left.iter().find(|((table, _), _)| table == name).unwrap().1;
    assert!(
        find("fraud").shed > 0,
        "no row says that its request is null"
    );
    let (estimated, true_rows) = find("fraud").estimate();
    let off = (estimated / true_rows - 1.0).abs();
    println!("offline: {estimated:.0} rows by their fractions, {true_rows:.0} by their gaps");
    assert!(
        off < 0.1,
        "{estimated} rows by their fractions, {true_rows} in truth"
    );
    // It takes rows again when the others have made room; what it once took never goes.
    let missing: u64 = find("audit").gaps.values().sum();
    assert!(
        missing <= count("refused"),
        "rows of a table that stops went: {missing} are missing"
    );
}

#[test]
fn a_box_offline_keeps_its_budget_its_memory_and_the_account_of_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::of_this_run(folder.path());
    let mut process = start(&plan);
    let (seen, told) = watch(&mut process, folder.path());
    println!("offline: {} simulated seconds: {told}", plan.seconds);
    check_seen(&seen, &plan);
    let offered = TABLES.iter().map(|(_, rows)| rows).sum::<u64>() * plan.seconds;
    check_told(&told, offered);
    let mut left = Left::read(&folder.path().join("parquet"));
    check_left(&mut left, &told, &plan);
    let accounts = disk(&folder.path().join("account"));
    assert!(
        accounts <= plan.budget / ACCOUNTS,
        "{accounts} bytes of accounts"
    );
    assert_eq!(disk(&folder.path().join("quarantine")), 0);
    floors::reached("offline.rows", offered);
    floors::reached("offline.looks", seen.len() as u64);
}
