//! What the daemon has acknowledged, and the client that keeps changing it.
//!
//! Each endpoint and token has a set of states that it may be found in: one after an answer, two
//! while a change has no answer. A restart settles which of them it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use edgeward_harness::device::Device;
use edgeward_harness::http::{Client, Reply};
use edgeward_harness::wait;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{End, admin_socket};
use crate::samples::{capture, fraud_endpoint};

/// Endpoints that are made, changed and deleted on the device.
pub(super) const LOCAL_ENDPOINTS: [&str; 4] = ["local-0", "local-1", "local-2", "local-3"];

/// Tokens that live at once, beside those that were there before.
const TOKENS: usize = 8;

const ROOT: &str = "/api/2.0/serving-endpoints";
const TOKENS_ROOT: &str = "/api/edgeward/v1/tokens";

/// An endpoint: absent, or the champion's share.
type Share = Option<u64>;

/// Everything that may be found after a restart.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    endpoints: BTreeMap<&'static str, BTreeSet<Share>>,
    /// Texts of live tokens by id.
    tokens: BTreeMap<String, String>,
    /// Ids of tokens whose texts nobody here knows.
    strangers: BTreeSet<String>,
    /// Texts of tokens that were revoked.
    revoked: Vec<String>,
    /// A token whose revocation has no answer.
    revoking: Option<String>,
    /// Whether the creation of a token has no answer.
    creating: bool,
}

impl Known {
    /// Takes what is there before the first round.
    pub(super) fn read(device: &mut Device) -> Self {
        // The token that the harness itself uses is made here.
        device.token();
        Self {
            endpoints: LOCAL_ENDPOINTS
                .map(|name| (name, BTreeSet::from([None])))
                .into(),
            tokens: BTreeMap::new(),
            strangers: token_ids(device),
            revoked: Vec::new(),
            revoking: None,
            creating: false,
        }
    }

    /// Asserts that the restarted daemon is in one of the states that it may be in.
    pub(super) fn compare(&mut self, device: &mut Device, round: u64) {
        let mut client = device.client();
        for (name, allowed) in &mut self.endpoints {
            let found = found_share(&mut client, name);
            assert!(
                allowed.contains(&found),
                "round {round}: {name} is {found:?}, not {allowed:?}"
            );
            *allowed = BTreeSet::from([found]);
        }
        self.compare_tokens(device, round);
    }

    fn compare_tokens(&mut self, device: &mut Device, round: u64) {
        let found = token_ids(device);
        if let Some(id) = self.revoking.take()
            && !found.contains(&id)
        {
            self.revoked.extend(self.tokens.remove(&id));
        }
        let mut known: BTreeSet<String> = self.tokens.keys().cloned().collect();
        known.extend(self.strangers.iter().cloned());
        let lost: Vec<_> = known.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: tokens {lost:?} are gone");
        let new: Vec<String> = found.difference(&known).cloned().collect();
        let may_be_new = usize::from(std::mem::take(&mut self.creating));
        assert!(
            new.len() <= may_be_new,
            "round {round}: tokens {new:?} came from nowhere"
        );
        self.strangers.extend(new);
        let url = device.url();
        let status = |token: &str| Client::tcp(&url).with_token(token).get(ROOT).status;
        for (id, token) in &self.tokens {
            assert_eq!(status(token), 200, "round {round}: token {id}");
        }
        for token in self.revoked.drain(..) {
            assert_eq!(status(&token), 403, "round {round}: a revoked token");
        }
    }
}

/// How an endpoint stands, once what is under way has ended.
fn found_share(client: &mut Client, name: &str) -> Share {
    wait::until(&format!("{name} has been staged"), || {
        let reply = client.get(&format!("{ROOT}/{name}"));
        if reply.status == 404 {
            return Some(None);
        }
        let endpoint = reply.json();
        match endpoint["state"]["config_update"].as_str() {
            Some("NOT_UPDATING") => Some(Some(share_in(&endpoint["config"]))),
            Some("IN_PROGRESS") => None,
            other => panic!("{name}: {other:?}: {endpoint}"),
        }
    })
}

fn share_in(config: &Value) -> u64 {
    let routes = config["traffic_config"]["routes"].as_array().unwrap();
    let route = routes
        .iter()
        .find(|route| route["served_entity_name"] == "champion");
    route.unwrap()["traffic_percentage"].as_u64().unwrap()
}

