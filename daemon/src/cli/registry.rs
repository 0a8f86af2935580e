//! The verbs that speak to a running registry.

use std::path::Path;

use edgeward_base::names::ModelRef;
use edgeward_base::units::Percent;
use serde_json::{Value, json};

use super::args::{
    OnRegistry, RegistryDeviceVerb, RegistryEndpointVerb, RegistryModelVerb, RegistryVerb,
};
use super::output::{Failure, value};
use super::serve::ask;
use crate::app::call_registry;
use crate::registry::{AdminRequest, EndpointInput};

/// Carries out one verb.
pub(super) fn run(verb: RegistryVerb) -> Result<(), Failure> {
    match verb {
        RegistryVerb::Serve(file) => super::serve::serve_registry(&file.config),
        RegistryVerb::Status(on) => show(&on, &AdminRequest::Status),
        RegistryVerb::Device(verb) => device(verb),
        RegistryVerb::Model(verb) => model(verb),
        RegistryVerb::Endpoint(verb) => endpoint(verb),
        RegistryVerb::Traffic {
            name,
            split,
            device,
            on,
        } => {
            let split = split
                .into_iter()
                .map(|(entity, percent)| Ok((entity, Percent::new(i64::from(percent))?)))
                .collect::<Result<_, edgeward_base::units::PercentRangeError>>()
                .map_err(|error| Failure::usage(error.to_string()))?;
            show(
                &on,
                &AdminRequest::SetTraffic {
                    name,
                    split,
                    device,
                },
            )
        }
    }
}

fn call(on: &OnRegistry, request: &AdminRequest) -> Result<Value, Failure> {
    ask(call_registry(&on.registry, request))
}

fn show(on: &OnRegistry, request: &AdminRequest) -> Result<(), Failure> {
    value(&call(on, request)?, on.output)
}

fn device(verb: RegistryDeviceVerb) -> Result<(), Failure> {
    match verb {
        RegistryDeviceVerb::Add { device, on } => show(&on, &AdminRequest::AddDevice { device }),
        RegistryDeviceVerb::List(on) => {
            let status = call(&on, &AdminRequest::Status)?;
            value(&status.get("devices"), on.output)
        }
    }
}

fn model(verb: RegistryModelVerb) -> Result<(), Failure> {
    match verb {
        RegistryModelVerb::Publish {
            path,
            name,
            version,
            device,
            on,
        } => {
            let path = std::path::absolute(path).map_err(|error| Failure::failed(&error))?;
            let model = ModelRef { name, version };
            show(
                &on,
                &AdminRequest::PublishModel {
                    path,
                    model,
                    device,
                },
            )
        }
        RegistryModelVerb::List(on) => {
            let status = call(&on, &AdminRequest::Status)?;
            value(&json!({"models": status.get("models")}), on.output)
        }
    }
}

fn endpoint(verb: RegistryEndpointVerb) -> Result<(), Failure> {
    match verb {
        RegistryEndpointVerb::Set {
            name,
            config,
            device,
            on,
        } => {
            let config = read_config(&config)?;
            show(
                &on,
                &AdminRequest::SetEndpoint {
                    name,
                    config,
                    device,
                },
            )
        }
        RegistryEndpointVerb::Remove { name, device, on } => {
            show(&on, &AdminRequest::RemoveEndpoint { name, device })
        }
        RegistryEndpointVerb::List(on) => {
            let status = call(&on, &AdminRequest::Status)?;
            let devices = status
                .get("devices")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            let endpoints: serde_json::Map<String, Value> = devices
                .filter_map(|(name, device)| Some((name.clone(), device.get("endpoints")?.clone())))
                .collect();
            value(&endpoints, on.output)
        }
    }
}

/// Reads an endpoint's configuration as a person wrote it.
fn read_config(path: &Path) -> Result<EndpointInput, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::usage(format!("--config {}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("--config {}: {error}", path.display())))
}
