//! The counts below which a bounded run fails: `tests/floors.toml`.

use crate::workspace;

/// Prints how many cases a bounded run had and fails when they are fewer than its floor.
///
/// `name` is `section.key` of `tests/floors.toml`.
///
/// # Panics
/// When the floor is missing or was not reached.
#[expect(clippy::print_stdout, reason = "every bounded run prints its count")]
pub fn reached(name: &str, count: u64) {
    let floor = floor(name);
    println!("{name}: {count} (floor {floor})");
    assert!(
        count >= floor,
        "{name}: {count} cases ran, the floor is {floor}"
    );
}

/// The floor of a bounded run.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn floor(name: &str) -> u64 {
    let path = workspace().join("tests/floors.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    let mut inside = "";
    for line in text.lines().map(str::trim) {
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            inside = header;
        } else if let Some((found, value)) = line.split_once('=')
            && inside == section
            && found.trim() == key
        {
            return value
                .trim()
                .parse()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    panic!("tests/floors.toml has no {name}")
}
