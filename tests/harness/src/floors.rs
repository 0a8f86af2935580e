//! The counts below which a bounded run fails: `tests/floors.toml`.
//!
//! A section `[soak.NAME]` takes the place of `[NAME]` in a long run, `EDGEWARD_SOAK=1`, which is
//! what `make soak` sets; in any other run it is not there.

use crate::{report, workspace};

/// What begins the sections of a long run.
const LONG_RUN: &str = "soak.";

/// Whether this is the long run.
#[must_use]
pub fn is_soak() -> bool {
    std::env::var_os("EDGEWARD_SOAK").is_some_and(|value| value == "1")
}

/// How many cases a run has that may be of any length: its floor.
///
/// # Panics
/// When `tests/floors.toml` has none of this name.
#[must_use]
pub fn length(name: &str) -> u64 {
    let found = all().into_iter().find(|(floor, _)| floor == name);
    found.map_or_else(
        || panic!("tests/floors.toml has no {name}"),
        |(_, floor)| floor,
    )
}

/// Says how many cases a bounded run had and fails when they are fewer than its floor.
///
/// `name` is `section.key` of `tests/floors.toml`.
///
/// # Panics
/// When the floor is missing or was not reached.
pub fn reached(name: &str, count: u64) {
    let floor = length(name);
    report::ran(name, count, floor);
    assert!(
        count >= floor,
        "{name}: {count} cases ran, the floor is {floor}"
    );
}

/// Every floor of this run, by `section.key`.
///
/// # Panics
/// When the file cannot be read as sections of whole numbers.
#[must_use]
pub fn all() -> Vec<(String, u64)> {
    let path = workspace().join("tests/floors.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (floors, long) = parse(&text)
        .unwrap_or_else(|line| panic!("{}: {line}", path.display()))
        .into_iter()
        .partition(|(name, _)| !name.starts_with(LONG_RUN));
    if is_soak() {
        in_a_long_run(floors, long)
    } else {
        floors
    }
}

/// Puts the floors of a long run in the place of the others.
fn in_a_long_run(mut floors: Vec<(String, u64)>, long: Vec<(String, u64)>) -> Vec<(String, u64)> {
    for (name, count) in long {
        let name = name.trim_start_matches(LONG_RUN).to_owned();
        floors.retain(|(floor, _)| *floor != name);
        floors.push((name, count));
    }
    floors
}

/// Sections of whole numbers; the first line that is something else is the error.
fn parse(text: &str) -> Result<Vec<(String, u64)>, &str> {
    let mut section = "";
    let mut floors = Vec::new();
    for line in text.lines().map(str::trim) {
        let header = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(header) = header {
            section = header;
        } else if !line.is_empty() && !line.starts_with('#') {
            let floor = line.split_once('=').and_then(|(key, floor)| {
                Some((
                    format!("{section}.{}", key.trim()),
                    floor.trim().parse().ok()?,
                ))
            });
            floors.push(floor.ok_or(line)?);
        }
    }
    Ok(floors)
}

#[cfg(test)]
mod tests;
