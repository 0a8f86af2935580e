//! What a process has used, read from `/proc`.

use std::fs;
use std::time::Duration;

/// Clock ticks per second in `/proc/{pid}/stat`: 100 on every Linux that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of a process, its ended threads included.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // The second field is the name in brackets and may hold spaces: count from its end.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// Proportional set size of a process, in KiB: its own pages, and its share of the shared ones.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn pss_kib(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("{path} has no Pss"))
}
