//! Documents name only files that exist, and no file names a path of one machine.

use crate::tree::Text;
use crate::{Finding, Tree};

/// Folders of the root: a word in code marks that starts with one of them is a path.
const FOLDERS: [&str; 10] = [
    "daemon/",
    "kernels/",
    "sync-agent/",
    "profiles/",
    "cross/",
    "systemd/",
    "tests/",
    "benches/",
    "docs/",
    ".ci/",
];

/// Beginnings of paths that only one machine has.
const MACHINE_PATHS: [&str; 4] = ["/work/", "/root/", "/home/", "/Users/"];

/// Reports names of files that are not there, and paths of one machine.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for text in tree.texts.iter().filter(|text| text.path.ends_with(".md")) {
        check_document(tree, text, findings);
    }
    let rust = tree
        .sources
        .iter()
        .map(|source| (&source.path, &source.text));
    let others = tree.texts.iter().map(|text| (&text.path, &text.text));
    // The rule has to name what it forbids.
    for (path, text) in rust
        .chain(others)
        .filter(|(path, _)| !path.starts_with("tests/tidy/"))
    {
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = MACHINE_PATHS.iter().find(|place| names_path(line, place)) {
                findings.push(Finding {
                    file: path.clone(),
                    line: number + 1,
                    rule: "machine",
                    message: format!("{place} is a path of one machine"),
                });
            }
        }
    }
}

/// Whether the line has the path at the start of a word, not inside a longer path or URL.
fn names_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric() && !"_.-}/".contains(c))
    })
}

fn check_document(tree: &Tree, text: &Text, findings: &mut Vec<Finding>) {
    let folder = text.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (number, line) in text.text.lines().enumerate() {
        for name in code_words(line).chain(link_targets(line)) {
            let name = name
                .split(['#', ':'])
                .next()
                .unwrap_or_default()
                .trim_end_matches('/');
            if name.is_empty() || name.contains(['*', '{', '<', ' ', '$', '(', '…']) {
                continue;
            }
            let beside = tree.root.join(folder).join(name);
            if !tree.root.join(name).exists_in_tree() && !beside.exists_in_tree() {
                findings.push(Finding {
                    file: text.path.clone(),
                    line: number + 1,
                    rule: "prose",
                    message: format!("names {name}, which does not exist"),
                });
            }
        }
    }
}

/// Words in code marks that look like a path of the tree.
fn code_words(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            || (word.ends_with(".md") && !word.contains(' '))
    })
}

/// Targets of Markdown links that are no URL.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| {
            !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
        })
}

trait ExistsInTree {
    /// Whether something of that name is there; a name that cannot be looked at is not.
    fn exists_in_tree(&self) -> bool;
}

impl ExistsInTree for std::path::PathBuf {
    fn exists_in_tree(&self) -> bool {
        self.try_exists().unwrap_or(false)
    }
}
