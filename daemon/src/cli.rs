//! The command line: parses arguments, runs one verb, and turns its outcome into an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it was tried and failed |
//! | 64 | the arguments make no sense (`EX_USAGE`) |
//! | 78 | the configuration is wrong, or the state is newer than the program (`EX_CONFIG`) |
//!
//! `serve`, `registry serve` and `quickstart` run a process; every other verb is a client of one,
//! over its admin socket, and opens files itself only where it holds the state's lock.

mod args;
mod device;
#[cfg(feature = "wgpu")]
mod hardware;
mod output;
mod registry;
mod serve;
#[cfg(feature = "broker")]
mod start;
mod state;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

#[cfg(feature = "wgpu")]
use args::DeviceVerb;
use args::{CommandLine, RegistryVerb, Verb};
use output::Failure;

/// Parses the arguments of the process and runs the verb.
#[must_use]
pub fn main() -> ExitCode {
    let verb = match CommandLine::try_parse() {
        Ok(line) => line.verb,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nobody reads: there is nothing left to say.
            drop(error.print());
            return if asked {
                ExitCode::SUCCESS
            } else {
                Failure::USAGE.into()
            };
        }
    };
    match run(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                drop(writeln!(std::io::stderr(), "edgeward: {text}"));
            }
            failure.code.into()
        }
    }
}

fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve(file) => serve::serve(&file.config),
        Verb::CheckConfig(file) => serve::check_config(&file.config),
        #[cfg(feature = "broker")]
        Verb::Quickstart(options) => start::quickstart(options),
        Verb::Provision(who) => device::provision(&who),
        Verb::Status(on) => device::status(&on),
        #[cfg(feature = "wgpu")]
        Verb::Device(DeviceVerb::Probe { output }) => hardware::probe(output),
        Verb::Token(verb) => device::token(verb),
        Verb::Model(verb) => device::model(verb),
        Verb::Endpoint(verb) => device::endpoint(verb),
        Verb::Logs(verb) => device::logs(verb),
        Verb::State(verb) => state::state(verb),
        Verb::Registry(RegistryVerb::Serve(file)) => serve::serve_registry(&file.config),
        Verb::Registry(verb) => registry::run(verb),
    }
}
