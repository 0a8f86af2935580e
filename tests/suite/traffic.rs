//! The traffic split through the whole serving path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use edgeward_harness::floors;
use edgeward_suite::fit_of_three;
use serde_json::{Value, json};

use crate::rooms::{Rooms, invoke};

const ENDPOINT: &str = "fraud-detection";

/// Requests of one measurement.
const REQUESTS: u32 = 10_000;
/// Counts that are less likely than this do not fit.
const LIMIT: f64 = 1e-4;
/// Measurements are repeated exactly.
const SEEDS: [u64; 3] = [1, 20_260_801, u64::MAX / 3];

/// The served entities, in the order of the counts.
const ENTITIES: [&str; 3] = ["champion", "challenger", "canary"];

/// Changes of the split under load, and clients that load it.
const CHANGES: u64 = 60;
const CLIENTS: usize = 4;

/// Three served entities with these percentages.
fn config(percentages: [u8; 3]) -> Value {
    let versions = ["3", "4", "3"];
    let entities: Vec<Value> = ENTITIES
        .iter()
        .zip(versions)
        .map(|(name, version)| {
            json!({"name": name, "entity_name": "main.default.fraud", "entity_version": version})
        })
        .collect();
    let routes: Vec<Value> = ENTITIES
        .iter()
        .zip(percentages)
        .map(|(name, share)| json!({"served_entity_name": name, "traffic_percentage": share}))
        .collect();
    json!({
        "served_entities": entities,
        "traffic_config": {"routes": routes},
        "auto_capture_config": {
            "enabled": true,
            "catalog_name": "main",
            "schema_name": "default",
            "table_name_prefix": "fraud",
        },
    })
}

fn body() -> Bytes {
    let body = json!({"dataframe_split": {
        "columns": ["amount", "merchant_category", "hour", "is_foreign"],
        "data": [[153.84, "electronics", 12, true]],
    }});
    Bytes::from(body.to_string())
}

/// Sends [`REQUESTS`] requests; answers how many each served entity took.
async fn count(rooms: &Rooms) -> [u32; 3] {
    let body = body();
    let mut counts = [0; 3];
    for _ in 0..REQUESTS {
        let (entity, _) = invoke(&rooms.serving, ENDPOINT, &body).await.unwrap();
        let place = ENTITIES.iter().position(|name| *name == entity).unwrap();
        counts[place] += 1;
    }
    counts
}

fn fractions(percentages: [u8; 3]) -> [f64; 3] {
    percentages.map(|share| f64::from(share) / 100.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn percentages_are_honoured_and_a_wrong_split_is_seen() {
    let wanted = [70, 20, 10];
    let wrong = [67, 23, 10];
    let mut measured = 0;
    for seed in SEEDS {
        let rooms = Rooms::open(seed).await;
        rooms.configure(ENDPOINT, &config(wanted)).await;
        let counts = count(&rooms).await;
        let p = fit_of_three(counts, fractions(wanted));
        println!("suite.traffic: seed {seed}: {counts:?} for {wanted:?}: p = {p:.4}");
        assert!(p > LIMIT, "{counts:?} does not fit {wanted:?}: p = {p}");
        assert_eq!(
            rooms.rows.get(),
            u64::from(REQUESTS),
            "one row for each request"
        );

        rooms.configure(ENDPOINT, &config(wrong)).await;
        let counts = count(&rooms).await;
        let p = fit_of_three(counts, fractions(wanted));
        println!(
            "suite.traffic: seed {seed}: {counts:?} for {wanted:?}: p = {p:.2e} (wrong on purpose)"
        );
        assert!(
            p <= LIMIT,
            "a split of {wrong:?} passes as {wanted:?}: p = {p}"
        );

        rooms.configure(ENDPOINT, &config([0, 100, 0])).await;
        assert_eq!(count(&rooms).await, [0, REQUESTS, 0], "0 % is none");
        measured += 1;
        rooms.close().await;
    }
    floors::reached("suite.traffic.seeds", measured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_changes_at_once_and_no_request_fails() {
    let rooms = Rooms::open(7).await;
    rooms.configure(ENDPOINT, &config([100, 0, 0])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (serving, body) = (rooms.serving.clone(), body());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            rooms.tasks.spawn("client", async move {
                while !stop.load(Ordering::Relaxed) {
                    invoke(&serving, ENDPOINT, &body).await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let body = body();
    for change in 0..CHANGES {
        let (percentages, entity) = if change % 2 == 0 {
            ([0, 100, 0], "challenger")
        } else {
            ([100, 0, 0], "champion")
        };
        let before = answered.load(Ordering::Relaxed);
        rooms.configure(ENDPOINT, &config(percentages)).await;
        let (served, _) = invoke(&rooms.serving, ENDPOINT, &body).await.unwrap();
        assert_eq!(served, entity, "the request after change {change}");
        // The load goes on between two changes.
        while answered.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().await.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    assert_eq!(
        rooms.rows.get(),
        answered + CHANGES,
        "one row for each request"
    );
    println!("suite.traffic: {CHANGES} changes, {answered} requests beside them, 0 failed");
    floors::reached("suite.traffic.changes", CHANGES);
    rooms.close().await;
}
