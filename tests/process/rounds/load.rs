//! Clients that ask for predictions until the daemon is gone.

use std::io;
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_harness::device::Device;
use edgeward_harness::http::{Client, Reply};
use serde_json::{Value, json};

use super::End;
use super::state::LOCAL_ENDPOINTS;
use crate::samples::Golden;

/// Clients of the endpoint that the registry published.
const FLEET_CLIENTS: usize = 3;

/// A request that was answered with 200.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) request_id: String,
    /// When, since the test began.
    pub(super) at: Duration,
}

/// What all clients share.
pub(super) struct Load<'a> {
    url: String,
    token: String,
    body: Value,
    clock: &'a SharedClock,
    end: &'a End,
}

/// One client, on one connection.
pub(super) struct LoadClient<'a> {
    load: &'a Load<'a>,
    number: usize,
    http: Client,
}

impl<'a> Load<'a> {
    pub(super) fn new(device: &mut Device, clock: &'a SharedClock, end: &'a End) -> Self {
        Self {
            url: device.url(),
            token: device.token(),
            body: Golden::of("fraud", 3).first_row(),
            clock,
            end,
        }
    }

    /// The clients: some of the fleet's endpoint, one of endpoints that come and go.
    pub(super) fn clients(&self) -> impl Iterator<Item = LoadClient<'_>> {
        (0..=FLEET_CLIENTS).map(|number| LoadClient {
            load: self,
            number,
            http: Client::tcp(&self.url).with_token(&self.token),
        })
    }
}

impl LoadClient<'_> {
    /// Asks until the daemon is gone; answers what was answered with 200.
    pub(super) fn run(mut self) -> Vec<Answered> {
        let mut answered = Vec::new();
        for count in 0.. {
            let reply = match self.ask(count) {
                Ok(reply) => reply,
                Err(error) => {
                    let ended = self.load.end.has_begun();
                    assert!(ended, "client {}: {error} before the end", self.number);
                    break;
                }
            };
            let at = self.load.clock.monotonic();
            let expected: &[u16] = if self.is_local() {
                &[200, 404, 503]
            } else {
                &[200]
            };
            assert!(
                expected.contains(&reply.status),
                "{}: {}",
                reply.status,
                reply.text()
            );
            if reply.status == 200 {
                let request_id = reply.header("x-request-id").unwrap().to_owned();
                answered.push(Answered { request_id, at });
            }
        }
        answered
    }

    fn is_local(&self) -> bool {
        self.number == FLEET_CLIENTS
    }

    fn ask(&mut self, count: usize) -> io::Result<Reply> {
        let endpoint = if self.is_local() {
            LOCAL_ENDPOINTS[count % LOCAL_ENDPOINTS.len()]
        } else {
            "fraud-detection"
        };
        let mut body = self.load.body.clone();
        body["client_request_id"] = json!(format!("{}-{count}", self.number));
        self.http.try_send(
            "POST",
            &format!("/serving-endpoints/{endpoint}/invocations"),
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }
}
