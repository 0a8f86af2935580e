//! What is written down of the cases: `tests/floors.toml` has those that pass, the file of
//! the engine's name beside this one the others, each under its reason.
//!
//! ```toml
//! [[refused]]
//! reason = "why no engine, or not this one, computes these"
//! says = "what the engine's message must contain"
//! cases = ["test_..."]
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use edgeward_harness::{floors, workspace};
use serde::Deserialize;

use crate::outcomes::Outcomes;

/// The cases that an engine does not pass.
#[derive(Deserialize)]
struct Refusals {
    #[serde(default)]
    refused: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    reason: String,
    says: String,
    cases: Vec<String>,
}

/// Fails unless each case is where it belongs: among the passing, or refused for a reason that the
/// engine gave.
pub(crate) fn hold(engine: &str, outcomes: &Outcomes) {
    let list = format!("nodes.{engine}.passing");
    let mut refusals = read(&path(engine));
    if std::env::var_os("EDGEWARD_NODES").is_some_and(|value| value == "write") {
        write(engine, &mut refusals, outcomes);
    }
    let findings = findings(&floors::names(&list), &refusals, outcomes);
    summarize(engine, &refusals);
    assert!(
        findings.is_empty(),
        "{engine}, {} cases are not where they belong:\n{}",
        findings.len(),
        findings.join("\n")
    );
    let passing = outcomes.values().filter(|outcome| outcome.is_ok()).count();
    floors::reached(&list, passing as u64);
}

fn path(engine: &str) -> PathBuf {
    let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nodes");
    nodes.join(format!("{engine}.toml"))
}

fn read(path: &Path) -> Vec<Refusal> {
    let text = std::fs::read_to_string(path).unwrap();
    let refusals: Refusals = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    refusals.refused
}

/// What is wrong with the lists.
fn findings(passing: &[String], refusals: &[Refusal], outcomes: &Outcomes) -> Vec<String> {
    let mut findings = Vec::new();
    let mut reasons: BTreeMap<&str, Vec<&Refusal>> = BTreeMap::new();
    for refusal in refusals {
        for case in &refusal.cases {
            reasons.entry(case).or_default().push(refusal);
        }
    }
    let listed = passing.iter().map(String::as_str);
    for case in listed.chain(reasons.keys().copied()) {
        if !outcomes.contains_key(case) {
            findings.push(format!("{case}: listed, and there is no such case"));
        }
    }
    for (case, outcome) in outcomes {
        let passes = passing.contains(case);
        let reasons = reasons.get(case.as_str()).map_or(&[][..], Vec::as_slice);
        let finding = match (outcome, passes, reasons) {
            (Ok(()), true, []) => continue,
            (Ok(()), false, []) => "passes, and is not listed".to_owned(),
            (Ok(()), _, [_, ..]) => "passes, and is refused for a reason".to_owned(),
            (Err(why), true, _) => format!("is listed as passing: {why}"),
            (Err(why), false, [refusal]) if why.contains(&refusal.says) => continue,
            (Err(why), false, [refusal]) => format!("does not say {:?}: {why}", refusal.says),
            (Err(why), false, []) => format!("fails for no reason that is listed: {why}"),
            (Err(_), false, [_, _, ..]) => "is refused for several reasons".to_owned(),
        };
        findings.push(format!("{case}: {finding}"));
    }
    findings
}

fn summarize(engine: &str, refusals: &[Refusal]) {
    let mut by_count: Vec<&Refusal> = refusals.iter().collect();
    by_count.sort_by_key(|refusal| std::cmp::Reverse(refusal.cases.len()));
    for refusal in by_count {
        let count = refusal.cases.len();
        println!("nodes.{engine}: {count:>4} refused: {}", refusal.reason);
    }
}

/// Writes both lists as `outcomes` are. A case that fails goes to the first reason whose `says` its
/// message contains.
fn write(engine: &str, refusals: &mut Vec<Refusal>, outcomes: &Outcomes) {
    let passing = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let passing: Vec<&str> = passing.map(|(case, _)| case.as_str()).collect();
    let floors = workspace().join("tests/floors.toml");
    let text = std::fs::read_to_string(&floors).unwrap();
    let header = format!("[nodes.{engine}]\n");
    let (before, rest) = text.split_once(&header).unwrap();
    let after = rest.split_once("\n]\n").unwrap().1;
    let list: String = passing.iter().fold(String::new(), |mut list, case| {
        writeln!(list, "    \"{case}\",").unwrap();
        list
    });
    std::fs::write(
        floors,
        format!("{before}{header}passing = [\n{list}]\n{after}"),
    )
    .unwrap();

    for refusal in &mut *refusals {
        refusal.cases.clear();
    }
    for (case, outcome) in outcomes {
        let Err(why) = outcome else { continue };
        let fitting = refusals
            .iter_mut()
            .find(|refusal| why.contains(&refusal.says));
        if let Some(refusal) = fitting {
            refusal.cases.push(case.clone());
        }
    }
    refusals.retain(|refusal| !refusal.cases.is_empty());
    let text = std::fs::read_to_string(path(engine)).unwrap();
    let head: String = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .fold(String::new(), |head, line| head + line + "\n");
    let table = refusals
        .iter()
        .fold(head, |table, refusal| table + &refusal.to_toml());
    std::fs::write(path(engine), table).unwrap();
}

impl Refusal {
    fn to_toml(&self) -> String {
        let (reason, says) = (&self.reason, &self.says);
        let cases = self.cases.iter().fold(String::new(), |mut cases, case| {
            writeln!(cases, "    \"{case}\",").unwrap();
            cases
        });
        format!("\n[[refused]]\nreason = {reason:?}\nsays = {says:?}\ncases = [\n{cases}]\n")
    }
}
