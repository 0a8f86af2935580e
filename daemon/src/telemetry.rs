//! Telemetry: what the process says about itself.
//!
//! Owns the event log on standard error, the numbers that `/metrics` shows ([`Metrics`]) and the
//! conversation with the service manager ([`ServiceManager`]). Standard output is never written:
//! it belongs to the commands.
//!
//! Must never make the request path wait, and never write a secret: nothing here knows one.

mod metrics;
mod recent;
mod service_manager;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub use metrics::{Counter, Gauge, Histogram, Metrics, Usage};
pub use recent::{forget_events, recent_events};
pub use service_manager::ServiceManager;

use recent::KeepRecent;

/// How events are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// For people: one line per event, in colour on a terminal.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// The event log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartEventLogError {
    /// The filter is none.
    #[error("{filter:?} is no filter; allowed: such as info, debug or info,edgeward::fleet=debug")]
    Filter {
        /// The filter that was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has an event log already.
    #[error("the event log was started before")]
    Started(#[source] TryInitError),
}

/// Starts writing events to standard error. Once per process.
///
/// # Errors
/// [`StartEventLogError`].
pub fn start_event_log(filter: &str, format: EventFormat) -> Result<(), StartEventLogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| StartEventLogError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    // What an endpoint's logs show does not hang on what an operator wants to read.
    let recent = KeepRecent.with_filter(LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(recent);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        EventFormat::Text => {
            let layer = layer.with_ansi(std::io::stderr().is_terminal());
            registry.with(layer.with_filter(parsed)).try_init()
        }
        EventFormat::Json => {
            let layer = layer.json().flatten_event(true);
            registry.with(layer.with_filter(parsed)).try_init()
        }
    };
    started.map_err(StartEventLogError::Started)
}
