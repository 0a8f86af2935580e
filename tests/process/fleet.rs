//! A registry and a device as two processes, with a real Mosquitto between them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use edgeward_base::digest::Digest;
use edgeward_base::names::{DeviceId, FleetId};
use edgeward_harness::broker::Mosquitto;
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::mqtt::MqttClient;
use edgeward_harness::registry::Registry;
use edgeward_harness::{floors, skip, wait};
use edgeward_wire::desired::{Address, DesiredDocument, Document, ModelsDocument};
use edgeward_wire::key::RegistryKey;
use edgeward_wire::ordering::{Generation, Kind};
use edgeward_wire::topic::Topic;
use serde_json::{Value, json};

use crate::landing::Landing;
use crate::samples::{Golden, folder, fraud_endpoint};

/// The device of every test here.
pub(crate) const DEVICE: &str = "box-1";

/// Rows become durable and land soon, so that tests need not wait for them.
pub(crate) const QUICK_ROWS: &str =
    "[inference_table]\ncommit_interval = \"50ms\"\nseal_after = \"1s\"\n";

/// Until a box is back after its broker is: it waits longer and longer between tries, five minutes
/// at most.
pub(crate) const RECONNECTED: Duration = Duration::from_secs(360);

/// Requests that must all follow a split of 100 %.
const ALL_TO_ONE: usize = 100;

/// A generation that no registry of these tests reaches.
const FAR: u64 = 1000;

/// How often the device is killed after a change that a request was routed by.
const KILLS: u64 = 4;

/// Where the data of a fleet lies, if not in folders of its own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Disks<'a> {
    pub(crate) device: Option<&'a Path>,
    pub(crate) registry: Option<&'a Path>,
}

/// A broker, a registry and a device that knows it.
pub(crate) struct Fleet {
    pub(crate) broker: Mosquitto,
    pub(crate) registry: Registry,
    pub(crate) device: Device,
}

impl Fleet {
    /// Starts all three; `None` where no Mosquitto is installed.
    pub(crate) fn start(case: &str, config: &str) -> Option<Self> {
        Self::start_on(case, config, Disks::default())
    }

    /// Like [`start`](Self::start), with the data of the two on disks of the test's own.
    pub(crate) fn start_on(case: &str, config: &str, disks: Disks<'_>) -> Option<Self> {
        Self::start_prepared(case, config, disks, |_| {})
    }

    /// Like [`start_on`](Self::start_on), with a device that `prepare` has changed before it is
    /// provisioned and started.
    pub(crate) fn start_prepared(
        case: &str,
        config: &str,
        disks: Disks<'_>,
        prepare: impl FnOnce(&mut Device),
    ) -> Option<Self> {
        let Some(broker) = Mosquitto::start() else {
            skip(case, "there is no Mosquitto on this machine");
            return None;
        };
        let mut registry = Registry::on(&broker.url(), disks.registry);
        registry.start();
        registry
            .edgeward(&["registry", "device", "add", DEVICE])
            .success();
        let mut device = Device::new(&DeviceOptions {
            config: config.to_owned(),
            broker: Some(broker.url()),
            disk: disks.device.map(Path::to_owned),
            ..DeviceOptions::default()
        });
        prepare(&mut device);
        device.provision(Registry::FLEET, DEVICE, &registry.key());
        device.start();
        Some(Self {
            broker,
            registry,
            device,
        })
    }

    /// Publishes versions 3 and 4 of the sample `fraud`, to one device or to all.
    pub(crate) fn publish_models(&self, only: Option<&str>) {
        for version in [3_u64, 4] {
            let (path, version_text) = (folder("fraud", version), version.to_string());
            let mut arguments = vec!["registry", "model", "publish", path.to_str().unwrap()];
            arguments.extend(["--name", "main.default.fraud", "--version", &version_text]);
            arguments.extend(only.into_iter().flat_map(|device| ["--device", device]));
            self.registry.edgeward(&arguments).success();
        }
    }

