//! The last events that concern an endpoint, for whoever may see it.
//!
//! Events are the process's own, as its event log is: there is one list, and it forgets the oldest. Only
//! what names an endpoint in its field `endpoint` is kept, and nothing on the way of a request does.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};

/// How many events are kept.
const KEPT: usize = 512;

/// The longest line of one, in bytes.
const LONGEST: usize = 2_000;

#[derive(Debug)]
struct Line {
    endpoint: String,
    text: String,
}

static LINES: Mutex<VecDeque<Line>> = Mutex::new(VecDeque::new());

/// Forgets the events of an endpoint that is gone: another of its name is not for the same eyes.
pub fn forget_events(endpoint: &str) {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.retain(|line| line.endpoint != endpoint);
}

/// The events of an endpoint, the oldest first, a line each.
#[must_use]
pub fn recent_events(endpoint: &str) -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let own = lines.iter().filter(|line| line.endpoint == endpoint);
    own.fold(String::new(), |all, line| all + &line.text + "\n")
}

/// Keeps the events that concern an endpoint.
#[derive(Debug)]
pub(super) struct KeepRecent;

impl<S: Subscriber> Layer<S> for KeepRecent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(endpoint) = fields.endpoint else {
            return;
        };
        let level = event.metadata().level();
        let mut text = String::new();
        if SystemTime.format_time(&mut Writer::new(&mut text)).is_err() {
            text.push_str("unknown time");
        }
        text += &format!(" {level} {}{}", fields.message, fields.rest);
        text.truncate(text.floor_char_boundary(LONGEST));
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(Line { endpoint, text });
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct Fields {
    endpoint: Option<String>,
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "endpoint" => self.endpoint = Some(format!("{value:?}")),
            name => {
                self.rest += &format!(" {name}={value:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn events_that_name_an_endpoint_are_kept_until_newer_ones_take_their_place() {
        let registry = tracing_subscriber::registry().with(KeepRecent);
        tracing::subscriber::with_default(registry, || {
            tracing::info!(endpoint = %"recent-a", version = 3, "applied");
            tracing::warn!(endpoint = %"recent-b", "{}", "x".repeat(2 * LONGEST));
            tracing::info!("nobody's");
        });
        let own = recent_events("recent-a");
        assert!(own.ends_with(" INFO applied version=3\n"), "{own}");
        assert_eq!(own.lines().count(), 1);
        assert_eq!(recent_events("recent-b").trim_end().len(), LONGEST);
        forget_events("recent-b");
        assert_eq!(recent_events("recent-b"), "");
        let registry = tracing_subscriber::registry().with(KeepRecent);
        tracing::subscriber::with_default(registry, || {
            for number in 0..2 * KEPT {
                tracing::info!(endpoint = %"recent-c", number, "changed");
            }
        });
        assert_eq!(recent_events("recent-a"), "");
        assert_eq!(recent_events("recent-c").lines().count(), KEPT);
    }
}
