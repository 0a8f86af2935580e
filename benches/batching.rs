//! Latency with and without batching, of 64 callers who each ask for one row and again at once.
//!
//! The same network is served twice by one device: by an endpoint that may answer requests together, and by
//! one that answers each alone. `EDGEWARD_BIN` names the release build of `edgeward`, `EDGEWARD_ZOO` the zoo
//! (`make bench-serving`).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use edgeward_benches::load::{Round, Subject, round};
use edgeward_benches::{median, quantile, recorded, zoo};
use edgeward_harness::device::{Device, DeviceOptions};
use serde_json::{Value, json};

const NETWORKS: [&str; 4] = ["perceptron", "resnet18", "mobilenet-v2", "minilm"];
const CALLERS: usize = 64;
/// Each caller has so many in a round.
const EACH: u64 = 8;
const ROUNDS: usize = 4;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{CALLERS} callers, {EACH} requests of one row each in a round, {ROUNDS} alternating rounds"
    );
    println!(
        "{:<14} {:<9} {:>10} {:>9} {:>9} {:>12} {:>12}",
        "network", "requests", "a second", "p50 ms", "p99 ms", "cpu ms/req", "rows a run"
    );
    for network in NETWORKS {
        if zoo::folder(network).is_some() {
            measure(network);
        } else {
            println!("{network:<14} EDGEWARD_ZOO has none: not measured");
        }
    }
}

fn measure(network: &str) {
    let mut device = Device::new(&DeviceOptions {
        config: "[[endpoint.batching]]\nendpoint = \"alone\"\nrequests = 1\n".to_owned(),
        ..DeviceOptions::default()
    });
    device.start();
    let folder = zoo::folder(network).unwrap_or_default();
    let inputs = recorded::inputs(&folder.join("ort.json"), 1);
    let subjects = ["together", "alone"].map(|endpoint| {
        zoo::serve(&mut device, network, endpoint, &json!({}));
        let path = format!("/v2/models/{endpoint}/infer");
        zoo::subject(
            &mut device,
            endpoint,
            path,
            recorded::open_inference_binary(&inputs),
        )
    });
    let requests = EACH * CALLERS as u64;
    for subject in &subjects {
        drop(round(subject, CALLERS, requests));
    }
    let before = subjects
        .each_ref()
        .map(|subject| runs(&mut device, &subject.name));
    let mut rounds: [Vec<Round>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            rounds.push(round(subject, CALLERS, requests));
        }
    }
    for ((subject, rounds), before) in subjects.iter().zip(&rounds).zip(before) {
        let after = runs(&mut device, &subject.name);
        print(
            network,
            subject,
            rounds,
            (after.0 - before.0, after.1 - before.1),
        );
    }
    device.stop();
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are small")]
fn print(network: &str, subject: &Subject, rounds: &[Round], (rows, runs): (u64, u64)) {
    let walls = rounds.iter().flat_map(|round| &round.wall_micros);
    let mut walls: Vec<f64> = walls.copied().collect();
    // Every caller always has one request under way.
    let mean = walls.iter().sum::<f64>() / walls.len() as f64;
    let mut costs: Vec<f64> = rounds.iter().map(|round| round.cpu_micros).collect();
    println!(
        "{network:<14} {:<9} {:>10.0} {:>9.1} {:>9.1} {:>12.2} {:>12.1}",
        subject.name,
        CALLERS as f64 * 1e6 / mean,
        quantile(&mut walls, 0.5) / 1e3,
        quantile(&mut walls, 0.99) / 1e3,
        median(&mut costs) / 1e3,
        rows as f64 / runs.max(1) as f64
    );
}

/// Rows that an endpoint has answered, and runs of its model.
fn runs(device: &mut Device, endpoint: &str) -> (u64, u64) {
    let stats = device
        .client()
        .get(&format!("/v2/models/{endpoint}/stats"))
        .json();
    let count = |key: &str| {
        let counted = stats.pointer(&format!("/model_stats/0/{key}"));
        counted.and_then(Value::as_u64).unwrap_or_default()
    };
    let counted = (count("inference_count"), count("execution_count"));
    assert_ne!(counted, (0, 0), "{stats}");
    counted
}