    /// Publishes `fraud-detection` with this share for the champion, and waits until it serves.
    pub(crate) fn publish_endpoint(&self, champion: u8) {
        let file = self.device.folder().join("fraud-detection.json");
        fs::write(&file, fraud_endpoint(champion).to_string()).unwrap();
        let file = file.to_str().unwrap();
        let set = [
            "registry",
            "endpoint",
            "set",
            "fraud-detection",
            "--config",
            file,
        ];
        self.registry.edgeward(&set).success();
        self.wait_until_applied();
    }

    /// Changes the split with the registry's command.
    pub(crate) fn publish_traffic(&self, champion: u8) {
        let (champion, challenger) = (
            format!("champion={champion}"),
            format!("challenger={}", 100 - champion),
        );
        let traffic = [
            "registry",
            "traffic",
            "fraud-detection",
            &champion,
            &challenger,
        ];
        self.registry.edgeward(&traffic).success();
    }

    fn device_status(&self) -> Value {
        self.registry.status()["devices"][DEVICE].clone()
    }

    /// The newest generation of a kind that the registry published to the device.
    pub(crate) fn published(&self, kind: Kind) -> Generation {
        let status = self.device_status();
        let text = status["published"][kind.as_str()]
            .as_str()
            .unwrap()
            .to_owned();
        let (epoch, generation) = text.split_once('.').unwrap();
        Generation::new(epoch.parse().unwrap(), generation.parse().unwrap())
    }

    /// Waits until the device has said `state` of this generation; answers the acknowledgement.
    fn wait_for_ack(&self, kind: Kind, generation: Generation, state: &str) -> Value {
        let wanted = serde_json::to_value(generation).unwrap();
        wait::until(&format!("{kind} {generation} is {state}"), || {
            let ack = self.ack(kind);
            (ack["generation"] == wanted && ack["state"] == state).then_some(ack)
        })
    }

    /// The newest acknowledgement of a kind that the registry has recorded.
    fn ack(&self, kind: Kind) -> Value {
        self.device_status()["reports"][format!("ack/{kind}")].clone()
    }

    pub(crate) fn wait_until_applied(&self) {
        let generation = self.published(Kind::Endpoints);
        self.wait_for_ack(Kind::Endpoints, generation, "applied");
    }

    /// Starts the broker again, and waits until the device is back and has applied what was
    /// published last.
    fn reconnect(&mut self) {
        self.broker.restart();
        let generation = serde_json::to_value(self.published(Kind::Endpoints)).unwrap();
        wait::within(RECONNECTED, "the device is back", || {
            let ack = self.ack(Kind::Endpoints);
            (ack["generation"] == generation && ack["state"] == "applied").then_some(())
        });
    }

    /// Asserts that `count` requests in a row are answered by one sample version; answers their ids.
    fn assert_served_by(&mut self, version: u64, count: usize) -> Vec<String> {
        let golden = Golden::of("fraud", version);
        let body = golden.first_row();
        let mut client = self.device.client();
        let ids = (0..count).map(|_| {
            let reply = client.post("/serving-endpoints/fraud-detection/invocations", &body);
            assert!(
                golden.is_answered_by(&reply),
                "not version {version}: {reply:?}"
            );
            reply.header("x-request-id").unwrap().to_owned()
        });
        ids.collect()
    }

    /// What the device says of its endpoint.
    fn endpoint(&mut self) -> Value {
        self.device
            .client()
            .get("/api/2.0/serving-endpoints/fraud-detection")
            .json()
    }

    /// The registry's own key: a forger that stole it.
    fn stolen_key(&self) -> RegistryKey {
        let text = fs::read_to_string(self.registry.dir().join("secrets/registry.key")).unwrap();
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed).unwrap();
        RegistryKey::from_seed(&seed)
    }

    /// Puts a document where the device looks for its desired documents.
    fn forge(&self, kind: Kind, container: &[u8]) {
        let topic = Topic::Desired {
            device: DEVICE.parse().unwrap(),
            kind,
        };
        MqttClient::connect(self.broker.port())
            .publish_retained(&topic.name(&fleet_id()), container);
    }
}

