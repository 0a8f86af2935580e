//! Server CPU of one image by each route: raw tensors and JSON of the Open Inference Protocol, and an
//! invocation.
//!
//! The model takes every 32nd pixel of 150,528 bytes, so that what is measured is the way to it.
//! `EDGEWARD_BIN` names the release build of `edgeward`, `EDGEWARD_ZOO` the zoo (`make bench-serving`).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use edgeward_benches::load::{Round, round};
use edgeward_benches::{median, quantile, recorded, zoo};
use edgeward_harness::device::{Device, DeviceOptions};
use serde_json::json;

const NETWORK: &str = "thumbnail";
const REQUESTS: u64 = 2_000;
const CONNECTIONS: usize = 2;
const ROUNDS: usize = 5;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(folder) = zoo::folder(NETWORK) else {
        println!("routes: EDGEWARD_ZOO has no {NETWORK}: not measured");
        return;
    };
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
    zoo::serve(&mut device, NETWORK, "image", &json!({}));
    let inputs = recorded::inputs(&folder.join("ort.json"), 1);
    let infer = || "/v2/models/image/infer".to_owned();
    let invocations = "/serving-endpoints/image/invocations".to_owned();
    let subjects = [
        (
            "v2, raw tensor",
            infer(),
            recorded::open_inference_binary(&inputs),
        ),
        ("v2, JSON", infer(), recorded::open_inference_json(&inputs)),
        ("invocation, JSON", invocations, recorded::scoring(&inputs)),
    ]
    .map(|(name, path, body)| zoo::subject(&mut device, name, path, body));
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for number in 0..=ROUNDS {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let measured = round(subject, CONNECTIONS, REQUESTS);
            // The first round warms up.
            if number > 0 {
                rounds.push(measured);
            }
        }
    }
    println!("{REQUESTS} requests a round, {CONNECTIONS} connections, {ROUNDS} alternating rounds");
    println!(
        "{:<18} {:>10} {:>12} {:>10} {:>10}",
        "route", "body bytes", "cpu us/req", "p50 us", "p99 us"
    );
    for (subject, rounds) in subjects.iter().zip(&rounds) {
        let mut costs: Vec<f64> = rounds.iter().map(|round| round.cpu_micros).collect();
        let walls = rounds.iter().flat_map(|round| &round.wall_micros);
        let mut walls: Vec<f64> = walls.copied().collect();
        println!(
            "{:<18} {:>10} {:>12.1} {:>10.0} {:>10.0}",
            subject.name,
            subject.body.bytes.len(),
            median(&mut costs),
            quantile(&mut walls, 0.5),
            quantile(&mut walls, 0.99)
        );
    }
    device.stop();
}
