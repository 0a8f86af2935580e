//! How `edgeward serve` starts and ends, and what its service manager hears of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::process::{Process, Signal};
use edgeward_harness::{edgeward, skip, wait, workspace};
use serde_json::{Value, json};

use crate::samples::{Golden, folder};

/// How often the watchdog is fed while [`a_service_manager_hears_of_each_phase`] looks.
const FEEDINGS: u64 = 3;

/// A device that serves `fraud` version 3 as `fraud-detection`.
fn serving(options: &DeviceOptions) -> Device {
    let mut device = Device::new(options);
    device.start();
    serve_fraud(&mut device);
    device
}

fn serve_fraud(device: &mut Device) {
    let path = folder("fraud", 3);
    let path = path.to_str().unwrap();
    let import = [
        "model",
        "import",
        path,
        "--name",
        "main.default.fraud",
        "--version",
        "3",
    ];
    device.edgeward(&import).success();
    let config = json!({"served_entities": [
        {"name": "champion", "entity_name": "main.default.fraud", "entity_version": "3"},
    ]});
    let created = device.client().post(
        "/api/2.0/serving-endpoints",
        &json!({"name": "fraud-detection", "config": config}),
    );
    assert_eq!(created.status, 200, "{}", created.text());
}

/// A request that has begun and lacks the last byte of its body.
struct BegunRequest {
    stream: TcpStream,
    last: u8,
}

impl BegunRequest {
    fn begin(device: &mut Device, body: &Value) -> Self {
        let url = device.url();
        let body = body.to_string();
        let head = format!(
            "POST /serving-endpoints/fraud-detection/invocations HTTP/1.1\r\nHost: edgeward\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            device.token(),
            body.len()
        );
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        let (last, rest) = body.as_bytes().split_last().unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(rest).unwrap();
        Self {
            stream,
            last: *last,
        }
    }

    /// Waits until the server has the request.
    fn once_under_way(self, device: &Device) -> Self {
        wait::until("the request is under way", || {
            (device.status()["in_flight"]["requests"] == json!(1)).then_some(())
        });
        self
    }

