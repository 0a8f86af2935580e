//! The verbs that speak to a running device, or to its files when it does not run.

use std::path::Path;

use edgeward_base::clock::{Clock as _, SystemClock};
use edgeward_base::units::parse_duration;
use serde_json::{Value, json};

use super::args::{EndpointVerb, LogsVerb, ModelVerb, OnDevice, Output, Provision, TokenVerb};
use super::output::{Failure, line, value};
use super::serve::{ask, files};
use crate::api::admin::client::AdminClient;
use crate::api::admin::{CreateToken, ImportModel};
use crate::app::{ADMIN_SOCKET, account};
use crate::config::{DeviceIdentity, FleetMembership};
use crate::inference_table::{verify, views};
use crate::store::StateLock;

pub(super) fn client(on: &OnDevice) -> AdminClient {
    AdminClient::new(&on.state.join(ADMIN_SOCKET))
}

/// `edgeward provision`.
pub(super) fn provision(who: &Provision) -> Result<(), Failure> {
    let key = who.registry_key.parse();
    let registry_key = key.map_err(|error| Failure::usage(format!("--registry-key: {error}")))?;
    let fs = files();
    fs.create_dir_all(&who.state)
        .map_err(|error| Failure::failed(&error))?;
    // A running device has read its identity and would go on with the old one.
    let _lock = StateLock::acquire(&who.state).map_err(|error| Failure::failed(&error))?;
    let identity = DeviceIdentity {
        device: who.device.clone(),
        fleet: Some(FleetMembership {
            fleet: who.fleet.clone(),
            registry_key,
        }),
    };
    identity
        .write(fs.as_ref(), &who.state)
        .map_err(|error| Failure::failed(&error))?;
    line(format_args!(
        "{} of fleet {} in {}",
        who.device,
        who.fleet,
        who.state.display()
    ))
}

/// `edgeward status`.
pub(super) fn status(on: &OnDevice) -> Result<(), Failure> {
    value(&ask(client(on).status())?, on.output)
}

/// `edgeward token`.
pub(super) fn token(verb: TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Create {
            principal,
            expires,
            groups,
            service_principal,
            on,
        } => {
            let wanted = CreateToken {
                principal,
                expires: expires.as_deref().map(expiry).transpose()?,
                groups,
                service_principal,
            };
            let made = ask(client(&on).create_token(&wanted))?;
            match on.output {
                Output::Json => value(&made, Output::Json),
                Output::Text => line(&made.token),
            }
        }
        TokenVerb::List(on) => value(&ask(client(&on).tokens())?, on.output),
        TokenVerb::Revoke { id, on } => {
            let id = id
                .parse()
                .map_err(|error| Failure::usage(format!("ID: {error}")))?;
            ask(client(&on).revoke_token(&id))?;
            value(&json!({"revoked": id.to_string()}), on.output)
        }
    }
}

/// The moment that lies so long ahead, in milliseconds since 1970.
fn expiry(after: &str) -> Result<i64, Failure> {
    let after =
        parse_duration(after).map_err(|error| Failure::usage(format!("--expires: {error}")))?;
    let after = i64::try_from(after.as_millis())
        .map_err(|_| Failure::usage("--expires: that is further ahead than a date can be"))?;
    Ok(SystemClock::new().wall_millis().saturating_add(after))
}

/// `edgeward model`.
pub(super) fn model(verb: ModelVerb) -> Result<(), Failure> {
    match verb {
        ModelVerb::Import {
            path,
            name,
            version,
            on,
        } => {
            let path = std::path::absolute(path).map_err(|error| Failure::failed(&error))?;
            let wanted = ImportModel {
                path,
                name,
                version: version.get(),
            };
            value(&ask(client(&on).import_model(&wanted))?.model, on.output)
        }
        ModelVerb::List(on) => get(&on, "/models"),
    }
}

/// `edgeward endpoint`.
pub(super) fn endpoint(verb: EndpointVerb) -> Result<(), Failure> {
    match verb {
        EndpointVerb::List(on) => get(&on, "/endpoints"),
        EndpointVerb::Get { name, on } => get(&on, &format!("/endpoints/{name}")),
    }
}

fn get(on: &OnDevice, route: &str) -> Result<(), Failure> {
    value(&ask(client(on).get::<Value>(route))?, on.output)
}

/// `edgeward logs`.
pub(super) fn logs(verb: LogsVerb) -> Result<(), Failure> {
    match verb {
        LogsVerb::Seal(on) => value(&ask(client(&on).seal_logs())?, on.output),
        LogsVerb::Verify(on) => {
            let report = report(&on)?;
            value(&report, on.output)?;
            match report.get("sound") {
                Some(Value::Bool(true)) => Ok(()),
                _ => Err(Failure::said()),
            }
        }
        LogsVerb::Views { landing, state } => {
            let folder = landing.unwrap_or_else(|| state.join("rows").join("parquet"));
            line(views(&folder).map_err(|error| Failure::failed(&error))?)
        }
    }
}

/// Asks the running device; where none runs, holds its lock and reads the files.
fn report(on: &OnDevice) -> Result<Value, Failure> {
    let Some(_lock) = idle(&on.state) else {
        return ask(client(on).get("/logs/verify"));
    };
    let report = verify(files().as_ref(), &on.state.join("rows"))
        .map_err(|error| Failure::failed(&error))?;
    account(&report).map_err(|error| Failure::failed(&error))
}

/// The lock of a state directory that no process owns.
fn idle(state: &Path) -> Option<StateLock> {
    StateLock::acquire(state).ok()
}
