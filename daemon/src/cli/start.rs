//! `edgeward quickstart`.

use std::io::Write as _;

use super::args::{Output, Quickstart as Arguments};
use super::output::{Failure, line, value};
use super::serve::{block_on, stop_signal};
use crate::app::{Greeting, Quickstart, QuickstartError, QuickstartOptions};
use crate::telemetry::{EventFormat, start_event_log};

/// What is logged beside the progress lines: a person reads them, so only what went wrong.
const LOG_FILTER: &str = "warn,rumqttd=off";

/// Runs until a signal.
pub(super) fn quickstart(arguments: Arguments) -> Result<(), Failure> {
    let filter = std::env::var("EDGEWARD_LOG_FILTER").unwrap_or_else(|_| LOG_FILTER.to_owned());
    start_event_log(&filter, EventFormat::Text).map_err(|error| Failure::config(&error))?;
    let Arguments {
        dir,
        listen,
        broker_listen,
        output,
    } = arguments;
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "edgeward".to_owned());
    let options = QuickstartOptions {
        dir,
        listen,
        broker_listen,
        program,
    };
    block_on(async |means| {
        let stop = stop_signal()?;
        let progress = |text: &str| drop(writeln!(std::io::stderr(), "{text}"));
        let started =
            Quickstart::start(&options, &means, &progress, stop.clone().cancelled_owned()).await;
        let quickstart = match started {
            Ok(quickstart) => quickstart,
            Err(QuickstartError::Stopped) => return Ok(()),
            Err(error) => return Err(Failure::failed(&error)),
        };
        match output {
            Output::Json => value(&quickstart.greeting, Output::Json)?,
            Output::Text => greet(&quickstart.greeting)?,
        }
        let problems = quickstart.run(stop.cancelled_owned()).await;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Failure::problems(&problems))
        }
    })
}

fn greet(greeting: &Greeting) -> Result<(), Failure> {
    line("")?;
    line(format_args!("REST API      {}", greeting.url))?;
    line(format_args!("token         {}", greeting.token))?;
    line(format_args!("MQTT broker   {}", greeting.broker))?;
    line(format_args!("rows land in  {}", greeting.landing.display()))?;
    for call in &greeting.endpoints {
        line(format_args!("\ncall {}:\n\n  {}", call.name, call.curl))?;
    }
    line(format_args!(
        "\nchange the traffic split:\n\n  {}",
        greeting.traffic
    ))?;
    line(
        "\nRows are sealed 15 seconds after the first one and land soon after. Ctrl-C stops everything.",
    )
}