fn token_ids(device: &Device) -> BTreeSet<String> {
    let list = Client::unix(&admin_socket(&device.state()))
        .get(TOKENS_ROOT)
        .json();
    let tokens = list["tokens"].as_array().unwrap().iter();
    tokens
        .map(|token| token["id"].as_str().unwrap().to_owned())
        .collect()
}

/// What a [`Changer`] has done.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) acknowledged: u64,
    pub(super) in_doubt: u64,
}

/// Changes endpoints and tokens, one at a time, until the daemon is gone.
pub(super) struct Changer<'a> {
    rest: Client,
    admin: Client,
    known: &'a mut Known,
    random: StdRng,
    end: &'a End,
    changes: Changes,
}

impl<'a> Changer<'a> {
    pub(super) fn new(
        device: &mut Device,
        known: &'a mut Known,
        random: StdRng,
        end: &'a End,
    ) -> Self {
        Self {
            rest: device.client(),
            admin: Client::unix(&admin_socket(&device.state())),
            known,
            random,
            end,
            changes: Changes::default(),
        }
    }

    /// Changes something until a change has no answer.
    pub(super) fn run(mut self) -> Changes {
        loop {
            let changed = if self.random.random_ratio(3, 4) {
                self.change_endpoint()
            } else {
                self.change_tokens()
            };
            if let Err(error) = changed {
                let ended = self.end.has_begun();
                assert!(ended, "a change has no answer before the end: {error}");
                self.changes.in_doubt += 1;
                return self.changes;
            }
        }
    }

    /// Makes, changes or deletes an endpoint.
    fn change_endpoint(&mut self) -> io::Result<()> {
        let name = LOCAL_ENDPOINTS[self.random.random_range(0..LOCAL_ENDPOINTS.len())];
        let before = self.known.endpoints[name].clone();
        let is_there = before.iter().all(Option::is_some);
        let share = self.random.random_range(0..=100_u8);
        let mut config = fraud_endpoint(share);
        config["auto_capture_config"] = capture("local");
        let (method, path, body, after) = if !is_there {
            let body = json!({"name": name, "config": config});
            ("POST", ROOT.to_owned(), body, Some(share.into()))
        } else if self.random.random_ratio(2, 3) {
            (
                "PUT",
                format!("{ROOT}/{name}/config"),
                config,
                Some(share.into()),
            )
        } else {
            ("DELETE", format!("{ROOT}/{name}"), Value::Null, None)
        };
        // Until there is an answer, both states are possible.
        self.known.endpoints.get_mut(name).unwrap().insert(after);
        let reply = send(&mut self.rest, self.end, method, &path, &body)?;
        let settled = match reply.status {
            200 => {
                self.changes.acknowledged += 1;
                BTreeSet::from([after])
            }
            // The change before this one is still being staged: nothing has happened.
            409 => before,
            status => panic!("{method} {path}: {status}: {}", reply.text()),
        };
        self.known.endpoints.insert(name, settled);
        Ok(())
    }

    /// Makes a token, or revokes one.
    fn change_tokens(&mut self) -> io::Result<()> {
        if self.known.tokens.len() < TOKENS {
            self.known.creating = true;
            let reply = send(
                &mut self.admin,
                self.end,
                "POST",
                TOKENS_ROOT,
                &json!({"principal": "changer"}),
            )?;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let made = reply.json();
            let text = |field: &str| made[field].as_str().unwrap().to_owned();
            self.known.tokens.insert(text("id"), text("token"));
            self.known.creating = false;
        } else {
            let id = self.known.tokens.keys().next().unwrap().clone();
            self.known.revoking = Some(id.clone());
            let path = format!("{TOKENS_ROOT}/{id}");
            let reply = send(&mut self.admin, self.end, "DELETE", &path, &Value::Null)?;
            assert_eq!(reply.status, 200, "{}", reply.text());
            self.known.revoked.extend(self.known.tokens.remove(&id));
            self.known.revoking = None;
        }
        self.changes.acknowledged += 1;
        Ok(())
    }
}

/// Sends a change; an answer that does not count is none.
fn send(
    client: &mut Client,
    end: &End,
    method: &str,
    path: &str,
    body: &Value,
) -> io::Result<Reply> {
    let json = [("Content-Type", "application/json")];
    let reply = match body {
        Value::Null => client.try_send(method, path, &[], &[])?,
        body => client.try_send(method, path, &json, body.to_string().as_bytes())?,
    };
    if end.counts() {
        Ok(reply)
    } else {
        Err(io::Error::other("the answer was read after the cut"))
    }
}
