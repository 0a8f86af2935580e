//! Prints the report of a run, and fails when a floor of `tests/floors.toml` was not reached.
//!
//! Usage: `report FILE`, the file that `EDGEWARD_REPORT` named while the tests ran.

#![expect(clippy::print_stdout, reason = "the report is what it prints")]

use std::process::ExitCode;

use edgeward_harness::{floors, report::Report};

fn main() -> Result<ExitCode, String> {
    let path = std::env::args().nth(1).ok_or("usage: report FILE")?;
    // A run in which nothing was recorded has no file.
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let report = Report::parse(&text)?;
    let floors = floors::all();
    for (name, count) in &report.ran {
        match floors.iter().find(|(floor, _)| floor == name) {
            Some((_, floor)) => println!("{count:>8} of at least {floor:<6} {name}"),
            None => return Err(format!("{path}: tests/floors.toml has no {name}")),
        }
    }
    for (case, reason) in &report.skipped {
        println!("SKIPPED {case}: {reason}");
    }
    println!("skipped: {}", report.skipped.len());
    let below = report.below(&floors);
    for finding in &below {
        println!("FAILED {finding}");
    }
    Ok(ExitCode::from(u8::from(!below.is_empty())))
}
