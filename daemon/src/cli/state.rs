//! `edgeward state`: checks, copies and replaces the state of a device or a registry.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{OnDevice, StateVerb};
use super::device::client;
use super::output::{Failure, value};
use super::serve::{ask, block_on};
use crate::app::{Means, state_options};
use crate::inference_table::put_aside;
use crate::store::{
    LockStateError, OpenStoreError, RestoreStateError, Restored, StateLock, StoreOptions, check,
    export_to, restore, rollback,
};

/// `edgeward state`.
pub(super) fn state(verb: StateVerb) -> Result<(), Failure> {
    match verb {
        StateVerb::Verify(on) => verify(&on),
        StateVerb::Export { file, on } => {
            let file = std::path::absolute(file).map_err(|error| Failure::failed(&error))?;
            let generation = with_options(&on.state, |options| {
                export_to(options, &file).map_err(|error| refused(&error))
            })?;
            value(&json!({"file": file, "generation": generation}), on.output)
        }
        StateVerb::Restore { file, on } => {
            replace(&on, |options, lock| restore(options, &file, lock))
        }
        StateVerb::Rollback { to, on } => replace(&on, |options, lock| {
            let rows = options.state_dir.join("rows");
            // First: were it cut short after the state is back, the older version would see them.
            let away = put_aside(options.fs.as_ref(), &rows);
            let away = away.map_err(|source| RestoreStateError::Write {
                path: rows,
                source: Box::new(source),
            })?;
            let mut rolled = rollback(options, to.as_deref(), lock)?;
            rolled.kept.extend(away);
            Ok(rolled)
        }),
    }
}

fn with_options<T>(
    state: &Path,
    work: impl FnOnce(&StoreOptions) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async |means: Means| work(&state_options(state, &means)))
}

/// Asks the process that runs; where none does, reads the files.
fn verify(on: &OnDevice) -> Result<(), Failure> {
    let report = match StateLock::acquire(&on.state) {
        Ok(lock) => with_options(&on.state, |options| {
            let checked = check(options, &lock).map_err(|error| newer_or_failed(&error))?;
            serde_json::to_value(checked).map_err(|error| Failure::failed(&error))
        })?,
        Err(LockStateError::Held { .. }) => ask(client(on).get("/state/verify"))?,
        Err(error) => return Err(Failure::failed(&error)),
    };
    value(&report, on.output)?;
    match report.get("sound") {
        Some(Value::Bool(true)) => Ok(()),
        _ => Err(Failure::said()),
    }
}

/// Replaces the state of a process that does not run.
fn replace(
    on: &OnDevice,
    work: impl FnOnce(&StoreOptions, &StateLock) -> Result<Restored, RestoreStateError>,
) -> Result<(), Failure> {
    let restored = with_options(&on.state, |options| {
        let made = options.fs.create_dir_all(&on.state);
        made.map_err(|error| Failure::failed(&error))?;
        let lock = StateLock::acquire(&on.state).map_err(|error| Failure::failed(&error))?;
        work(options, &lock).map_err(|error| refused(&error))
    })?;
    value(&restored, on.output)
}

fn newer_or_failed(error: &OpenStoreError) -> Failure {
    if error.is_newer_state() {
        Failure::config(error)
    } else {
        Failure::failed(error)
    }
}

fn refused(error: &RestoreStateError) -> Failure {
    if error.is_newer_state() {
        Failure::config(error)
    } else {
        Failure::failed(error)
    }
}
