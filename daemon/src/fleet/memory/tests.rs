use edgeward_base::clock::TestClock;
use edgeward_base::digest::Digest;
use edgeward_base::durable::RealFs;
use edgeward_base::names::BootId;
use edgeward_wire::ack::{Ack, AckState};
use edgeward_wire::ordering::{DocumentIdentity, Generation};
use edgeward_wire::report::ReportMessage;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::fleet::tables;
use crate::store::StoreOptions;
use crate::tasks::Tasks;

fn open(state: &TempDir) -> FleetMemory {
    let tasks = Tasks::new(Handle::current());
    let clock = TestClock::at(1_700_000_000_000_000);
    let options = StoreOptions::new(state.path().to_path_buf(), tasks, clock, RealFs::shared());
    FleetMemory::new(Store::open(tables(options)).unwrap().0)
}

async fn restart(memory: FleetMemory, state: &TempDir) -> FleetMemory {
    memory.store.close().await.unwrap();
    drop(memory);
    open(state)
}

fn said(sequence: u64) -> OutboxEntry {
    OutboxEntry {
        sequence,
        boot: BootId(1),
        message: ReportMessage::Ack(Ack {
            kind: Kind::Models,
            generation: Some(Generation::new(1, sequence)),
            state: AckState::Accepted,
        }),
    }
}

fn saying(sequence: u64) -> OutboxChange {
    OutboxChange {
        put: vec![said(sequence)],
        remove: Vec::new(),
        next: sequence + 1,
    }
}

fn confirmed(sequence: u64, next: u64) -> OutboxChange {
    OutboxChange {
        put: Vec::new(),
        remove: vec![sequence],
        next,
    }
}

async fn stored(memory: &FleetMemory) -> Vec<u64> {
    let snapshot = OutboxStore::load(memory).await.unwrap();
    snapshot
        .entries
        .iter()
        .map(|entry| entry.sequence)
        .collect()
}

#[tokio::test]
async fn a_confirmed_report_leaves_the_store_with_the_next_one_and_costs_no_write() {
    let state = TempDir::new().unwrap();
    let memory = open(&state);
    for sequence in 1..=3 {
        memory.commit(saying(sequence)).await.unwrap();
    }
    let generation = memory.store.commit(Change::new()).await.unwrap();
    memory.commit(confirmed(1, 4)).await.unwrap();
    memory.commit(confirmed(3, 4)).await.unwrap();
    let unchanged = memory.store.commit(Change::new()).await.unwrap();
    assert_eq!(
        unchanged,
        generation + 1,
        "a confirm is no write of its own"
    );
    memory.commit(saying(4)).await.unwrap();
    assert_eq!(stored(&memory).await, [2, 4]);
    let memory = restart(memory, &state).await;
    assert_eq!(stored(&memory).await, [2, 4]);
}

#[tokio::test]
async fn a_restart_before_that_says_it_once_more_under_the_same_number() {
    let state = TempDir::new().unwrap();
    let memory = open(&state);
    memory.commit(saying(1)).await.unwrap();
    memory.commit(confirmed(1, 2)).await.unwrap();
    let memory = restart(memory, &state).await;
    let snapshot = OutboxStore::load(&memory).await.unwrap();
    assert_eq!(snapshot.entries, [said(1)]);
    assert_eq!(snapshot.next, 2);
}

fn identity(generation: u64) -> DocumentIdentity {
    DocumentIdentity {
        generation: Generation::new(1, generation),
        body: Digest::of(&generation.to_le_bytes()),
    }
}

fn applied(generation: u64) -> AppliedDocument {
    AppliedDocument {
        identity: identity(generation),
        effective_hash: Digest::of(b"effective"),
        container: vec![2],
    }
}

fn record(kind: Kind, held: u64, in_force: Option<u64>) -> TrackRecord {
    TrackRecord {
        kind,
        held: identity(held),
        held_container: vec![1],
        refused: None,
        applied: in_force.map(applied),
    }
}

#[tokio::test]
async fn the_endpoints_in_force_are_told_by_their_owner_alone() {
    let state = TempDir::new().unwrap();
    let memory = open(&state);
    assert_eq!(DesiredStore::load(&memory).await.unwrap(), []);
    memory
        .save(&record(Kind::Models, 2, Some(1)))
        .await
        .unwrap();
    memory
        .save(&record(Kind::Endpoints, 2, None))
        .await
        .unwrap();
    // The owner of endpoints commits this with the endpoints. That it is newer than what was saved
    // says that it was applied at once.
    let change = AppliedRow::change(Kind::Endpoints, &applied(3)).unwrap();
    memory.store.commit(change).await.unwrap();
    let memory = restart(memory, &state).await;
    let held = TrackRecord {
        held_container: vec![2],
        ..record(Kind::Endpoints, 3, Some(3))
    };
    assert_eq!(
        DesiredStore::load(&memory).await.unwrap(),
        [record(Kind::Models, 2, Some(1)), held]
    );
    // An agent that does not know of it yet saves what it holds: what is in force stays.
    memory
        .save(&record(Kind::Endpoints, 4, Some(1)))
        .await
        .unwrap();
    let records = DesiredStore::load(&memory).await.unwrap();
    assert_eq!(records[1], record(Kind::Endpoints, 4, Some(3)));
}
