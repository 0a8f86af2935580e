//! Names and heads of files, and who may spawn.

use crate::{Finding, Tree};

/// Words that say nothing about what a module owns.
const VAGUE: [&str; 7] = [
    "utils", "util", "helpers", "helper", "common", "manager", "misc",
];

/// What starts a task or a thread.
const SPAWNS: [&str; 6] = [
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "spawn_blocking(",
    "JoinSet::new",
    ".spawn_local(",
];

/// The one module that may start tasks and threads.
const SPAWNER: &str = "daemon/src/tasks";

/// The one module that may name the database.
const DATABASE_OWNER: &str = "daemon/src/store";

/// Reports files with the wrong name or head, and code that does what another module owns.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        let mut found = |line, rule, message: String| {
            findings.push(Finding {
                file: source.path.clone(),
                line,
                rule,
                message,
            });
        };
        let stem = source
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if stem == "mod" {
            found(
                0,
                "name",
                "modules are foo.rs beside foo/, never mod.rs".to_owned(),
            );
        }
        if VAGUE.contains(&stem) {
            found(
                0,
                "name",
                format!("{stem} says nothing: name the module for what it owns"),
            );
        }
        if !source.is_test && !source.text.starts_with("//!") {
            found(
                1,
                "head",
                "say at the top what the module owns and must never do".to_owned(),
            );
        }
        if source.is_test || source.crate_folder().is_none() {
            continue;
        }
        let lines = source
            .text
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.starts_with("//")) {
            if !source.path.starts_with(SPAWNER) && SPAWNS.iter().any(|spawn| line.contains(spawn))
            {
                found(
                    number,
                    "spawn",
                    "only tasks spawns: take a Tasks handle".to_owned(),
                );
            }
            if !source.path.starts_with(DATABASE_OWNER) && line.contains("sled::") {
                found(number, "database", "only store names sled".to_owned());
            }
            if line.contains("todo!(") || line.contains("unimplemented!(") {
                found(
                    number,
                    "stub",
                    "a stub is a defect: build it or leave it out".to_owned(),
                );
            }
        }
    }
}
