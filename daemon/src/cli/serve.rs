//! The verbs that run a process under a service manager.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::{Failure, line};
use crate::app::{Device, Means, Registry, engines};
use crate::config::{Config, DeviceIdentity, LogConfig, LogFormat, RegistryConfig};
use crate::profile::Profile;
use crate::telemetry::{EventFormat, ServiceManager, start_event_log};

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs a future on a runtime with as many threads as there are cores.
pub(super) fn block_on<T>(
    future: impl AsyncFnOnce(Means) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("edgeward")
        .build()
        .map_err(|error| Failure::failed(&error))?;
    let means = Means::of_the_system(runtime.handle().clone());
    let done = runtime.block_on(future(means));
    // A thread that hangs in a system call does not keep the process: everything durable is done.
    runtime.shutdown_background();
    done
}

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process at once.
pub(super) fn stop_signal() -> Result<CancellationToken, Failure> {
    let failed = |error: std::io::Error| Failure::failed(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    // Not one of the process's tasks: it has to outlive the drain.
    let unjoined = crate::tasks::Tasks::new(tokio::runtime::Handle::current());
    drop(unjoined.spawn("signals", async move {
        for times in 1.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if times == 1 {
                told.cancel();
            } else {
                drop(writeln!(
                    std::io::stderr(),
                    "edgeward: second signal, ending at once"
                ));
                abort();
            }
        }
    }));
    Ok(stop)
}

/// Ends the process without the drain, as a person who signals twice wants.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "a second signal asks for exactly this: everything acknowledged is durable already"
)]
fn abort() {
    std::process::exit(1);
}

fn log_events(log: &LogConfig) -> Result<(), Failure> {
    let format = match log.format {
        LogFormat::Text => EventFormat::Text,
        LogFormat::Json => EventFormat::Json,
    };
    start_event_log(&log.filter, format).map_err(|error| Failure::config(&error))
}

/// `edgeward serve`.
pub(super) fn serve(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file, env).map_err(|error| Failure::config(&error))?;
    log_events(&config.log)?;
    block_on(async |means| {
        let stop = stop_signal()?;
        let manager = ServiceManager::from_env(env).map_err(|error| Failure::config(&error))?;
        let built = Device::build(config, manager, &means).await;
        let device = built.map_err(|error| {
            if error.is_configuration() {
                Failure::config(&error)
            } else {
                Failure::failed(&error)
            }
        })?;
        let report = device.run(stop.cancelled_owned()).await;
        ended(&report.problems)
    })
}

/// `edgeward registry serve`.
pub(super) fn serve_registry(file: &Path) -> Result<(), Failure> {
    let config = RegistryConfig::load(file, env).map_err(|error| Failure::config(&error))?;
    log_events(&config.log)?;
    block_on(async |means| {
        let stop = stop_signal()?;
        let manager = ServiceManager::from_env(env).map_err(|error| Failure::config(&error))?;
        let registry = Registry::build(&config, &means)
            .await
            .map_err(|error| Failure::failed(&error))?;
        let report = registry.run(manager, stop.cancelled_owned()).await;
        ended(&report.problems)
    })
}

fn ended(problems: &[String]) -> Result<(), Failure> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::problems(problems))
    }
}

/// `edgeward check-config`: what `serve` would read before it opens anything.
pub(super) fn check_config(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file, env).map_err(|error| Failure::config(&error))?;
    let profile = Profile::load(&config.profile).map_err(|error| Failure::config(&error))?;
    profile
        .choose_engines(&engines::compiled_in())
        .map_err(|error| Failure::config(&error))?;
    DeviceIdentity::read(&config.state_dir).map_err(|error| Failure::config(&error))?;
    line(format_args!(
        "{}: good, profile {}",
        file.display(),
        profile.name
    ))
}

/// What every verb that is a client runs on: one thread.
pub(super) fn ask<T, E: std::error::Error>(
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(&error))?;
    runtime
        .block_on(question)
        .map_err(|error| Failure::failed(&error))
}

/// The file system that verbs write through themselves.
pub(super) fn files() -> Arc<dyn edgeward_base::durable::DurableFs> {
    edgeward_base::durable::RealFs::shared()
}
