//! A closed-loop load: so many connections, each with one request in flight.

#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads real time in its own threads"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edgeward_harness::device::Device;
use edgeward_harness::http::Client;
use edgeward_harness::workspace;
use serde_json::{Value, json};

use crate::recorded::Body;
use crate::usage::cpu_time;

/// A server to be measured: one URL, one body.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What the report calls it.
    pub name: String,
    /// The process whose CPU time counts.
    pub pid: u32,
    /// `http://host:port`.
    pub url: String,
    /// The path of the request.
    pub path: String,
    /// The bearer token, if the server wants one.
    pub token: Option<String>,
    /// The body of the request.
    pub body: Body,
}

impl Subject {
    /// One request, and its whole answer.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn ask(&self, client: &mut Client) {
        let headers = self.body.headers.iter();
        let headers: Vec<(&str, &str)> = headers
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = client
            .try_send("POST", &self.path, &headers, &self.body.bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(reply.status, 200, "{}: {}", self.name, reply.text());
    }

    /// A running device, with an endpoint made here whose requests become rows.
    ///
    /// # Panics
    /// When the endpoint cannot be made.
    #[must_use]
    pub fn with_rows(device: &mut Device) -> Self {
        let sample = workspace().join("daemon/samples/fraud/3");
        let sample = sample.to_string_lossy();
        let import = ["model", "import", &sample, "--name", "main.default.fraud"];
        device
            .edgeward(&[&import[..], &["--version", "3"]].concat())
            .success();
        let created = device.client().post(
            "/api/2.0/serving-endpoints",
            &json!({"name": "fraud", "config": {
                "served_entities": [{"entity_name": "main.default.fraud", "entity_version": "3"}],
                "auto_capture_config": {
                    "enabled": true, "catalog_name": "main", "schema_name": "default",
                    "table_name_prefix": "fraud",
                },
            }}),
        );
        assert_eq!(created.status, 200, "{}", created.text());
        Self {
            name: "edgeward".to_owned(),
            pid: device.process().id(),
            url: device.url(),
            path: "/serving-endpoints/fraud/invocations".to_owned(),
            token: Some(device.token()),
            body: Body::json(&json!({"dataframe_records": [
                {"amount": 50000, "merchant_category": "online", "hour": 3, "is_foreign": true}
            ]})),
        }
    }
}

/// A counter of the device's rows, as its status has it.
#[must_use]
pub fn rows(device: &Device, counter: &str) -> u64 {
    let status = device.status();
    let count = status.get("rows").and_then(|rows| rows.get(counter));
    count.and_then(Value::as_u64).unwrap_or_default()
}

/// What one round measured.
#[derive(Debug, Clone)]
pub struct Round {
    /// Server CPU time per request, in microseconds.
    pub cpu_micros: f64,
    /// Wall times of the requests, in microseconds.
    pub wall_micros: Vec<f64>,
}

/// Sends `requests` requests over `connections` connections and waits for every answer.
///
/// # Panics
/// When an answer is not 200.
#[must_use]
pub fn round(subject: &Subject, connections: usize, requests: u64) -> Round {
    let left = AtomicU64::new(requests);
    let before = cpu_time(subject.pid);
    let wall: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| drive(subject, &left)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    let used = cpu_time(subject.pid).saturating_sub(before);
    let wall_micros: Vec<f64> = wall.into_iter().flatten().collect();
    assert_eq!(
        wall_micros.len() as u64,
        requests,
        "{} lost answers",
        subject.name
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of requests is small")]
    let cpu_micros = micros(used) / requests as f64;
    Round {
        cpu_micros,
        wall_micros,
    }
}

fn drive(subject: &Subject, left: &AtomicU64) -> Vec<f64> {
    let mut client = Client::tcp(&subject.url);
    if let Some(token) = &subject.token {
        client = client.with_token(token);
    }
    let mut wall = Vec::new();
    while left
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        let start = Instant::now();
        subject.ask(&mut client);
        wall.push(micros(start.elapsed()));
    }
    wall
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Real time that a closure takes.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}
