//! What a box says of itself: everything that a damage must not change without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgeward_base::digest::Digest;
use edgeward_harness::device::Device;
use edgeward_harness::http::Client;
use edgeward_harness::wait;
use serde_json::Value;

use super::golden::{ENDPOINTS, admin, wait_until_recovered};
use crate::landing::{Boot, batches, files, number, text};
use crate::samples::Golden as Sample;

/// Rows and gaps of one table in one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// Digests of whole rows, by sequence; more than one when a row is there twice.
    pub(super) rows: BTreeMap<i64, BTreeSet<Digest>>,
    doubled: Vec<i64>,
    /// First and last sequence; no last of a gap whose length nobody knows.
    gaps: Vec<(i64, Option<i64>)>,
}

impl Rows {
    fn is_in_gap(&self, sequence: i64) -> bool {
        let covers = |(first, last): &(i64, Option<i64>)| {
            *first <= sequence && last.is_none_or(|last| sequence <= last)
        };
        self.gaps.iter().any(covers)
    }
}

/// Everything that a box is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Truth {
    /// What must be equal whatever file is damaged: by what it is called.
    facts: BTreeMap<&'static str, Value>,
    /// The status and predictions of each endpoint for one request.
    answers: BTreeMap<&'static str, (u16, Value)>,
    rows: BTreeMap<Boot, Rows>,
    /// What the box says is wrong with it.
    pub(super) said: BTreeSet<String>,
}

impl Truth {
    /// Asks a box that is ready.
    pub(super) fn read(device: &mut Device, token: &str) -> Self {
        let url = device.url();
        let mut client = Client::tcp(&url).with_token(token);
        let report = wait_until_recovered(device);
        let status = device.status();
        let mut said = texts(&report["problems"]);
        let quarantine = texts(&report["quarantine"]);
        said.extend(
            quarantine
                .iter()
                .map(|path| format!("quarantine {}", name(path))),
        );
        let log = device.process().output();
        let spoken = |line: &&String| line.contains(" WARN ") || line.contains("ERROR");
        said.extend(log.iter().filter(spoken).map(|line| event(line)));
        if let Some(reason) = status["state"]["rebuilt"].as_str() {
            said.insert(format!("rebuilt: {reason}"));
        }
        let tokens = admin(device).get("/api/edgeward/v1/tokens").json();
        let models = admin(device).get("/api/edgeward/v1/models").json();
        let mut endpoints = settled(&mut client);
        said.extend(failures(&endpoints));
        without_state(&mut endpoints);
        let facts = BTreeMap::from([
            ("device", status["device"].clone()),
            ("fleet", status["fleet"].clone()),
            ("endpoints", endpoints),
            ("models", models),
            ("tokens", tokens),
        ]);
        let body = Sample::of("fraud", 3).first_row();
        let answers = ENDPOINTS.map(|name| {
            let reply = client.post(&format!("/serving-endpoints/{name}/invocations"), &body);
            let answer = match reply.status {
                200 => reply.json()["predictions"].clone(),
                _ => Value::Null,
            };
            (name, (reply.status, answer))
        });
        let parquet = device.state().join("rows/parquet");
        // Every copy lies somewhere else.
        let state = device.state();
        let said = said
            .into_iter()
            .map(|text| text.replace(state.to_str().unwrap(), ""))
            .collect();
        Self {
            facts,
            answers: answers.into(),
            rows: read_rows(&parquet, &texts(&report["problems"])),
            said,
        }
    }

    /// What `self`, of a damaged copy, has wrong and does not say; empty when nothing is.
    pub(super) fn silent(&self, truth: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (what, expected) in &truth.facts {
            if self.facts[what] != *expected {
                wrong.push(format!("{what}: {} for {expected}", self.facts[what]));
            }
        }
        for (name, expected) in &truth.answers {
            let found = &self.answers[name];
            let is_said = found.0 != 200 && self.said != truth.said;
            if found != expected && !is_said {
                wrong.push(format!("{name}: {found:?} for {expected:?}"));
            }
        }
        let nothing = Rows::default();
        for (boot, expected) in &truth.rows {
            let found = self.rows.get(boot).unwrap_or(&nothing);
            wrong.extend(self.silent_rows(boot, found, expected, truth));
        }
        wrong
    }

