//! Messages that nobody of the fleet would send: they change nothing and stop nothing.

use std::time::Duration;

use edgeward_base::names::TableName;
use edgeward_wire::{ack::AckState, ordering::Kind, topic::Topic};

use super::{
    simulated::{Hazards, SimulatedBroker},
    world::{World, device_id, fleet},
};

const LIMIT: Duration = Duration::from_secs(3600);

/// Every topic of the device, up and down.
fn every_topic(digest: edgeward_base::digest::Digest) -> Vec<Topic> {
    let device = device_id();
    let table: TableName = "main.default.fraud".parse().unwrap();
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

#[tokio::test(start_paused = true)]
async fn garbage_on_every_topic_changes_nothing() {
    let world = World::new();
    let entry = world.import(3, 1, 600_000);
    let broker = SimulatedBroker::new(1, Hazards::NONE);
    let garbage = [
        &b""[..],
        b"{}",
        b"EW\x01\x00\x00\x00",
        b"null",
        &[0xff; 2_000_000],
    ];
    let goal = async {
        world
            .registry
            .until(|registry| registry.presence.values().any(|p| p.online))
            .await;
        for topic in every_topic(entry.manifest) {
            for payload in garbage {
                broker.inject(&topic.name(&fleet()), payload);
            }
        }
        world.publish_models(1, vec![entry.clone()]);
        world.publish_endpoints(1, 1, &entry);
        world.seal(0, 1_000);
        world.settled(Kind::Endpoints, 1).await;
        world.quiet().await;
    };
    world
        .run_until(broker.connector(), broker.connector(), LIMIT, goal)
        .await;
    assert!(matches!(
        world.states(Kind::Endpoints, 1).last(),
        Some(AckState::Applied { .. })
    ));
}
