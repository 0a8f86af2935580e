//! The counts below which a bounded run fails: `tests/floors.toml`.

use crate::{report, workspace};

/// Says how many cases a bounded run had and fails when they are fewer than its floor.
///
/// `name` is `section.key` of `tests/floors.toml`.
///
/// # Panics
/// When the floor is missing or was not reached.
pub fn reached(name: &str, count: u64) {
    let floors = all();
    let floor = floors.iter().find(|(floor, _)| floor == name);
    let Some((_, floor)) = floor else {
        panic!("tests/floors.toml has no {name}")
    };
    report::ran(name, count, *floor);
    assert!(
        count >= *floor,
        "{name}: {count} cases ran, the floor is {floor}"
    );
}

/// Every floor, by `section.key`.
///
/// # Panics
/// When the file cannot be read as sections of whole numbers.
#[must_use]
pub fn all() -> Vec<(String, u64)> {
    let path = workspace().join("tests/floors.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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
            floors.push(floor.unwrap_or_else(|| panic!("{}: {line}", path.display())));
        }
    }
    floors
}
