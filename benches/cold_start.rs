//! The first request of a model that was scaled to zero, beside onnxruntime's session and first run.
//!
//! Both in turns: a request to an endpoint that says `Scaled to zero`, over HTTP, until its answer is there;
//! and in a Python process that has everything else loaded, `InferenceSession(...)` and one run of it. The
//! pages of the file are in memory for both. `EDGEWARD_BIN` names the release build of `edgeward`,
//! `EDGEWARD_ZOO` the zoo, `EDGEWARD_PYTHON` a Python with onnxruntime (`make bench-serving`).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::panic, reason = "a measurement that cannot be taken ends")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edgeward_benches::load::{micros, timed};
use edgeward_benches::usage::pss_kib;
use edgeward_benches::{median, recorded, zoo};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::http::Client;
use edgeward_harness::{wait, workspace};
use serde_json::{Value, json};

const NETWORKS: [&str; 7] = [
    "keyword-spotting",
    "lstm",
    "mobilenet-v2",
    "mobilenet-v2-int8-s8s8",
    "resnet18",
    "minilm",
    "perceptron",
];
const ROUNDS: usize = 7;
/// What giving memory back takes at most.
const GIVEN_BACK: Duration = Duration::from_millis(500);
/// The profile `generic-cpu`, with a model gone as soon as a profile allows.
const PROFILE: &str = include_str!("../profiles/generic-cpu.toml");

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "milliseconds to the first answer, median of {ROUNDS} alternating rounds; memory (PSS) of the box, MiB"
    );
    println!(
        "{:<24} {:>10} {:>12} {:>7} {:>8} {:>8}",
        "network", "edgeward", "onnxruntime", "ratio", "awake", "at zero"
    );
    for network in NETWORKS {
        match zoo::folder(network) {
            Some(folder) => measure(network, &folder),
            None => println!("{network:<24} EDGEWARD_ZOO has none: not measured"),
        }
    }
}

fn measure(network: &str, folder: &Path) {
    let mut device = Device::new(&DeviceOptions {
        config: "[profile]\nname = \"./hasty.toml\"\n".to_owned(),
        ..DeviceOptions::default()
    });
    let profile = PROFILE.replace(
        "scale_to_zero_after = \"30m\"",
        "scale_to_zero_after = \"1s\"",
    );
    assert_ne!(profile, PROFILE, "the profile has another time");
    std::fs::write(device.folder().join("hasty.toml"), profile)
        .unwrap_or_else(|error| panic!("no profile: {error}"));
    device.start();
    let scales = json!({"scale_to_zero_enabled": true});
    zoo::serve(&mut device, network, "cold", &scales);
    let inputs = recorded::inputs(&folder.join("ort.json"), 1);
    let body = recorded::open_inference_binary(&inputs);
    let subject = zoo::subject(
        &mut device,
        network,
        "/v2/models/cold/infer".to_owned(),
        body,
    );
    let mut peer = Peer::start(folder);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut awake, mut gone) = (Vec::new(), Vec::new());
    let pid = device.process().id();
    for _ in 0..ROUNDS {
        wait::until("the model is scaled to zero", || {
            at_zero(&mut device.client())
        });
        wait::pass(GIVEN_BACK);
        gone.push(mebibytes(pid));
        // A connection that is there already, as a client's is.
        let mut client = device.client();
        drop(client.get("/v2/health/live"));
        let (took, ()) = timed(|| subject.ask(&mut client));
        ours.push(micros(took) / 1e3);
        awake.push(mebibytes(pid));
        theirs.push(peer.turn());
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "{network:<24} {ours:>10.1} {theirs:>12.1} {:>7.2} {:>8.0} {:>8.0}",
        ours / theirs,
        median(&mut awake),
        median(&mut gone)
    );
    device.stop();
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process has less than 2^53 KiB"
)]
fn mebibytes(pid: u32) -> f64 {
    pss_kib(pid) as f64 / 1024.0
}

fn at_zero(client: &mut Client) -> Option<()> {
    let endpoint: Value = client.get("/api/2.0/serving-endpoints/cold").json();
    let served = endpoint.pointer("/config/served_entities/0/state/deployment_state_message");
    (served.and_then(Value::as_str) == Some("Scaled to zero")).then_some(())
}

/// A Python process that makes a session of a model and runs it once whenever it is told to.
struct Peer {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Peer {
    fn start(folder: &Path) -> Self {
        let python = std::env::var_os("EDGEWARD_PYTHON").unwrap_or_else(|| "python3".into());
        let mut child = Command::new(workspace().join(python))
            .arg(workspace().join("benches/cold_start.py"))
            .arg(folder.join("model.onnx"))
            .arg(folder.join("ort.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("no Python: {error}"));
        let answers = child.stdout.take().unwrap_or_else(|| panic!("no pipe"));
        Self {
            child,
            answers: BufReader::new(answers),
        }
    }

    /// Milliseconds of a session and its first run.
    fn turn(&mut self) -> f64 {
        let asked = self.child.stdin.as_mut().map(|ask| writeln!(ask));
        assert!(matches!(asked, Some(Ok(()))), "the peer has ended");
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let took = read.ok().and_then(|_| line.trim().parse().ok());
        took.unwrap_or_else(|| panic!("the peer said {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
