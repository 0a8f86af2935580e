//! What a run has to say beside passing: how many cases each bounded run had, and what was skipped.
//!
//! Cargo hides what a passing test prints. So each record is also appended to the file that
//! `EDGEWARD_REPORT` names, where it names one, and the last stage of `make test` reads them all.
//! One record a line:
//!
//! ```text
//! process.kill.rounds: 50 (floor 50)
//! SKIPPED process.kill: there is no Mosquitto on this machine
//! ```
//!
//! A floor without a record is a failure, unless a skipped case has the floor's name or begins it:
//! `process.kill` answers for `process.kill.rounds`.

use std::fs::OpenOptions;
use std::io::Write;

/// Prints a record and appends it to the report.
///
/// # Panics
/// When the report cannot be written.
#[expect(clippy::print_stdout, reason = "a record must be seen")]
pub(crate) fn record(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("EDGEWARD_REPORT").filter(|path| !path.is_empty()) else {
        return;
    };
    // Whole lines in one write each: many tests append at once.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Says why a case does not run here.
///
/// # Panics
/// When the report cannot be written.
pub fn skip(case: &str, reason: &str) {
    record(&format!("SKIPPED {case}: {reason}"));
}

/// Says that a bounded run had `count` cases.
///
/// # Panics
/// When the report cannot be written.
pub(crate) fn ran(name: &str, count: u64, floor: u64) {
    record(&format!("{name}: {count} (floor {floor})"));
}

/// A run's records.
#[derive(Debug, Default)]
pub struct Report {
    /// The bounded runs and how many cases they had.
    pub ran: Vec<(String, u64)>,
    /// The skipped cases and why.
    pub skipped: Vec<(String, String)>,
}

impl Report {
    /// Reads the lines of a report, in any order.
    ///
    /// # Errors
    /// The first line that is no record.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        for line in text.lines() {
            let wrong = || format!("not a record: {line}");
            if let Some(skipped) = line.strip_prefix("SKIPPED ") {
                let (case, reason) = skipped.split_once(": ").ok_or_else(wrong)?;
                report.skipped.push((case.to_owned(), reason.to_owned()));
            } else {
                let (name, counts) = line.split_once(": ").ok_or_else(wrong)?;
                let (count, _) = counts.split_once(" (floor ").ok_or_else(wrong)?;
                let count = count.parse().map_err(|_| wrong())?;
                report.ran.push((name.to_owned(), count));
            }
        }
        report.ran.sort();
        report.skipped.sort();
        Ok(report)
    }

    /// The floors that were not reached, each with why.
    #[must_use]
    pub fn below(&self, floors: &[(String, u64)]) -> Vec<String> {
        let mut found = Vec::new();
        for (name, floor) in floors {
            let mut counts = self.ran.iter().filter(|(ran, _)| ran == name).peekable();
            if counts.peek().is_none() && !self.excuses(name) {
                found.push(format!("{name}: did not run, the floor is {floor}"));
            }
            for (_, count) in counts.filter(|(_, count)| count < floor) {
                found.push(format!("{name}: {count} cases ran, the floor is {floor}"));
            }
        }
        found
    }

    fn excuses(&self, floor: &str) -> bool {
        self.skipped.iter().any(|(case, _)| {
            floor
                .strip_prefix(case.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

#[cfg(test)]
mod tests;
