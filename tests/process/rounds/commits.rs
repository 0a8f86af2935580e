//! What the daemon has made durable, as it says itself while it runs.
//!
//! A group commit takes every row that waits when it begins. So a row whose request was answered
//! before one look at the counter is in the second commit that later looks see at the latest: the
//! first may have begun before the row was there.

use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_harness::device::Device;
use edgeward_harness::http::Client;
use edgeward_harness::wait;

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
    /// The longest time between two commits, with rows waiting all the while.
    pub(super) slowest: Duration,
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
        // The last look before the counter rose, and before it rose for the last time but one.
        let (mut before_last, mut before_first) = (None, None);
        let mut last_look = self.clock.monotonic();
        loop {
            let look = self.clock.monotonic();
            let answer = self
                .admin
                .try_send("GET", "/api/edgeward/v1/status", &[], &[]);
            let reply = match answer {
                Ok(reply) if self.end.counts() => reply.json(),
                late => {
                    assert!(self.end.has_begun(), "no status before the end: {late:?}");
                    commits.owed_until = before_first;
                    return commits;
                }
            };
            let rows = reply["rows"]["committed"].as_u64().unwrap();
            if rows > commits.rows {
                let waited = before_last.map_or(Duration::ZERO, |before| look - before);
                commits.slowest = commits.slowest.max(waited);
                before_first = before_last.replace(last_look);
            }
            commits.boot = reply["boot_id"].as_str().unwrap().to_owned();
            commits.rows = rows;
            last_look = look;
            wait::pass(LOOK_EVERY);
        }
    }
}
