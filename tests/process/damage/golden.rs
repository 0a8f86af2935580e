//! A state directory with something of everything, and a way to copy it.

use std::fs;
use std::path::{Path, PathBuf};

use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::http::Client;
use edgeward_harness::process::run;
use edgeward_harness::wait;
use edgeward_wire::key::RegistryKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::samples::{Golden as Sample, capture, folder, fraud_endpoint};

/// Small segments, so that there are several; nothing is sealed by itself.
const ROWS: &str =
    "[inference_table]\ncommit_interval = \"20ms\"\nseal_after = \"1h\"\nseal_size = \"64KiB\"\n";
/// The endpoints, each with a table of its own.
pub(super) const ENDPOINTS: [&str; 2] = ["fraud-detection", "second-opinion"];
/// Tokens, each a change of the state.
const TOKENS: usize = 30;
/// A broker that is never there: the box is offline.
const NO_BROKER: &str = "mqtt://127.0.0.1:9";

/// The state that damages are done to.
pub(super) struct Golden {
    folder: TempDir,
    /// The token of whoever asks.
    pub(super) token: String,
}

/// Where copies are made: in memory where that can be, since no power is cut here.
fn room() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn options(disk: &Path) -> DeviceOptions {
    DeviceOptions {
        config: ROWS.to_owned(),
        broker: Some(NO_BROKER.to_owned()),
        disk: Some(disk.to_owned()),
        ..DeviceOptions::default()
    }
}

impl Golden {
    /// Makes it: three starts, of which one ended well, one with a log that was damaged later, and
    /// one with rows in its log.
    pub(super) fn make() -> Self {
        let folder = room();
        let mut device = Device::new(&options(folder.path()));
        let key = RegistryKey::from_seed(&[7; 32]).pinned().to_string();
        device.provision("plant-4", "box-17", &key);
        device.start();
        import_models(&device);
        let mut client = device.client();
        for (number, name) in ENDPOINTS.into_iter().enumerate() {
            let mut config = fraud_endpoint(if number == 0 { 0 } else { 100 });
            config["auto_capture_config"] = capture(name.split_once('-').unwrap().0);
            let body = json!({ "name": name, "config": config });
            let made = client.post("/api/2.0/serving-endpoints", &body);
            assert_eq!(made.status, 200, "{}", made.text());
        }
        for _ in 0..TOKENS {
            let made = admin(&device).post(
                "/api/edgeward/v1/tokens",
                &json!({ "principal": "somebody" }),
            );
            assert_eq!(made.status, 200, "{}", made.text());
        }
        ask(&mut device, 120);
        device.edgeward(&["logs", "seal"]).success();
        ask(&mut device, 60);
        device.stop();

        device.start();
        ask(&mut device, 40);
        device.edgeward(&["logs", "seal"]).success();
        ask(&mut device, 40);
        device.kill();
        damage_log(&device.state());

        device.start();
        wait_until_recovered(&device);
        ask(&mut device, 60);
        device.kill();
        let token = device.token();
        Self { folder, token }
    }

    /// A device that owns a copy, and the folder that it lies in.
    pub(super) fn copy(&self) -> (Device, TempDir) {
        let copy = room();
        let from = self.folder.path().join("state");
        let arguments = ["-a".as_ref(), "--sparse=always".as_ref(), from.as_os_str()];
        let arguments = [&arguments[..], &[copy.path().as_os_str()]].concat();
        run(Path::new("cp"), &arguments).success();
        (Device::new(&options(copy.path())), copy)
    }
}

/// The admin socket, which needs no token.
pub(super) fn admin(device: &Device) -> Client {
    Client::unix(&device.state().join("admin.sock"))
}

fn import_models(device: &Device) {
    for version in [3, 4] {
        let (path, version) = (folder("fraud", version), version.to_string());
        let mut import = vec!["model", "import", path.to_str().unwrap()];
        import.extend(["--name", "main.default.fraud", "--version", &version]);
        device.edgeward(&import).success();
    }
}

/// Asks each endpoint so often, and waits until every row is durable.
fn ask(device: &mut Device, count: u64) {
    let committed = |device: &Device| device.status()["rows"]["committed"].as_u64().unwrap();
    let before = committed(device);
    let body = Sample::of("fraud", 3).first_row();
    let mut client = device.client();
    for name in ENDPOINTS {
        for _ in 0..count {
            let reply = client.post(&format!("/serving-endpoints/{name}/invocations"), &body);
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    let all = before + count * u64::try_from(ENDPOINTS.len()).unwrap();
    wait::until("every row is durable", || {
        (committed(device) >= all).then_some(())
    });
}

/// Flips a bit of the last batch of the newest log.
fn damage_log(state: &Path) {
    let newest = logs(state).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last - 16] ^= 1;
    fs::write(newest, bytes).unwrap();
}

/// Waits until each earlier boot has its end, and the log holds the running one alone, or what the
/// device leaves there on purpose.
pub(super) fn wait_until_recovered(device: &Device) -> Value {
    let boot = device.status()["boot_id"].as_str().unwrap().to_owned();
    wait::until("the earlier boots are recovered", || {
        let report = verified(device);
        let foreign = report["foreign"].to_string();
        let earlier = logs(&device.state()).into_iter().any(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            !name.starts_with(&boot) && !foreign.contains(name)
        });
        let mut boots = report["boots"].as_array().unwrap().iter();
        let ended = boots.all(|entry| entry["boot"] == boot || entry["end"] != "running");
        (ended && !earlier).then_some(report)
    })
}

/// The files of the log, in order.
fn logs(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join("rows/wal")).unwrap();
    let mut logs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    logs.sort();
    logs
}

/// What the running device says of its rows, sound or not.
pub(super) fn verified(device: &Device) -> Value {
    let reply = admin(device).get("/api/edgeward/v1/logs/verify");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}
