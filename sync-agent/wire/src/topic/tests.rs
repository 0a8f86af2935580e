use proptest::prelude::*;

use super::*;

fn fleet() -> FleetId {
    "plant".parse().unwrap()
}

fn every(device: &str, table: &str, seed: &[u8]) -> Vec<Topic> {
    let device: DeviceId = device.parse().unwrap();
    let table: TableName = table.parse().unwrap();
    let digest = Digest::of(seed);
    let mut topics = vec![
        Topic::Ack {
            device: device.clone(),
        },
        Topic::Presence {
            device: device.clone(),
        },
        Topic::Confirm {
            device: device.clone(),
        },
        Topic::SegmentOffer {
            device: device.clone(),
            table: table.clone(),
        },
        Topic::SegmentChunk {
            device: device.clone(),
            table: table.clone(),
        },
        Topic::SegmentEnd {
            device: device.clone(),
            table,
        },
        Topic::SegmentAnswer {
            device: device.clone(),
        },
        Topic::BlobRequest {
            device: device.clone(),
            digest,
        },
        Topic::BlobChunk {
            device: device.clone(),
            digest,
        },
        Topic::BlobMissing {
            device: device.clone(),
            digest,
        },
    ];
    for kind in Kind::ALL {
        topics.push(Topic::Desired {
            device: device.clone(),
            kind,
        });
        topics.push(Topic::Reported {
            device: device.clone(),
            kind,
        });
    }
    topics
}

/// MQTT's own matching, for filters with `+` only.
fn matches(filter: &str, name: &str) -> bool {
    let (filter, name): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
    filter.len() == name.len() && filter.iter().zip(&name).all(|(f, n)| *f == "+" || f == n)
}

#[test]
fn each_topic_is_heard_by_exactly_one_connection() {
    let device: DeviceId = "box-1".parse().unwrap();
    for topic in every("box-1", "main.default.fraud", b"x") {
        let name = topic.name(&fleet());
        let heard = [
            device_control_filters(&fleet(), &device),
            device_bulk_filters(&fleet(), &device),
            registry_control_filters(&fleet()),
            registry_bulk_filters(&fleet()),
        ]
        .iter()
        .flatten()
        .filter(|filter| matches(filter, &name))
        .count();
        assert_eq!(heard, 1, "{name}");
    }
}

#[test]
fn names_of_other_fleets_and_shapes_are_refused() {
    for bad in [
        "",
        "edgeward/v1/plant",
        "edgeward/v1/plants/dev/a/ack",
        "edgeward/v2/plant/dev/a/ack",
        "edgeward/v1/plant/dev/a/ack/x",
        "edgeward/v1/plant/dev//ack",
        "edgeward/v1/plant/dev/+/ack",
        "edgeward/v1/plant/desired/dev/a/limits",
        "edgeward/v1/plant/bulk/a/blob/ff/c",
        "edgeward/v1/plant/bulk/a/logs/ack/m",
    ] {
        assert!(Topic::parse(&fleet(), bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_topic_survives_its_name(
        device in "[A-Za-z0-9_-]{1,64}", table in "[a-z0-9_-]{1,9}\\.[a-z]{1,9}\\.[a-z_]{1,9}", seed: [u8; 4],
    ) {
        for topic in every(&device, &table, &seed) {
            prop_assert_eq!(Topic::parse(&fleet(), &topic.name(&fleet())).unwrap(), topic);
        }
    }

    #[test]
    fn hostile_names_never_panic(name in "(edgeward/v1/plant/)?[a-z/+#]{0,60}|\\PC{0,60}") {
        if let Ok(topic) = Topic::parse(&fleet(), &name) {
            prop_assert_eq!(topic.name(&fleet()), name);
        }
    }
}
