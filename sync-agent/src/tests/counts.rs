//! The counts of bounded runs and the cases that cannot run here, for the report of a full run.
//!
//! The lines are those that `tests/harness/src/report.rs` reads; this crate does not see the harness.

use std::io::Write as _;

const FLOORS: &str = include_str!("../../../tests/floors.toml");

/// Says that a bounded run had `count` cases, and fails below its floor in `tests/floors.toml`.
pub(super) fn reached(section: &str, key: &str, count: u64) {
    let floor = floor(section, key);
    record(&format!("{section}.{key}: {count} (floor {floor})"));
    assert!(
        count >= floor,
        "{section}.{key}: {count} cases ran, the floor is {floor}"
    );
}

/// Says why a case does not run here.
pub(super) fn skip(case: &str, reason: &str) {
    record(&format!("SKIPPED {case}: {reason}"));
}

fn floor(section: &str, key: &str) -> u64 {
    let header = format!("[{section}]");
    FLOORS
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .find(|(name, _)| *name == key)
        .and_then(|(_, floor)| floor.parse().ok())
        .unwrap_or_else(|| panic!("tests/floors.toml has no {section}.{key}"))
}

fn record(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("EDGEWARD_REPORT").filter(|path| !path.is_empty()) else {
        return;
    };
    let report = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    // Whole lines in one write each: many tests append at once.
    report
        .unwrap()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}