fn fleet_id() -> FleetId {
    Registry::FLEET.parse().unwrap()
}

/// An `endpoints` document with one endpoint that serves one version.
fn endpoints_document(version: u64, manifest: Digest, requires: Generation) -> Document {
    let document = json!({
        "requires": {"models": requires},
        "endpoints": {"fraud-detection": {
            "served_entities": [{
                "name": "champion",
                "entity_name": "main.default.fraud",
                "entity_version": version.to_string(),
                "manifest": manifest,
            }],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": 100},
            ]},
        }},
    });
    Document::Endpoints(serde_json::from_value(document).unwrap())
}

fn signed(key: &RegistryKey, generation: Generation, document: &Document) -> Vec<u8> {
    let device: DeviceId = DEVICE.parse().unwrap();
    let made = DesiredDocument::sign(key, &fleet_id(), &device, generation, 0, document);
    made.unwrap().bytes()
}

#[test]
fn a_published_split_reaches_the_next_request_and_rows_land_once() {
    let Some(mut fleet) = Fleet::start("process.fleet.split", QUICK_ROWS) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(100);
    let mut requests = fleet.assert_served_by(3, ALL_TO_ONE);
    fleet.publish_traffic(0);
    fleet.wait_until_applied();
    requests.extend(fleet.assert_served_by(4, ALL_TO_ONE));

    fleet.broker.kill();
    requests.extend(fleet.assert_served_by(4, ALL_TO_ONE));
    fleet.publish_traffic(100);
    fleet.reconnect();
    requests.extend(fleet.assert_served_by(3, ALL_TO_ONE));

    let wanted: BTreeSet<String> = requests.iter().cloned().collect();
    let folder = fleet.registry.landing();
    let landing = wait::within(RECONNECTED, "all rows have landed", || {
        let landing = Landing::read(&folder);
        (landing.rows() >= requests.len()).then_some(landing)
    });
    assert!(landing.doubled.is_empty(), "{:?}", landing.doubled);
    assert_eq!(landing.rows(), requests.len());
    assert_eq!(landing.request_ids(), wanted);
    println!(
        "process.fleet: {} requests, {} rows landed",
        requests.len(),
        landing.rows()
    );
    fleet.device.stop();
    fleet.registry.stop();
}

#[test]
fn a_document_that_is_not_the_registrys_changes_nothing() {
    let Some(mut fleet) = Fleet::start("process.fleet.forgeries", QUICK_ROWS) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(100);
    let before = fleet.endpoint();
    let Generation { epoch, generation } = fleet.published(Kind::Endpoints);
    let next = Generation::new(epoch, generation + 1);
    let models = fleet.published(Kind::Models);
    let document = endpoints_document(4, Digest::of(b"nobody asks"), models);
    let stranger = RegistryKey::from_seed(&[7; 32]);
    let registry = fleet.stolen_key();

    // Signed by somebody else; by nobody; and with a body that the registry's signature is not for.
    let foreign = signed(&stranger, next, &document);
    let mut unsigned: Value = serde_json::from_slice(&foreign).unwrap();
    unsigned["sig"] = json!("");
    let later = Generation::new(epoch, generation + 2);
    let other: Value = serde_json::from_slice(&signed(&registry, later, &document)).unwrap();
    let mut changed: Value = serde_json::from_slice(&signed(&registry, next, &document)).unwrap();
    changed["body"] = other["body"].clone();
    let forgeries = [
        foreign,
        unsigned.to_string().into_bytes(),
        changed.to_string().into_bytes(),
    ];
    for (number, container) in forgeries.iter().enumerate() {
        let told = fleet.ack(Kind::Endpoints)["sequence"].as_u64().unwrap();
        fleet.forge(Kind::Endpoints, container);
        let ack = wait::until(&format!("forgery {number} is refused"), || {
            let ack = fleet.ack(Kind::Endpoints);
            (ack["sequence"].as_u64()? > told).then_some(ack)
        });
        assert_eq!(ack["state"], "rejected", "{number}: {ack}");
        assert_eq!(ack["code"], "BAD_SIGNATURE", "{number}: {ack}");
        assert_eq!(
            ack["generation"],
            Value::Null,
            "an unbelieved generation is not repeated"
        );
        assert_eq!(fleet.endpoint(), before, "{number}");
        fleet.assert_served_by(3, 1);
    }

    // What is no document at all.
    fleet.forge(Kind::Endpoints, document_text(&document).as_bytes());
    wait::until("a bare document is refused", || {
        (fleet.ack(Kind::Endpoints)["code"] == "INVALID").then_some(())
    });
    assert_eq!(fleet.endpoint(), before);
    fleet.assert_served_by(3, 1);
    let refused = forgeries.len() + 1;
    floors::reached("process.fleet.forgeries", refused.try_into().unwrap());
}

