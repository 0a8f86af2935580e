//! From a traffic change on the broker to the first request that is routed by it.
//!
//! Publishes signed `endpoints` documents with the registry's own key, each with all traffic on the
//! other served entity, and sends one request after the other until one is answered by it. The time
//! counts from the publish, so the broker's hop and the last request before the change are in it.
//! Beside it, in the same run: what one fsync costs on the device's disk.
//!
//! `EDGEWARD_BIN` names the release build of `edgeward` (default: the one of this workspace).

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints, and ends when it cannot measure"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use edgeward_base::digest::Digest;
use edgeward_base::units::Percent;
use edgeward_benches::load::{micros, timed};
use edgeward_benches::quantile;
use edgeward_harness::broker::Mosquitto;
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::http::Client;
use edgeward_harness::mqtt::MqttClient;
use edgeward_harness::registry::Registry;
use edgeward_harness::{skip, wait, workspace};
use edgeward_wire::desired::{Address, DesiredDocument, Document, EndpointsDocument};
use edgeward_wire::key::RegistryKey;
use edgeward_wire::ordering::{Generation, Kind};
use edgeward_wire::topic::Topic;
use serde_json::json;

const DEVICE: &str = "box-1";
const PATH: &str = "/serving-endpoints/fraud-detection/invocations";
/// Changes that are measured.
const CHANGES: u64 = 100;
/// Fsyncs that are measured.
const SYNCS: usize = 100;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(broker) = Mosquitto::start() else {
        skip("fleet bench", "there is no Mosquitto on this machine");
        return;
    };
    let mut registry = Registry::new(&broker.url());
    registry.start();
    registry
        .edgeward(&["registry", "device", "add", DEVICE])
        .success();
    let mut device = Device::new(&DeviceOptions {
        broker: Some(broker.url()),
        ..DeviceOptions::default()
    });
    device.provision(Registry::FLEET, DEVICE, &registry.key());
    device.start();
    publish(&registry);
    let mut client = device.client();
    wait::until("the endpoint serves", || {
        (served_by(&mut client)? == "champion").then_some(())
    });

    let mut changes = Changes::new(&registry, broker.port());
    let mut took: Vec<f64> = (0..CHANGES)
        .map(|number| changes.measure(&mut client, number))
        .collect();
    let mut syncs = fsyncs(&device.state());
    let (median, p99) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
    let sync = quantile(&mut syncs, 0.5);
    println!("publish of a traffic change to the first request routed by it, {CHANGES} changes:");
    println!("  median {median:.2} ms, p99 {p99:.2} ms; one fsync here: median {sync:.2} ms");
    println!("  budget 10 ms + 3 fsyncs: {:.2} ms", 10.0 + 3.0 * sync);
    device.stop();
    registry.stop();
}

/// Publishes both versions and an endpoint that sends everything to the champion.
fn publish(registry: &Registry) {
    for version in ["3", "4"] {
        let path = workspace().join("daemon/samples/fraud").join(version);
        let path = path.to_string_lossy();
        let named = ["--name", "main.default.fraud", "--version", version];
        let mut arguments = vec!["registry", "model", "publish", &path];
        arguments.extend(named);
        registry.edgeward(&arguments).success();
    }
    let entity = |name: &str, version: &str| json!({"name": name, "entity_name": "main.default.fraud", "entity_version": version});
    let config = json!({
        "served_entities": [entity("champion", "3"), entity("challenger", "4")],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": 100},
            {"served_entity_name": "challenger", "traffic_percentage": 0},
        ]},
    });
    let file = registry.dir().join("endpoint.json");
    std::fs::write(&file, config.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let file = file.to_string_lossy();
    registry
        .edgeward(&[
            "registry",
            "endpoint",
            "set",
            "fraud-detection",
            "--config",
            &file,
        ])
        .success();
}

/// Which served entity answers a request now.
fn served_by(client: &mut Client) -> Option<String> {
    let reply = client.post(
        PATH,
        &json!({"dataframe_records": [{"amount": 50, "merchant_category": "online", "hour": 3}]}),
    );
    reply.header("served-model-name").map(str::to_owned)
}

/// Signs and publishes changes as the registry would.
struct Changes {
    key: RegistryKey,
    mqtt: MqttClient,
    address: Address,
    topic: String,
    document: EndpointsDocument,
    generation: Generation,
}

impl Changes {
    fn new(registry: &Registry, port: u16) -> Self {
        let seed = std::fs::read_to_string(registry.dir().join("secrets/registry.key"))
            .unwrap_or_else(|error| panic!("{error}"));
        // 64 hexadecimal digits, as a digest has.
        let seed: Digest = seed
            .trim()
            .parse()
            .unwrap_or_else(|error| panic!("{error}"));
        let key = RegistryKey::from_seed(seed.as_bytes());
        let name = |text: &str| text.parse().unwrap_or_else(|error| panic!("{error}"));
        let address = Address {
            fleet: Registry::FLEET
                .parse()
                .unwrap_or_else(|error| panic!("{error}")),
            device: name(DEVICE),
            kind: Kind::Endpoints,
        };
        let topic = Topic::Desired {
            device: address.device.clone(),
            kind: Kind::Endpoints,
        };
        let topic = topic.name(&address.fleet);
        let mut mqtt = MqttClient::connect(port);
        let held = mqtt.retained(&topic);
        let verified = DesiredDocument::verify(&held, &key.pinned(), &address)
            .unwrap_or_else(|error| panic!("{error}"));
        let Document::Endpoints(document) = verified.document else {
            panic!("no endpoints")
        };
        let epoch = verified.identity.generation.epoch;
        // Far above what the registry itself has published.
        let generation = Generation::new(epoch, 1_000);
        Self {
            key,
            mqtt,
            address,
            topic,
            document,
            generation,
        }
    }

    /// Milliseconds from the publish to the first answer of the other entity.
    fn measure(&mut self, client: &mut Client, number: u64) -> f64 {
        let (wanted, shares) = if number.is_multiple_of(2) {
            ("challenger", [0, 100])
        } else {
            ("champion", [100, 0])
        };
        for endpoint in self.document.endpoints.values_mut() {
            for (route, share) in endpoint.traffic_config.routes.iter_mut().zip(shares) {
                route.traffic_percentage = Percent::new(share).unwrap_or_default();
            }
        }
        self.generation = Generation::new(self.generation.epoch, self.generation.generation + 1);
        let Address { fleet, device, .. } = &self.address;
        let document = Document::Endpoints(self.document.clone());
        let signed = DesiredDocument::sign(&self.key, fleet, device, self.generation, 0, &document)
            .unwrap_or_else(|error| panic!("{error}"));
        let bytes = signed.bytes();
        let (took, ()) = timed(|| {
            self.mqtt.publish_retained(&self.topic, &bytes);
            while served_by(client).as_deref() != Some(wanted) {}
        });
        micros(took) / 1_000.0
    }
}

/// Milliseconds of appending 4 KiB and syncing them, on the disk below `folder`.
fn fsyncs(folder: &Path) -> Vec<f64> {
    let path = folder.join("fsync-probe");
    let mut file = File::create(&path).unwrap_or_else(|error| panic!("{error}"));
    let samples = (0..SYNCS)
        .map(|_| {
            let (took, done) = timed(|| file.write_all(&[7; 4096]).and_then(|()| file.sync_all()));
            done.unwrap_or_else(|error| panic!("{error}"));
            micros(took) / 1_000.0
        })
        .collect();
    drop(std::fs::remove_file(&path));
    samples
}
