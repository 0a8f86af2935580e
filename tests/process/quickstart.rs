//! `edgeward quickstart`, as somebody on a new machine uses it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use edgeward_harness::http::{Client, Reply};
use edgeward_harness::process::{Process, run};
use edgeward_harness::{edgeward, skip, wait, workspace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::landing::Landing;
use crate::samples::{Golden, capture, fraud_endpoint};

/// Requests that must all follow a split of 100 %.
const ALL_TO_ONE: usize = 200;

/// A quickstart in a folder, with what it printed on its one line.
struct Quickstart {
    child: Child,
    stdout: BufReader<ChildStdout>,
    told: Value,
    client: Client,
}

impl Quickstart {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(edgeward())
            .args(["quickstart", "--output", "json", "--listen", "127.0.0.1:0"])
            .args(["--broker-listen", "127.0.0.1:0", "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let told: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let text = |field: &str| {
            told[field]
                .as_str()
                .unwrap_or_else(|| panic!("{field}: {told}"))
        };
        let client = Client::tcp(text("url")).with_token(text("token"));
        Self {
            child,
            stdout,
            told,
            client,
        }
    }

    fn text(&self, field: &str) -> &str {
        self.told[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.told))
    }

    fn endpoint(&self, name: &str) -> &Value {
        let endpoints = self.told["endpoints"].as_array().unwrap();
        let found = endpoints.iter().find(|endpoint| endpoint["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", self.told))
    }

    fn invoke(&mut self, endpoint: &str, body: &Value) -> Reply {
        self.client
            .post(&format!("/serving-endpoints/{endpoint}/invocations"), body)
    }

    /// Ends it as Ctrl-C does; answers what else it printed on standard output.
    fn end(mut self) -> String {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = wait::until("quickstart ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        rest
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The framework's answers of the version that an endpoint's served entity stands for.
fn golden(endpoint: &str, served: &str) -> Golden {
    match (endpoint, served) {
        ("fraud-detection", "champion") => Golden::of("fraud", 3),
        ("fraud-detection", "challenger") => Golden::of("fraud", 4),
        ("diabetes", _) => Golden::of("diabetes", 1),
        ("tumour", served) => {
            let version = if served.contains('1') { 1 } else { 2 };
            Golden::of("tumour", version)
        }
        ("digits", "digits-2") => Golden::of("digits", 2),
        other => panic!("served by {other:?}"),
    }
}

fn served(reply: &Reply) -> &str {
    reply
        .header("served-model-name")
        .unwrap_or_else(|| panic!("no Served-Model-Name: {reply:?}"))
}

fn request_id(reply: &Reply) -> String {
    reply.header("x-request-id").unwrap().to_owned()
}

#[test]
fn a_new_machine_serves_what_the_framework_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut quickstart = Quickstart::start(&folder.path().join("quickstart"));
    let mut requests = Vec::new();
    for endpoint in ["fraud-detection", "tumour", "diabetes", "digits"] {
        let printed: Value = match &quickstart.endpoint(endpoint)["body"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            body => body.clone(),
        };
        let reply = quickstart.invoke(endpoint, &printed);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let rows = printed["dataframe_split"]["data"].as_array().unwrap().len();
        assert_eq!(reply.json()["predictions"].as_array().unwrap().len(), rows);
        requests.push(request_id(&reply));
        let of_either = golden(endpoint, served(&reply)).body;
        let reply = quickstart.invoke(endpoint, &of_either);
        golden(endpoint, served(&reply)).assert_answers(&reply);
        requests.push(request_id(&reply));
    }
    requests.extend(run_printed_lines(&quickstart));
    requests.extend(follow_the_split(&mut quickstart, folder.path()));
    rows_land(&quickstart, &requests);
    edit_over_rest(&mut quickstart);
    assert_eq!(
        quickstart.end(),
        "",
        "one line and nothing else on standard output"
    );
}

/// Runs each printed curl line in a shell; answers its request ids.
fn run_printed_lines(quickstart: &Quickstart) -> Vec<String> {
    if Command::new("curl").arg("--version").output().is_err() {
        skip("the printed curl lines", "there is no curl on this machine");
        return Vec::new();
    }
    let endpoints = quickstart.told["endpoints"].as_array().unwrap();
    let ids = endpoints.iter().map(|endpoint| {
        let line = endpoint["curl"].as_str().unwrap();
        // A word more than is printed, to learn the request id.
        let output = Command::new("sh")
            .args([
                "-c",
                &line.replacen("curl ", "curl --dump-header /dev/stderr ", 1),
            ])
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}: {output:?}"));
        assert!(answer["predictions"].is_array(), "{line}: {answer}");
        let head = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        id.unwrap_or_else(|| panic!("no x-request-id in {head}"))
            .trim()
            .to_owned()
    });
    ids.collect()
}

/// Changes the split with the registry's command; answers the ids of all requests made.
fn follow_the_split(quickstart: &mut Quickstart, folder: &Path) -> Vec<String> {
    let registry = folder.join("quickstart/registry");
    let traffic = [
        "registry".as_ref(),
        "traffic".as_ref(),
        "fraud-detection".as_ref(),
        "champion=0".as_ref(),
        "challenger=100".as_ref(),
        "--registry".as_ref(),
        registry.as_os_str(),
    ];
    drop(run(&edgeward(), &traffic).success());
    wait::until("the device has applied the split", || {
        let status = [
            "registry".as_ref(),
            "status".as_ref(),
            "--output".as_ref(),
            "json".as_ref(),
        ];
        let status = [&status[..], &["--registry".as_ref(), registry.as_os_str()]].concat();
        let status = run(&edgeward(), &status).json();
        let (_, device) = status["devices"].as_object()?.iter().next()?;
        let ack = &device["reports"]["ack/endpoints"];
        let generation = &ack["generation"];
        let acked = format!("{}.{}", generation["epoch"], generation["generation"]);
        let published = device["published"]["endpoints"].as_str()?;
        (acked == published && ack["state"] == "applied").then_some(())
    });
    let challenger = Golden::of("fraud", 4);
    let body = challenger.first_row();
    let ids = (0..ALL_TO_ONE).map(|_| {
        let reply = quickstart.invoke("fraud-detection", &body);
        assert!(challenger.is_answered_by(&reply), "{}", reply.text());
        assert_eq!(served(&reply), "challenger");
        request_id(&reply)
    });
    ids.collect()
}

/// Waits until the landing folder has exactly the requests that were made.
fn rows_land(quickstart: &Quickstart, requests: &[String]) {
    let folder = PathBuf::from(quickstart.text("landing"));
    let landing = wait::until("all rows have landed", || {
        let landing = Landing::read(&folder);
        (landing.rows() >= requests.len()).then_some(landing)
    });
    assert!(landing.doubled.is_empty(), "{:?}", landing.doubled);
    assert_eq!(landing.rows(), requests.len());
    assert_eq!(landing.request_ids(), requests.iter().cloned().collect());
    println!(
        "process.quickstart: {} requests, {} rows landed",
        requests.len(),
        landing.rows()
    );
    let Some(python) = std::env::var_os("EDGEWARD_PYTHON").filter(|python| !python.is_empty())
    else {
        return skip(
            "landing.py over the quickstart's rows",
            "EDGEWARD_PYTHON is not set",
        );
    };
    let checked = Command::new(python)
        .arg(workspace().join("tests/clients/landing.py"))
        .arg(&folder)
        .arg("--complete")
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// Edits that the registry does not know of pass in a quickstart.
fn edit_over_rest(quickstart: &mut Quickstart) {
    let reply = quickstart.client.send(
        "PUT",
        "/api/2.0/serving-endpoints/fraud-detection/config",
        &fraud_endpoint(100),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let champion = Golden::of("fraud", 3);
    let reply = quickstart.invoke("fraud-detection", &champion.first_row());
    assert!(champion.is_answered_by(&reply), "{}", reply.text());
}

#[test]
fn a_second_start_finds_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Quickstart::start(folder.path());
    let config = json!({
        "served_entities": [
            {"name": "mine", "entity_name": "main.default.tumour", "entity_version": "2"},
        ],
        "auto_capture_config": capture("mine"),
    });
    let body = json!({"name": "mine", "config": config});
    let created = first.client.post("/api/2.0/serving-endpoints", &body);
    assert_eq!(created.status, 200, "{}", created.text());
    let token = first.text("token").to_owned();
    assert_eq!(first.end(), "");

    let mut second = Quickstart::start(folder.path());
    let mut client = Client::tcp(second.text("url")).with_token(&token);
    assert_eq!(client.get("/api/2.0/serving-endpoints/mine").status, 200);
    let golden = Golden::of("tumour", 2);
    golden.assert_answers(&client.post("/serving-endpoints/mine/invocations", &golden.body));
    let reply = second.invoke("fraud-detection", &Golden::of("fraud", 3).body);
    self::golden("fraud-detection", served(&reply)).assert_answers(&reply);
    assert_eq!(second.end(), "");
}

#[test]
fn a_port_in_use_names_the_option() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()))
        .unwrap();
    for (option, other) in [
        ("--listen", "--broker-listen"),
        ("--broker-listen", "--listen"),
    ] {
        let mut command = Command::new(edgeward());
        command
            .args(["quickstart", "--output", "json", "--dir"])
            .arg(folder.path());
        command.args([option, &taken.1, other, "127.0.0.1:0"]);
        let mut quickstart = Process::start(&mut command);
        let status = quickstart.wait();
        let said = quickstart.output().join("\n");
        assert!(!status.success(), "{said}");
        let named = said
            .split_whitespace()
            .any(|word| word.trim_matches(['`', ':', ',']) == option);
        assert!(named, "names {option}: {said}");
        assert!(said.contains(&taken.1), "names the address: {said}");
    }
}
