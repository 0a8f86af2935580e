//! Process start to first prediction, and memory after a minute of idling.
//!
//! `EDGEWARD_BIN` names the release build of `edgeward` (default: the one of this workspace).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::time::Duration;

use edgeward_benches::load::{micros, timed};
use edgeward_benches::{quantile, usage};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::{wait, workspace};
use serde_json::json;

/// Starts that are measured.
const STARTS: usize = 20;
/// How long the process idles before its memory is read.
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
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
    let created = device.client().post(
        "/api/2.0/serving-endpoints",
        &json!({"name": "fraud", "config": {"served_entities": [
            {"entity_name": "main.default.fraud", "entity_version": "3", "workload_size": "Small",
             "scale_to_zero_enabled": false}
        ]}}),
    );
    assert_eq!(created.status, 200, "{}", created.text());
    device.stop();

    let body = json!({"dataframe_records": [
        {"amount": 50000, "merchant_category": "online", "hour": 3, "is_foreign": true}
    ]});
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (took, ()) = timed(|| {
            device.start();
            let reply = device
                .client()
                .post("/serving-endpoints/fraud/invocations", &body);
            assert_eq!(reply.status, 200, "{}", reply.text());
        });
        starts.push(micros(took) / 1_000.0);
        device.stop();
    }
    println!(
        "process start to first prediction: median {:.0} ms, p90 {:.0} ms of {STARTS} \
         (one run of `edgeward status` to learn the port included)",
        quantile(&mut starts, 0.5),
        quantile(&mut starts, 0.9)
    );
    device.start();
    drop(
        device
            .client()
            .post("/serving-endpoints/fraud/invocations", &body),
    );
    wait::pass(IDLE);
    let pid = device.process().id();
    println!(
        "memory after {} s idle: PSS {} KiB",
        IDLE.as_secs(),
        usage::pss_kib(pid)
    );
    device.stop();
}