    fn silent_rows(&self, boot: &Boot, found: &Rows, expected: &Rows, truth: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (sequence, digests) in &found.rows {
            if expected.rows.get(sequence) != Some(digests) {
                wrong.push(format!("{boot:?}: row {sequence} is another"));
            }
        }
        for sequence in &found.doubled {
            wrong.push(format!("{boot:?}: row {sequence} is there twice"));
        }
        let lost = expected
            .rows
            .keys()
            .filter(|sequence| !found.rows.contains_key(sequence));
        let lost: Vec<_> = lost.filter(|lost| !found.is_in_gap(**lost)).collect();
        // A file that the box calls wrong is not read; a row may be in it.
        if !lost.is_empty() && self.said == truth.said {
            wrong.push(format!("{boot:?}: {} rows are gone", lost.len()));
        }
        wrong
    }

    /// Whether a damage shows at all.
    pub(super) fn differs(&self, truth: &Self) -> bool {
        let kept = |rows: &BTreeMap<Boot, Rows>| -> BTreeMap<Boot, Rows> {
            let of_truth = rows
                .iter()
                .filter(|(boot, _)| truth.rows.contains_key(boot));
            of_truth
                .map(|(boot, rows)| (boot.clone(), rows.clone()))
                .collect()
        };
        self.said != truth.said || kept(&self.rows) != truth.rows
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    let texts = list.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A line of the log without its time.
fn event(line: &str) -> String {
    line.split_once(' ')
        .map_or("", |(_, event)| event)
        .to_owned()
}

/// The endpoints, once none is being staged.
fn settled(client: &mut Client) -> Value {
    wait::until("no endpoint is being staged", || {
        let list = client.get("/api/2.0/serving-endpoints").json();
        let endpoints = list["endpoints"].as_array().unwrap();
        let staged = |endpoint: &Value| endpoint["state"]["config_update"] != "IN_PROGRESS";
        endpoints.iter().all(staged).then_some(list)
    })
}

/// Endpoints that say they do not serve.
fn failures(endpoints: &Value) -> Vec<String> {
    let all = endpoints["endpoints"].as_array().unwrap().iter();
    let failed = all.filter(|endpoint| endpoint["state"]["ready"] != "READY");
    failed
        .map(|endpoint| format!("endpoint {} {}", endpoint["name"], endpoint["state"]))
        .collect()
}

/// Takes out what an endpoint is like now, and leaves what it was made.
fn without_state(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "state");
            fields.values_mut().for_each(without_state);
        }
        Value::Array(values) => values.iter_mut().for_each(without_state),
        _ => {}
    }
}

/// Every row and gap in the files that the box does not call wrong.
fn read_rows(parquet: &Path, problems: &BTreeSet<String>) -> BTreeMap<Boot, Rows> {
    let mut boots = BTreeMap::<Boot, Rows>::new();
    for file in files(parquet) {
        let path = file.to_str().unwrap();
        if problems.iter().any(|problem| problem.contains(path)) {
            continue;
        }
        let table = file
            .iter()
            .rev()
            .nth(2)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        for batch in batches(&file) {
            for row in 0..batch.num_rows() {
                let boot = Boot {
                    table: table
                        .trim_end_matches("_payload")
                        .trim_end_matches("_gaps")
                        .to_owned(),
                    device: text(&batch, "device_id", row),
                    boot: text(&batch, "boot_id", row),
                };
                let found = boots.entry(boot).or_default();
                if table.ends_with("_gaps") {
                    let first = number(&batch, "first_sequence", row).unwrap();
                    found
                        .gaps
                        .push((first, number(&batch, "last_sequence", row)));
                    continue;
                }
                let sequence = number(&batch, "sequence", row).unwrap();
                let whole = format!("{:?}", batch.slice(row, 1));
                let digests = found.rows.entry(sequence).or_default();
                if !digests.is_empty() {
                    found.doubled.push(sequence);
                }
                digests.insert(Digest::of(whole.as_bytes()));
            }
        }
    }
    for rows in boots.values_mut() {
        rows.gaps.sort_unstable();
    }
    boots
}
