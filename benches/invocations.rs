//! Server CPU per invocation, p50 and p99, with rows on and off, beside a hand-written scorer.
//!
//! `EDGEWARD_BIN` names the release build of `edgeward` (default: the one of this workspace).
//! Prints one line for each subject and connection count, then the ratios of the budgets.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints, and ends when it cannot measure"
)]

use std::process::Command;

use edgeward_benches::load::{Round, Subject, round};
use edgeward_benches::recorded::Body;
use edgeward_benches::{median, quantile};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::process::Process;
use edgeward_harness::workspace;
use serde_json::json;

/// Requests of one round: enough for 100 ticks of CPU time at 40 us each.
const REQUESTS: u64 = 25_000;
/// Alternating rounds.
const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` runs this too: it only has to build there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
    let token = device.token();
    let url = device.url();
    for (endpoint, capture) in [("rows-on", true), ("rows-off", false)] {
        create_endpoint(&mut device, endpoint, capture);
    }
    let mut floor = Process::start(&mut Command::new(env!("CARGO_BIN_EXE_floor")));
    let floor_url = floor.wait_for_line("http://");
    let pid = device.process().id();
    let edgeward = |endpoint: &str| Subject {
        name: endpoint.to_owned(),
        pid,
        url: url.clone(),
        path: format!("/serving-endpoints/{endpoint}/invocations"),
        token: Some(token.clone()),
        body: body(),
    };
    let subjects = [
        edgeward("rows-on"),
        edgeward("rows-off"),
        Subject {
            name: "hand-written".to_owned(),
            pid: floor.id(),
            url: floor_url,
            path: "/".to_owned(),
            token: None,
            body: body(),
        },
    ];
    println!("{REQUESTS} requests a round, {ROUNDS} alternating rounds, one row a request");
    println!(
        "{:<14} {:>5} {:>14} {:>10} {:>10}",
        "subject", "conns", "cpu us/req", "p50 us", "p99 us"
    );
    for connections in [1, 8] {
        measure(&subjects, connections);
    }
    drop(floor);
    device.stop();
}

/// The body that every subject answers.
fn body() -> Body {
    Body::json(&json!({"dataframe_records": [
        {"amount": 50000, "merchant_category": "online", "hour": 3, "is_foreign": true}
    ]}))
}

fn create_endpoint(device: &mut Device, endpoint: &str, capture: bool) {
    let sample = workspace().join("daemon/samples/fraud/3");
    device
        .edgeward(&[
            "model",
            "import",
            &sample.to_string_lossy(),
            "--name",
            "main.default.fraud",
            "--version",
            "3",
        ])
        .success();
    let mut config = json!({"served_entities": [
        {"name": "champion", "entity_name": "main.default.fraud", "entity_version": "3",
         "workload_size": "Small", "scale_to_zero_enabled": false}
    ]});
    if capture && let Some(config) = config.as_object_mut() {
        config.insert(
            "auto_capture_config".to_owned(),
            json!({"enabled": true, "catalog_name": "main", "schema_name": "bench", "table_name_prefix": "fraud"}),
        );
    }
    let reply = device.client().post(
        "/api/2.0/serving-endpoints",
        &json!({"name": endpoint, "config": config}),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn measure(subjects: &[Subject], connections: usize) {
    let mut rounds: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::new()).collect();
    for subject in subjects {
        drop(round(subject, connections, REQUESTS / 5));
    }
    for _ in 0..ROUNDS {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            rounds.push(round(subject, connections, REQUESTS));
        }
    }
    let mut cpu = Vec::new();
    for (subject, rounds) in subjects.iter().zip(&rounds) {
        let mut costs: Vec<f64> = rounds.iter().map(|round| round.cpu_micros).collect();
        let mut wall: Vec<f64> = rounds
            .iter()
            .flat_map(|r| r.wall_micros.iter().copied())
            .collect();
        let cost = median(&mut costs);
        println!(
            "{:<14} {connections:>5} {cost:>14.1} {:>10.0} {:>10.0}",
            subject.name,
            quantile(&mut wall, 0.5),
            quantile(&mut wall, 0.99)
        );
        cpu.push(cost);
    }
    let [on, off, floor] = cpu[..] else {
        panic!("three subjects")
    };
    println!(
        "  rows on / hand-written: {:.2}   rows on - rows off: {:.1} us",
        on / floor,
        on - off
    );
}