fn document_text(document: &Document) -> String {
    match document {
        Document::Models(models) => serde_json::to_string(models),
        Document::Endpoints(endpoints) => serde_json::to_string(endpoints),
    }
    .unwrap()
}

#[test]
fn a_version_that_the_catalogue_lacks_is_rejected_and_changes_nothing() {
    let Some(mut fleet) = Fleet::start("process.fleet.missing_version", QUICK_ROWS) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(100);
    let before = fleet.endpoint();
    let Generation { epoch, generation } = fleet.published(Kind::Endpoints);
    let next = Generation::new(epoch, generation + 1);
    let models = fleet.published(Kind::Models);
    let document = endpoints_document(99, Digest::of(b"no such manifest"), models);
    fleet.forge(
        Kind::Endpoints,
        &signed(&fleet.stolen_key(), next, &document),
    );
    let ack = fleet.wait_for_ack(Kind::Endpoints, next, "rejected");
    assert_eq!(ack["code"], "MISSING_ARTIFACT", "{ack}");
    let detail = ack["detail"].as_str().unwrap();
    assert!(
        detail.contains("main.default.fraud") && detail.contains("99"),
        "{detail}"
    );
    assert_eq!(fleet.endpoint(), before);
    fleet.assert_served_by(3, ALL_TO_ONE);
    // The registry's command refuses the same mistake before it is published.
    let mut config = fraud_endpoint(100);
    config["served_entities"][0]["entity_version"] = json!("99");
    let file = fleet.device.folder().join("mistake.json");
    fs::write(&file, config.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let set = [
        "registry",
        "endpoint",
        "set",
        "fraud-detection",
        "--config",
        file,
    ];
    let refused = fleet.registry.edgeward(&set);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(
        refused.stderr.contains("main.default.fraud/99"),
        "{}",
        refused.stderr
    );
}

#[test]
fn endpoints_wait_for_the_models_that_they_require() {
    let Some(mut fleet) = Fleet::start("process.fleet.models_later", QUICK_ROWS) else {
        return;
    };
    // The registry holds the versions for another device; to this one the two documents come in
    // the wrong order.
    let other = "box-2";
    fleet
        .registry
        .edgeward(&["registry", "device", "add", other])
        .success();
    fleet.publish_models(Some(other));
    let key = fleet.stolen_key();
    let models = models_of(&fleet, other, &key);
    let epoch = fleet.published(Kind::Models).epoch;
    let far = Generation::new(epoch, FAR);
    let manifest = models
        .models
        .iter()
        .find(|entry| entry.version.get() == 4)
        .unwrap()
        .manifest;
    let endpoints = endpoints_document(4, manifest, far);

    fleet.forge(Kind::Endpoints, &signed(&key, far, &endpoints));
    let ack = fleet.wait_for_ack(Kind::Endpoints, far, "waiting");
    assert_eq!(ack["for"], json!(far), "{ack}");
    let missing = fleet
        .device
        .client()
        .get("/api/2.0/serving-endpoints/fraud-detection");
    assert_eq!(missing.status, 404, "{}", missing.text());

    fleet.forge(Kind::Models, &signed(&key, far, &Document::Models(models)));
    fleet.wait_for_ack(Kind::Models, far, "applied");
    fleet.wait_for_ack(Kind::Endpoints, far, "applied");
    fleet.assert_served_by(4, ALL_TO_ONE);
}

#[test]
fn a_change_that_routed_a_request_keeps_its_place_in_the_order_across_a_kill() {
    let Some(mut fleet) = Fleet::start("process.fleet.kills", QUICK_ROWS) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(100);
    let key = fleet.stolen_key();
    let models = models_of(&fleet, DEVICE, &key);
    let requires = fleet.published(Kind::Models);
    for round in 0..KILLS {
        let (share, version) = if round % 2 == 0 { (0, 4) } else { (100, 3) };
        let newer = Generation::new(requires.epoch, FAR + 10 * round + 1);
        let older = Generation::new(requires.epoch, FAR + 10 * round);
        let document = split_document(share, &models, requires);
        fleet.forge(Kind::Endpoints, &signed(&key, newer, &document));
        let golden = Golden::of("fraud", version);
        let mut client = fleet.device.client();
        let body = golden.first_row();
        wait::until("a request is routed by the change", || {
            let reply = client.post("/serving-endpoints/fraud-detection/invocations", &body);
            golden.is_answered_by(&reply).then_some(())
        });
        fleet.device.kill();

        // The broker was set back: only the device can know that this one is old.
        let document = split_document(100 - share, &models, requires);
        fleet.forge(Kind::Endpoints, &signed(&key, older, &document));
        fleet.device.start();
        let ack = fleet.wait_for_ack(Kind::Endpoints, older, "rejected");
        assert_eq!(ack["code"], "STALE_GENERATION", "{round}: {ack}");
        fleet.assert_served_by(version, 10);
    }
    floors::reached("process.fleet.kills", KILLS);
}

/// An `endpoints` document with both versions, the first of which gets this share.
fn split_document(share: u8, models: &ModelsDocument, requires: Generation) -> Document {
    let entity = |name: &str, version: u64| {
        let mut entries = models.models.iter();
        let entry = entries
            .find(|entry| entry.version.get() == version)
            .unwrap();
        json!({
            "name": name,
            "entity_name": "main.default.fraud",
            "entity_version": version.to_string(),
            "manifest": entry.manifest,
        })
    };
    let document = json!({
        "requires": {"models": requires},
        "endpoints": {"fraud-detection": {
            "served_entities": [entity("champion", 3), entity("challenger", 4)],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": share},
                {"served_entity_name": "challenger", "traffic_percentage": 100 - share},
            ]},
        }},
    });
    Document::Endpoints(serde_json::from_value(document).unwrap())
}

/// The catalogue that the registry published to `device`.
fn models_of(fleet: &Fleet, device: &str, key: &RegistryKey) -> ModelsDocument {
    let address = Address {
        fleet: fleet_id(),
        device: device.parse().unwrap(),
        kind: Kind::Models,
    };
    let topic = Topic::Desired {
        device: address.device.clone(),
        kind: Kind::Models,
    };
    let mut broker = MqttClient::connect(fleet.broker.port());
    wait::until("the catalogue of both versions is published", || {
        let container = broker.retained(&topic.name(&fleet_id()));
        let desired = DesiredDocument::verify(&container, &key.pinned(), &address).unwrap();
        match desired.document {
            Document::Models(models) if models.models.len() == 2 => Some(models),
            _ => None,
        }
    })
}
