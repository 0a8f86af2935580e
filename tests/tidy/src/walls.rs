//! Which crate may depend on which, and which outside crate stays behind which of ours.

use cargo_metadata::DependencyKind;

use crate::{Finding, Tree};

/// Every edge between our crates that the picture in ARCHITECTURE.md has.
const EDGES: [(&str, &str); 12] = [
    ("edgeward", "edgeward-kernels"),
    ("edgeward", "edgeward-sync"),
    ("edgeward", "edgeward-wire"),
    ("edgeward", "edgeward-base"),
    ("edgeward-sync", "edgeward-wire"),
    ("edgeward-sync", "edgeward-base"),
    ("edgeward-kernels", "edgeward-base"),
    ("edgeward-wire", "edgeward-base"),
    ("edgeward-harness", "edgeward-wire"),
    ("edgeward-harness", "edgeward-base"),
    ("edgeward-suite", "*"),
    ("edgeward-benches", "*"),
];

/// Edges that only tests may have.
const TEST_EDGES: [(&str, &str); 2] = [
    ("edgeward", "edgeward-harness"),
    ("edgeward-kernels", "edgeward-harness"),
];

/// An outside crate (or a family of them, by prefix) and the one crate of ours that may name it.
const WALLS: [(&str, &str); 9] = [
    ("sled", "edgeward"),
    ("rumqttd", "edgeward"),
    ("arrow", "edgeward"),
    ("parquet", "edgeward"),
    ("rumqttc", "edgeward-sync"),
    ("tract", "edgeward-kernels"),
    ("burn", "edgeward-kernels"),
    ("cubecl", "edgeward-kernels"),
    ("candle", "edgeward-kernels"),
];

/// Crates that may not be anywhere in the build.
const BANNED: [&str; 4] = ["openssl", "openssl-sys", "aws-lc-rs", "aws-lc-sys"];

/// Compares the crates and their dependencies with the picture.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let is_ours = |name: &str| is_family(name, "edgeward");
    let ours = tree
        .metadata
        .packages
        .iter()
        .filter(|package| is_ours(&package.name));
    for package in ours {
        let manifest = package
            .manifest_path
            .strip_prefix(&tree.root)
            .map_or_else(|_| package.manifest_path.to_string(), ToString::to_string);
        let mut found = |rule, message| {
            findings.push(Finding {
                file: manifest.clone(),
                line: 0,
                rule,
                message,
            });
        };
        for dependency in &package.dependencies {
            let (from, to) = (package.name.as_str(), dependency.name.as_str());
            let for_tests = dependency.kind == DependencyKind::Development;
            if is_ours(to) && !edge_is_drawn(from, to, for_tests) {
                found(
                    "edge",
                    format!("{from} may not depend on {to}: the picture has no such edge"),
                );
            }
            let wall = WALLS.iter().find(|(family, _)| is_family(to, family));
            if let Some((_, owner)) = wall.filter(|(_, owner)| *owner != from) {
                found(
                    "wall",
                    format!("{to} stays behind {owner}; {from} may not name it"),
                );
            }
        }
    }
    for package in &tree.metadata.packages {
        if BANNED.contains(&package.name.as_str()) {
            findings.push(Finding {
                file: "Cargo.lock".to_owned(),
                line: 0,
                rule: "banned",
                message: format!(
                    "{} is in the build: TLS is rustls with ring alone",
                    package.name
                ),
            });
        }
    }
}

fn edge_is_drawn(from: &str, to: &str, for_tests: bool) -> bool {
    let drawn = |edges: &[(&str, &str)]| {
        edges
            .iter()
            .any(|(a, b)| *a == from && (*b == to || *b == "*"))
    };
    drawn(&EDGES) || (for_tests && drawn(&TEST_EDGES))
}

/// `tract` names `tract`, `tract-onnx`, `tract_core`, but not `tractor`.
fn is_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}
