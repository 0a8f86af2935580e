//! The whole loop over a broker that loses, repeats, reorders and cuts: it must still come right.

use std::time::Duration;

use edgeward_wire::{ack::AckState, ordering::Kind};

use super::{
    counts,
    simulated::{Hazards, SimulatedBroker},
    world::{World, device_id, endpoints},
};

const SEEDS: u64 = 16;
const LIMIT: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn everything_comes_right_in_every_storm() {
    for seed in 0..SEEDS {
        let world = World::new();
        let broker = SimulatedBroker::new(seed, Hazards::STORM);
        let (first, second) = (world.import(3, 2, 300_000), world.import(4, 1, 600_000));
        world.publish_models(1, vec![first.clone()]);
        world.publish_endpoints(1, 1, &first);
        let segments = [world.seal(0, 700_000), world.seal(100, 1_000)];
        let goal = async {
            world.settled(Kind::Endpoints, 1).await;
            world.publish_models(2, vec![first.clone(), second.clone()]);
            world.publish_endpoints(2, 2, &second);
            if seed % 3 == 0 {
                broker.forget_everything();
            }
            world.settled(Kind::Endpoints, 2).await;
            world.quiet().await;
        };
        world
            .run_until(broker.connector(), broker.connector(), LIMIT, goal)
            .await;

        let effective_hash = endpoints(2, &second).effective_hash();
        let last = world.states(Kind::Endpoints, 2);
        assert_eq!(
            last.last(),
            Some(&AckState::Applied { effective_hash }),
            "seed {seed}"
        );
        let registry = world.registry.see();
        assert_eq!(registry.landings, 2, "seed {seed}");
        for segment in &segments {
            let landed = &registry.landed[&segment.object(&device_id())];
            assert_eq!(edgeward_base::digest::Digest::of(landed), segment.digest);
        }
        let sequences: Vec<u64> = registry
            .reports
            .keys()
            .map(|(_, sequence)| *sequence)
            .collect();
        let applied = world.device.see().applied.clone();
        assert!(applied.is_sorted(), "seed {seed}: {applied:?}");
        assert!(!sequences.is_empty());
    }
    counts::reached("sync.storm", "seeds", SEEDS);
}

/// Reports that wait in an outbox when its device starts.
const REPORTS: u64 = 200;

#[tokio::test(start_paused = true)]
async fn a_report_that_a_broker_took_and_lost_is_sent_again() {
    let (mut recorded, mut gone) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new();
        let broker = SimulatedBroker::new(seed, Hazards::LOST_SESSIONS);
        world.owe(REPORTS);
        // Empty means confirmed: whatever has left the outbox is in the registry.
        world
            .run_until(broker.connector(), broker.connector(), LIMIT, world.quiet())
            .await;
        let lost = world.lost(REPORTS);
        assert!(
            lost.is_empty(),
            "seed {seed}: {} of {REPORTS} reports left the outbox and are not recorded: {lost:?}",
            lost.len()
        );
        recorded += REPORTS;
        gone += broker.gone();
    }
    counts::reached("sync.lost_sessions", "reports", recorded);
    counts::reached("sync.lost_sessions", "gone", gone);
}