    fn finish(mut self) -> String {
        self.stream.write_all(&[self.last]).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

#[test]
fn a_service_manager_hears_of_each_phase() {
    let mut device = Device::new(&DeviceOptions {
        environment: vec![("WATCHDOG_USEC", "200000")],
        ..DeviceOptions::default()
    });
    device.start();
    for _ in 0..FEEDINGS {
        device.wait_for_notice("WATCHDOG=1");
    }
    println!("process.lifecycle: READY=1, then WATCHDOG=1 {FEEDINGS} times");
    // Holds the drain open, so that the process is still there to be heard.
    let connection = TcpStream::connect(device.url().trim_start_matches("http://")).unwrap();
    device.process().signal(Signal::TERM);
    device.wait_for_notice("STOPPING=1");
    drop(connection);
    assert!(device.process().wait().success());
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let golden = Golden::of("fraud", 3);
    let mut device = serving(&DeviceOptions::default());
    let request = BegunRequest::begin(&mut device, &golden.first_row()).once_under_way(&device);
    device.process().signal(Signal::TERM);
    device.wait_for_notice("STOPPING=1");
    let answer = request.finish();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"predictions\""), "{answer}");
    let status = device.process().wait();
    assert!(
        status.success(),
        "{status}: {:?}",
        device.process().output()
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let golden = Golden::of("fraud", 3);
    // A test waits for less than this: the second signal is what ends the process.
    let mut device = serving(&DeviceOptions {
        config: "grace_period = \"1h\"\n".to_owned(),
        ..DeviceOptions::default()
    });
    let request = BegunRequest::begin(&mut device, &golden.first_row()).once_under_way(&device);
    device.process().signal(Signal::TERM);
    device.wait_for_notice("STOPPING=1");
    assert!(
        device.process().status().is_none(),
        "the drain waits for the request"
    );
    device.process().signal(Signal::TERM);
    let status = device.process().wait();
    assert!(
        !status.success(),
        "a drain that was cut short is no success: {status}"
    );
    drop(request);
}

#[test]
fn a_state_directory_has_one_daemon() {
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
    let mut command = Command::new(edgeward());
    let mut second = Process::start(command.arg("serve").arg("--config").arg(device.config()));
    let status = second.wait();
    let said = second.output().join("\n");
    assert!(!status.success(), "{said}");
    let state = device.state();
    assert!(
        said.contains(state.to_str().unwrap()),
        "names the directory: {said}"
    );
    assert!(said.contains("in use by process"), "says why: {said}");
    assert_eq!(
        device.client().get("/api/2.0/serving-endpoints").status,
        200
    );
    device.stop();
}

#[test]
fn a_port_in_use_names_the_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edgeward.toml");
    let state = folder.path().join("state");
    let text = format!(
        "state.dir = \"{}\"\nserver.listen = \"{address}\"\n",
        state.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(edgeward());
    let mut serve = Process::start(command.arg("serve").arg("--config").arg(&file));
    let status = serve.wait();
    let said = serve.output().join("\n");
    assert!(!status.success(), "{said}");
    assert!(said.contains("server.listen"), "names the option: {said}");
    assert!(said.contains(&address), "names the address: {said}");
}

#[test]
fn the_systemd_unit_is_valid() {
    let here = Command::new("systemd-analyze").arg("--version").output();
    if here.is_err() {
        return skip(
            "the_systemd_unit_is_valid",
            "there is no systemd-analyze on this machine",
        );
    }
    let unit = fs::read_to_string(workspace().join("systemd/edgeward.service")).unwrap();
    let program = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=")?.split(' ').next())
        .unwrap();
    // `verify` looks whether the program is there.
    let unit = unit.replace(
        program,
        fs::canonicalize(edgeward()).unwrap().to_str().unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edgeward.service");
    fs::write(&file, unit).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    assert!(!said.contains("edgeward.service:"), "{said}");
}

/// The nice value in a `stat` below `/proc`: proc(5) has it as the 17th word after the name.
fn nice_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
}

#[test]
fn compaction_gives_way_to_inference() {
    /// As `daemon/src/inference_table/keeper.rs` has it, beyond that of the process.
    const NICE: i32 = 10;
    /// No process is nicer.
    const MOST: i32 = 19;
    /// Its name, as far as the kernel keeps it.
    const KEEPER: &str = "(rows/rows-keepe)";
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
    let process = format!("/proc/{}", device.process().id());
    let own = nice_in(&fs::read_to_string(format!("{process}/stat")).unwrap()).unwrap();
    let nice = wait::until("the keeper has lowered its priority", || {
        let threads = fs::read_dir(format!("{process}/task")).unwrap().flatten();
        let mut stats =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        let nice = nice_in(&stats.find(|stat| stat.contains(KEEPER))?)?;
        (nice != own || own == MOST).then_some(nice)
    });
    assert_eq!(nice, (own + NICE).min(MOST));
    device.stop();
}

/// How many KiB of the binary's code the process has mapped.
fn mapped_code(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut of_binary = false;
    let mut mapped = 0;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["Rss:", kib, _] if of_binary => mapped += kib.parse::<u64>().unwrap(),
            [name, ..] if name.ends_with(':') => {}
            [_, rights, .., path] => {
                of_binary = *rights == "r-xp" && Path::new(path) == edgeward();
            }
            _ => of_binary = false,
        }
    }
    mapped
}

#[test]
fn an_idle_box_gives_the_code_back_that_only_its_start_ran() {
    let mut device = Device::new(&DeviceOptions::default());
    device.start();
    let golden = Golden::of("fraud", 3);
    let pid = device.process().id();
    // A disk that stalls makes a start look idle: then it has less at the second look.
    let started = mapped_code(pid);
    serve_fraud(&mut device);
    let started = started.max(mapped_code(pid));
    assert!(started > 0, "none of the binary's code is mapped");
    wait::until("half of its code is given back", || {
        (mapped_code(pid) < started / 2).then_some(())
    });
    let url = "/serving-endpoints/fraud-detection/invocations";
    golden.assert_answers(&device.client().post(url, &golden.body));
}
