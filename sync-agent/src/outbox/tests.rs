use std::sync::Mutex;

use async_trait::async_trait;
use edgeward_base::clock::TestClock;
use edgeward_wire::{
    ack::Ack,
    ordering::{Generation, Kind},
    reported::{Reported, Running},
};

use super::*;
use crate::ports::OutboxSnapshot;

#[derive(Default)]
struct Store {
    snapshot: Mutex<OutboxSnapshot>,
    broken: Mutex<bool>,
}

#[async_trait]
impl OutboxStore for Store {
    async fn load(&self) -> Result<OutboxSnapshot, PortError> {
        Ok(self.snapshot.lock().unwrap().clone())
    }

    async fn commit(&self, change: OutboxChange) -> Result<(), PortError> {
        if *self.broken.lock().unwrap() {
            return Err(PortError::new("commit", "the test says so"));
        }
        let mut snapshot = self.snapshot.lock().unwrap();
        snapshot
            .entries
            .retain(|entry| !change.remove.contains(&entry.sequence));
        snapshot.entries.extend(change.put);
        snapshot.next = change.next;
        Ok(())
    }
}

struct Bench {
    store: Arc<Store>,
    clock: Arc<TestClock>,
    options: OutboxOptions,
}

impl Bench {
    fn new() -> Self {
        let options = OutboxOptions {
            window: 2,
            capacity: 4,
            confirm_timeout: Duration::from_secs(10),
        };
        Self {
            store: Arc::default(),
            clock: TestClock::at(0),
            options,
        }
    }

    async fn open(&self) -> Outbox {
        let store: Arc<dyn OutboxStore> = self.store.clone();
        let clock: SharedClock = self.clock.clone();
        Outbox::open(store, clock, self.options.clone(), BootId(1))
            .await
            .unwrap()
    }

    fn stored(&self) -> Vec<u64> {
        self.store
            .snapshot
            .lock()
            .unwrap()
            .entries
            .iter()
            .map(|entry| entry.sequence)
            .collect()
    }
}

fn ack(generation: u64, state: AckState) -> ReportMessage {
    let generation = Some(Generation::new(1, generation));
    ReportMessage::Ack(Ack {
        kind: Kind::Models,
        generation,
        state,
    })
}

fn accepted(generation: u64) -> ReportMessage {
    ack(generation, AckState::Accepted)
}

fn reported() -> ReportMessage {
    ReportMessage::Reported(Reported {
        generation: None,
        effective_hash: None,
        running: Running::Models { models: vec![] },
        refused: None,
    })
}

/// Sends everything that is due.
fn send(outbox: &mut Outbox) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(sequence) = outbox.due().map(|entry| entry.sequence) {
        outbox.sent(sequence);
        sent.push(sequence);
    }
    sent
}

#[tokio::test]
async fn a_report_is_stored_first_and_sent_until_confirmed() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    outbox.push(vec![accepted(1)]).await.unwrap();
    assert_eq!(bench.stored(), [1]);
    assert_eq!(send(&mut outbox), [1]);
    assert_eq!(outbox.wake_in(), Some(Duration::from_secs(10)));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(send(&mut outbox), [1], "no confirm in time");
    outbox
        .confirm(Confirm {
            sequence: 1,
            newest: 1,
        })
        .await
        .unwrap();
    assert!(bench.stored().is_empty() && outbox.is_empty());
    outbox
        .confirm(Confirm {
            sequence: 1,
            newest: 1,
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_is_not_added() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    *bench.store.broken.lock().unwrap() = true;
    assert!(outbox.push(vec![accepted(1)]).await.is_err());
    assert!(outbox.is_empty() && outbox.due().is_none());
    *bench.store.broken.lock().unwrap() = false;
    outbox.push(vec![accepted(1)]).await.unwrap();
    assert_eq!(bench.stored(), [1]);
}

#[tokio::test]
async fn the_window_bounds_what_is_on_its_way() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    for generation in 1..=3 {
        outbox.push(vec![accepted(generation)]).await.unwrap();
    }
    assert_eq!(send(&mut outbox), [1, 2]);
    outbox
        .confirm(Confirm {
            sequence: 2,
            newest: 2,
        })
        .await
        .unwrap();
    assert_eq!(send(&mut outbox), [3]);
    outbox.session_lost();
    assert_eq!(
        send(&mut outbox),
        [1, 3],
        "a lost session sends everything again"
    );
}

#[tokio::test]
async fn numbers_go_on_after_a_restart_though_everything_was_confirmed() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    outbox.push(vec![accepted(1)]).await.unwrap();
    outbox
        .confirm(Confirm {
            sequence: 1,
            newest: 1,
        })
        .await
        .unwrap();
    let mut outbox = bench.open().await;
    outbox.push(vec![accepted(2)]).await.unwrap();
    assert_eq!(bench.stored(), [2]);
}

#[tokio::test]
async fn what_is_newer_replaces_only_what_it_makes_needless() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    let staging = |bytes_done| {
        ack(
            1,
            AckState::Staging {
                bytes_done,
                bytes_total: 9,
            },
        )
    };
    outbox.push(vec![accepted(1)]).await.unwrap();
    outbox.push(vec![staging(1)]).await.unwrap();
    outbox.push(vec![staging(2)]).await.unwrap();
    assert_eq!(bench.stored(), [1, 3]);
    outbox.push(vec![reported()]).await.unwrap();
    outbox.push(vec![reported()]).await.unwrap();
    assert_eq!(bench.stored(), [1, 3, 5]);
}

#[tokio::test]
async fn reports_of_one_step_are_one_write_and_replace_one_another() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    outbox
        .push(vec![accepted(1), reported(), accepted(2), reported()])
        .await
        .unwrap();
    assert_eq!(bench.stored(), [1, 3, 4]);
    outbox.push((3..=7).map(accepted).collect()).await.unwrap();
    assert_eq!(bench.stored(), [6, 7, 8, 9]);
}

#[tokio::test]
async fn at_capacity_the_oldest_goes() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    for generation in 1..=6 {
        outbox.push(vec![accepted(generation)]).await.unwrap();
    }
    assert_eq!(bench.stored(), [3, 4, 5, 6]);
    assert_eq!(outbox.len(), 4);
}

#[tokio::test]
async fn lost_counters_are_numbered_above_what_the_registry_knows() {
    let bench = Bench::new();
    let mut outbox = bench.open().await;
    outbox.push(vec![accepted(1)]).await.unwrap();
    outbox.push(vec![accepted(2)]).await.unwrap();
    send(&mut outbox);
    outbox
        .confirm(Confirm {
            sequence: 1,
            newest: 70,
        })
        .await
        .unwrap();
    assert_eq!(bench.stored(), [71, 72]);
    assert_eq!(send(&mut outbox), [71, 72]);
    outbox
        .confirm(Confirm {
            sequence: 71,
            newest: 71,
        })
        .await
        .unwrap();
    outbox.push(vec![accepted(3)]).await.unwrap();
    assert_eq!(bench.stored(), [72, 73]);
}
