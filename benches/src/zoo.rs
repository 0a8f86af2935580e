//! The networks that `tests/zoo/build.sh` built, served by a device.

use std::path::PathBuf;

use edgeward_harness::device::Device;
use edgeward_harness::workspace;
use serde_json::{Value, json};

use crate::load::Subject;
use crate::recorded::Body;

/// The folder of a network; `None`, with a word about it, where `EDGEWARD_ZOO` names no zoo that has it.
#[must_use]
pub fn folder(network: &str) -> Option<PathBuf> {
    let zoo = std::env::var_os("EDGEWARD_ZOO").map(|zoo| workspace().join(zoo));
    let folder = zoo.map(|zoo| zoo.join(network));
    folder.filter(|folder| folder.join("ort.json").is_file())
}

/// Serves a network at an endpoint; `change` may say more of its one served entity.
///
/// # Panics
/// When it cannot be served.
pub fn serve(device: &mut Device, network: &str, endpoint: &str, change: &Value) {
    let Some(folder) = folder(network) else {
        panic!("EDGEWARD_ZOO has no {network}");
    };
    let (file, name) = (folder.join("model.onnx"), format!("main.zoo.{network}"));
    let file = file.to_string_lossy();
    let import = ["model", "import", &file, "--name", &name, "--version", "1"];
    device.edgeward(&import).success();
    let mut entity = json!({"entity_name": name, "entity_version": "1"});
    if let (Some(entity), Some(change)) = (entity.as_object_mut(), change.as_object()) {
        entity.extend(change.clone());
    }
    let body = json!({"name": endpoint, "config": {"served_entities": [entity]}});
    let mut client = device.client();
    let created = client.post("/api/2.0/serving-endpoints", &body);
    assert_eq!(created.status, 200, "{}", created.text());
}

/// Requests to a path of a device.
pub fn subject(device: &mut Device, name: &str, path: String, body: Body) -> Subject {
    Subject {
        name: name.to_owned(),
        pid: device.process().id(),
        url: device.url(),
        path,
        token: Some(device.token()),
        body,
    }
}
