//! The counts below which a bounded run fails: `tests/floors.toml`.
//!
//! A floor is a whole number, or a list of the names of the cases that must be among them: then its
//! length is the floor.
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

/// The cases that a floor names.
///
/// # Panics
/// When `tests/floors.toml` has no such list.
#[must_use]
pub fn names(name: &str) -> Vec<String> {
    let found = read().into_iter().find(|entry| entry.name == name);
    let names = found.and_then(|entry| entry.names);
    names.unwrap_or_else(|| panic!("tests/floors.toml has no list {name}"))
}

/// Every floor of this run, by `section.key`.
///
/// # Panics
/// When the file cannot be read as sections of floors.
#[must_use]
pub fn all() -> Vec<(String, u64)> {
    let counted = read().into_iter().map(|entry| (entry.name, entry.count));
    let (floors, long) = counted.partition(|(name, _)| !name.starts_with(LONG_RUN));
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

/// One floor as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// `section.key`.
    name: String,
    count: u64,
    /// The names, where it is a list of them.
    names: Option<Vec<String>>,
}

fn read() -> Vec<Entry> {
    let path = workspace().join("tests/floors.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text).unwrap_or_else(|line| panic!("{}: {line}", path.display()))
}

/// Sections of whole numbers and lists of names; the first line that is something else is the error.
fn parse(text: &str) -> Result<Vec<Entry>, &str> {
    let mut section = "";
    let mut floors = Vec::new();
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut lines = text.lines().map(str::trim).filter(said);
    while let Some(line) = lines.next() {
        let header = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(header) = header {
            section = header;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(line)?;
        let names = (value.trim() == "[")
            .then(|| list(&mut lines))
            .transpose()?;
        let count = match &names {
            Some(names) => names.len() as u64,
            None => value.trim().parse().map_err(|_| line)?,
        };
        let name = format!("{section}.{}", key.trim());
        floors.push(Entry { name, count, names });
    }
    Ok(floors)
}

/// The names up to the line that ends the list.
fn list<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Vec<String>, &'a str> {
    let mut names = Vec::new();
    for line in lines.take_while(|line| *line != "]") {
        let name = line.trim_end_matches(',').strip_prefix('"');
        let name = name.and_then(|name| name.strip_suffix('"')).ok_or(line)?;
        names.push(name.to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
