//! What the daemon has made durable, as it says itself while it runs.
//!
//! It counts the rows that were handed to its log, and those that are committed, which are the first
//! of them: one commit may take only a part of what waits. So once as many are committed as had been
//! handed over at one look, every row whose request was answered before that look is durable.

use std::collections::VecDeque;
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_harness::device::Device;
use edgeward_harness::http::Client;
use edgeward_harness::wait;
use serde_json::Value;

use super::{End, admin_socket};

/// Time between two looks: well under the interval of commits.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What was seen of one boot.
#[derive(Debug, Default)]
pub(super) struct Commits {
    pub(super) boot: String,
    /// Rows that were durable at the last look.
    pub(super) rows: u64,
    /// Requests that were answered before this moment have durable rows.
    pub(super) owed_until: Option<Duration>,
    /// The longest time from a look until the look that saw its rows durable.
    pub(super) slowest: Duration,
    /// Rows that have no commit because there was no room for them, at the last look, by counter.
    pub(super) left_out: String,
}

/// One look at a daemon that runs.
struct Look {
    /// When it began: rows of requests that were answered before are among those handed over.
    at: Duration,
    /// Rows handed to the log.
    offered: u64,
}

/// Looks at the counter until the daemon is gone.
pub(super) struct Watcher<'a> {
    admin: Client,
    clock: &'a SharedClock,
    end: &'a End,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(device: &Device, clock: &'a SharedClock, end: &'a End) -> Self {
        Self {
            admin: Client::unix(&admin_socket(&device.state())),
            clock,
            end,
        }
    }

    pub(super) fn run(mut self) -> Commits {
        let mut commits = Commits::default();
        let mut waiting = VecDeque::new();
        loop {
            let at = self.clock.monotonic();
            let answer = self
                .admin
                .try_send("GET", "/api/edgeward/v1/status", &[], &[]);
            let reply = match answer {
                Ok(reply) if self.end.counts() => reply.json(),
                late => {
                    assert!(self.end.has_begun(), "no status before the end: {late:?}");
                    return commits;
                }
            };
            let rows = &reply["rows"];
            commits.see(at, rows, &mut waiting);
            commits.boot = reply["boot_id"].as_str().unwrap().to_owned();
            wait::pass(LOOK_EVERY);
        }
    }
}

impl Commits {
    /// Takes what a look at `at` found: whose rows are durable now.
    fn see(&mut self, at: Duration, rows: &Value, waiting: &mut VecDeque<Look>) {
        let count = |counter: &str| rows[counter].as_u64();
        self.rows = count("committed").unwrap();
        // A binary of format version 0 does not say: of its rows only the count is owed.
        if let Some(offered) = count("offered") {
            waiting.push_back(Look { at, offered });
        }
        // With a row lost in between, as many are no longer the first ones.
        let all_taken = count("lost") == Some(0);
        while let Some(look) = waiting.pop_front_if(|look| all_taken && look.offered <= self.rows) {
            self.owed_until = Some(look.at);
            self.slowest = self.slowest.max(at - look.at);
        }
        let left_out = ["dropped", "lost", "sampled", "refused"].map(|counter| {
            let count = count(counter).unwrap_or(0);
            format!("{count} {counter}")
        });
        self.left_out = left_out.join(", ");
    }
}
