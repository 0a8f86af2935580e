//! What a fleet must do, step by step, over a broker that behaves.

use std::time::Duration;

use edgeward_wire::{
    ack::{AckState, RejectCode, Rejection},
    desired::{Document, ModelsDocument},
    key::RegistryKey,
    ordering::{Generation, Kind},
    topic::Topic,
};
use tokio_util::sync::CancellationToken;

use super::{
    simulated::{Hazards, SimulatedBroker},
    world::{World, device_id, endpoints, fleet},
};
use crate::ports::ApplyOutcome;

const LIMIT: Duration = Duration::from_secs(3600);

fn calm() -> SimulatedBroker {
    SimulatedBroker::new(1, Hazards::NONE)
}

async fn run(world: &World, broker: &SimulatedBroker, goal: impl Future<Output = ()>) {
    world
        .run_until(broker.connector(), broker.connector(), LIMIT, goal)
        .await;
}

fn code(state: &AckState) -> Option<&RejectCode> {
    match state {
        AckState::Rejected(Rejection { code, .. }) => Some(code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn models_are_fetched_then_endpoints_applied_and_reported() {
    let world = World::new();
    let entry = world.import(3, 3, 700_000);
    world.publish_models(1, vec![entry.clone()]);
    world.publish_endpoints(1, 1, &entry);
    run(&world, &calm(), async {
        world.settled(Kind::Endpoints, 1).await;
        world.quiet().await;
    })
    .await;
    let hash = ModelsDocument {
        models: vec![entry.clone()],
    }
    .effective_hash();
    let models = world.states(Kind::Models, 1);
    assert_eq!(models.first(), Some(&AckState::Accepted));
    assert_eq!(
        models.last(),
        Some(&AckState::Applied {
            effective_hash: hash
        })
    );
    let effective_hash = endpoints(1, &entry).effective_hash();
    assert_eq!(
        world.states(Kind::Endpoints, 1).last(),
        Some(&AckState::Applied { effective_hash })
    );
    let device = world.device.see();
    assert_eq!(device.applied, vec![Generation::new(1, 1)]);
    let registry = world.registry.see();
    for (digest, bytes) in &device.blobs {
        assert_eq!(registry.artifacts[digest], *bytes);
    }
    assert_eq!(device.blobs.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn endpoints_wait_for_the_models_they_require() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    world.publish_endpoints(1, 1, &entry);
    run(&world, &calm(), async {
        let waits = AckState::Waiting {
            awaited: Generation::new(1, 1),
        };
        world
            .acknowledged(Kind::Endpoints, 1, |state| *state == waits)
            .await;
        assert!(world.device.see().applied.is_empty());
        world.publish_models(1, vec![entry.clone()]);
        world.settled(Kind::Endpoints, 1).await;
    })
    .await;
    assert!(matches!(
        world.states(Kind::Endpoints, 1).last(),
        Some(AckState::Applied { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_version_the_catalogue_lacks_is_rejected_and_nothing_changes() {
    let world = World::new();
    let (held, other) = (world.import(3, 1, 10), world.import(4, 1, 10));
    world.publish_models(1, vec![held.clone()]);
    world.publish_endpoints(1, 1, &held);
    run(&world, &calm(), async {
        world.settled(Kind::Endpoints, 1).await;
        let before = world.device.see().endpoints.clone();
        world.publish_endpoints(2, 1, &other);
        world.settled(Kind::Endpoints, 2).await;
        assert_eq!(world.device.see().endpoints, before);
        // the refused document does not block the next one
        world.publish_endpoints(3, 1, &held);
        world.settled(Kind::Endpoints, 3).await;
    })
    .await;
    let states = world.states(Kind::Endpoints, 2);
    assert_eq!(
        states.last().and_then(code),
        Some(&RejectCode::MissingArtifact)
    );
    assert!(matches!(
        world.states(Kind::Endpoints, 3).last(),
        Some(AckState::Applied { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_document_of_a_stranger_is_refused_and_not_held() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    let stranger = RegistryKey::from_seed(&[66; 32]);
    let document = Document::Models(ModelsDocument {
        models: vec![entry.clone()],
    });
    world.publish_signed(&stranger, 9, &document);
    run(&world, &calm(), async {
        let refused = |report: &edgeward_wire::report::Report<_>| match &report.message {
            edgeward_wire::report::ReportMessage::Ack(ack) => {
                ack.generation.is_none() && code(&ack.state) == Some(&RejectCode::BadSignature)
            }
            edgeward_wire::report::ReportMessage::Reported(_) => false,
        };
        world
            .registry
            .until(|registry| registry.reports.values().any(refused))
            .await;
        assert!(world.device.see().records.is_empty());
        // a lower generation of the true key is accepted: the forged one left no trace
        world.registry.edit(|registry| registry.documents.clear());
        world.publish_models(10, vec![entry.clone()]);
        world.settled(Kind::Models, 10).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_document_cancels_an_older_staging() {
    let world = World::new();
    let (stuck, good) = (world.import(3, 2, 600_000), world.import(4, 1, 10));
    world
        .registry
        .edit(|registry| registry.stuck.insert(stuck.manifest));
    world.publish_models(1, vec![stuck]);
    run(&world, &calm(), async {
        world
            .registry
            .until(|registry| registry.artifact_reads > 2)
            .await;
        world.publish_models(2, vec![good.clone()]);
        world.settled(Kind::Models, 2).await;
    })
    .await;
    assert!(!world.states(Kind::Models, 1).iter().any(AckState::is_final));
}

#[tokio::test(start_paused = true)]
async fn a_blob_the_registry_lacks_or_spoils_is_refused_or_fetched_again() {
    let world = World::new();
    let lacking = world.import(3, 1, 10);
    let spoiled = world.import(4, 2, 600_000);
    world.registry.edit(|registry| {
        registry.artifacts.remove(&lacking.manifest);
        registry.corrupt_once = registry.artifacts.keys().copied().collect();
    });
    world.publish_models(1, vec![lacking]);
    run(&world, &calm(), async {
        world.settled(Kind::Models, 1).await;
        world.publish_models(2, vec![spoiled.clone()]);
        world.settled(Kind::Models, 2).await;
    })
    .await;
    let states = world.states(Kind::Models, 1);
    assert_eq!(
        states.last().and_then(code),
        Some(&RejectCode::MissingArtifact)
    );
    assert!(matches!(
        world.states(Kind::Models, 2).last(),
        Some(AckState::Applied { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn what_the_endpoint_owner_says_is_what_is_acknowledged() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    world.publish_models(1, vec![entry.clone()]);
    world.publish_endpoints(1, 1, &entry);
    run(&world, &calm(), async {
        world.settled(Kind::Endpoints, 1).await;
        let refuse = Rejection::new(RejectCode::OomPredicted, "does not fit");
        world
            .device
            .edit(|device| device.verdict = Some(ApplyOutcome::Rejected(refuse)));
        world.publish_endpoints(2, 1, &entry);
        world.settled(Kind::Endpoints, 2).await;
        let undo = Rejection::new(RejectCode::Guardrail, "too slow");
        world
            .device
            .edit(|device| device.verdict = Some(ApplyOutcome::RolledBack(undo)));
        world.publish_endpoints(3, 1, &entry);
        world.settled(Kind::Endpoints, 3).await;
    })
    .await;
    let states = world.states(Kind::Endpoints, 2);
    assert_eq!(
        states.last().and_then(code),
        Some(&RejectCode::OomPredicted)
    );
    let to = Generation::new(1, 1);
    assert_eq!(
        world.states(Kind::Endpoints, 3).last(),
        Some(&AckState::RolledBack { to })
    );
}

#[tokio::test(start_paused = true)]
async fn a_restarted_device_goes_on_where_it_was() {
    let mut world = World::new();
    let entry = world.import(3, 4, 2_000_000);
    world.publish_models(1, vec![entry.clone()]);
    let broker = calm();
    run(&world, &broker, async {
        world
            .device
            .until(|device| device.chunks_written >= 10)
            .await;
    })
    .await;
    let written = world.device.see().chunks_written;
    assert!(world.device.see().models.is_empty(), "cut in the middle");
    world.boot = 2;
    run(&world, &broker, async {
        world.settled(Kind::Models, 1).await;
    })
    .await;
    let chunks = 1 + 4 * 2_000_000_u64.div_ceil(256 * 1024);
    assert!(written >= 10);
    assert_eq!(
        world.device.see().chunks_written,
        chunks,
        "no chunk was written twice"
    );
}

#[tokio::test(start_paused = true)]
async fn segments_are_deleted_only_after_they_have_landed() {
    let world = World::new();
    let small = world.seal(0, 1_000);
    let large = world.seal(100, 9_000_000);
    run(&world, &calm(), async { world.quiet().await }).await;
    let registry = world.registry.see();
    for segment in [&small, &large] {
        let landed = &registry.landed[&segment.object(&device_id())];
        assert_eq!(edgeward_base::digest::Digest::of(landed), segment.digest);
    }
    assert_eq!(registry.landings, 2);
}

#[tokio::test(start_paused = true)]
async fn a_segment_whose_name_is_taken_by_other_bytes_is_kept() {
    let world = World::new();
    let taken = world.seal(0, 1_000);
    let free = world.seal(100, 1_000);
    let name = taken.object(&device_id());
    world
        .registry
        .edit(|registry| registry.landed.insert(name, b"other".to_vec()));
    run(&world, &calm(), async {
        world
            .registry
            .until(|registry| registry.landings == 1)
            .await;
        world
            .device
            .until(|device| device.segments.len() == 1)
            .await;
    })
    .await;
    assert_eq!(world.device.see().segments[0].0, taken);
    assert!(
        world
            .registry
            .see()
            .landed
            .contains_key(&free.object(&device_id()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_segment_is_offered_again_and_lands_once_nothing_is_in_its_way() {
    let world = World::new();
    let taken = world.seal(0, 1_000);
    let name = taken.object(&device_id());
    world
        .registry
        .edit(|registry| registry.landed.insert(name.clone(), b"other".to_vec()));
    run(&world, &calm(), async {
        // Sealed later, landed first: by then the one before it was refused.
        let free = world.seal(100, 1_000);
        let free = free.object(&device_id());
        world
            .registry
            .until(|registry| registry.landed.contains_key(&free))
            .await;
        world
            .registry
            .edit(|registry| registry.landed.remove(&name));
        world
            .device
            .until(|device| device.segments.is_empty())
            .await;
    })
    .await;
    let landed = &world.registry.see().landed[&name];
    assert_eq!(edgeward_base::digest::Digest::of(landed), taken.digest);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_read_holds_up_no_other() {
    let world = World::new();
    let bad = world.seal(0, 1_000);
    world
        .device
        .edit(|device| device.unreadable.insert(bad.digest));
    run(&world, &calm(), async {
        let sound = world.seal(100, 1_000).object(&device_id());
        world
            .registry
            .until(|registry| registry.landed.contains_key(&sound))
            .await;
        world.device.edit(|device| device.unreadable.clear());
        world
            .device
            .until(|device| device.segments.is_empty())
            .await;
    })
    .await;
    assert!(
        world
            .registry
            .see()
            .landed
            .contains_key(&bad.object(&device_id()))
    );
}

#[tokio::test(start_paused = true)]
async fn documents_are_published_again_when_the_broker_forgets() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    world.publish_models(1, vec![entry]);
    let broker = calm();
    let topic = Topic::Desired {
        device: device_id(),
        kind: Kind::Models,
    }
    .name(&fleet());
    run(&world, &broker, async {
        world.settled(Kind::Models, 1).await;
        broker.forget_everything();
        assert!(!broker.retains(&topic));
        broker.until_retained(&topic).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_lost_its_counters_is_heard_again() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    world.publish_models(1, vec![entry.clone()]);
    let broker = calm();
    run(&world, &broker, async {
        world.settled(Kind::Models, 1).await;
        world.quiet().await;
    })
    .await;
    let newest = world
        .registry
        .see()
        .reports
        .keys()
        .next_back()
        .cloned()
        .unwrap()
        .1;
    world
        .device
        .edit(|device| device.outbox = crate::ports::OutboxSnapshot::default());
    world.publish_models(2, vec![entry]);
    run(&world, &broker, async {
        world.settled(Kind::Models, 2).await;
        world.quiet().await;
    })
    .await;
    assert!(world.device.see().outbox.next > newest);
}

#[tokio::test(start_paused = true)]
async fn presence_says_online_and_offline() {
    let world = World::new();
    let broker = calm();
    let shutdown = CancellationToken::new();
    let device_shutdown = CancellationToken::new();
    let story = async {
        world
            .registry
            .until(|registry| registry.presence.values().any(|presence| presence.online))
            .await;
        device_shutdown.cancel();
        world
            .registry
            .until(|registry| registry.presence.values().any(|presence| !presence.online))
            .await;
        shutdown.cancel();
    };
    let all = async {
        tokio::join!(
            world.run_registry(broker.connector(), shutdown.clone()),
            world.run_device(broker.connector(), device_shutdown.clone()),
            story
        )
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_newer_document_cancels_an_older_one_that_is_being_applied() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    world
        .device
        .edit(|device| device.hang.insert(Generation::new(1, 1)));
    world.publish_models(1, vec![entry.clone()]);
    world.publish_endpoints(1, 1, &entry);
    run(&world, &calm(), async {
        world
            .device
            .until(|device| !device.applied.is_empty())
            .await;
        world.publish_endpoints(2, 1, &entry);
        world.settled(Kind::Endpoints, 2).await;
    })
    .await;
    assert!(
        !world
            .states(Kind::Endpoints, 1)
            .iter()
            .any(AckState::is_final)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_at_once_keeps_its_place_in_the_order_across_a_restart() {
    let mut world = World::new();
    let entry = world.import(3, 1, 10);
    world.publish_models(1, vec![entry.clone()]);
    let broker = calm();
    run(&world, &broker, async {
        world.settled(Kind::Models, 1).await;
        world.publish_endpoints(5, 1, &entry);
        world.settled(Kind::Endpoints, 5).await;
    })
    .await;
    {
        let device = world.device.see();
        assert!(!device.records.contains_key(&Kind::Endpoints), "one write");
        let applied = device.in_force.as_ref().unwrap();
        assert_eq!(applied.identity.generation, Generation::new(1, 5));
    }
    // A broker that was set back brings an older one.
    world.boot = 2;
    world.registry.edit(|registry| registry.documents.clear());
    world.publish_endpoints(4, 1, &entry);
    run(&world, &calm(), async {
        world.settled(Kind::Endpoints, 4).await;
    })
    .await;
    assert_eq!(
        world.states(Kind::Endpoints, 4).last().and_then(code),
        Some(&RejectCode::StaleGeneration)
    );
    assert_eq!(world.device.see().applied, [Generation::new(1, 5)]);
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_is_held_before_anything_is_said_of_it() {
    let world = World::new();
    let entry = world.import(3, 1, 10);
    let slow = Generation::new(1, 1);
    world.device.edit(|device| device.hang.insert(slow));
    world.publish_models(1, vec![entry.clone()]);
    run(&world, &calm(), async {
        world.settled(Kind::Models, 1).await;
        world.publish_endpoints(1, 1, &entry);
        let said = |device: &super::memory::Device| {
            device.outbox.entries.iter().any(|entry| {
                matches!(&entry.message, edgeward_wire::report::ReportMessage::Ack(ack)
                    if ack.kind == Kind::Endpoints)
            })
        };
        world.device.until(said).await;
        let held = world.device.see().records[&Kind::Endpoints].held;
        assert_eq!(held.generation, slow);
    })
    .await;
    assert!(world.device.see().in_force.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_device_applies_what_it_held_without_any_broker() {
    let mut world = World::new();
    let entry = world.import(3, 1, 10);
    world
        .device
        .edit(|device| device.hang.insert(Generation::new(1, 1)));
    world.publish_models(1, vec![entry.clone()]);
    world.publish_endpoints(1, 1, &entry);
    run(&world, &calm(), async {
        world
            .device
            .until(|device| !device.applied.is_empty())
            .await;
    })
    .await;
    world.device.edit(|device| device.hang.clear());
    world.boot = 2;
    let shutdown = CancellationToken::new();
    let alone = async {
        world
            .device
            .until(|device| !device.endpoints.is_empty())
            .await;
        shutdown.cancel();
    };
    let nobody = calm();
    let both = async {
        tokio::join!(
            world.run_device(nobody.connector(), shutdown.clone()),
            alone
        )
    };
    tokio::time::timeout(LIMIT, both).await.unwrap();
}
