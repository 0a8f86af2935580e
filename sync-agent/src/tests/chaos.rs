//! The release gate of the outbox: a network with latency that cuts, in front of a real broker.
//!
//! On a loopback without latency the losses of the client library do not show; with it, its own
//! publishes are lost on every cut. Through the outbox none may be, and none may count twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgeward_wire::{ack::AckState, ordering::Kind};
use futures_util::{StreamExt, stream::FuturesUnordered};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, sleep_until},
};

use super::{
    counts,
    mosquitto::{Mosquitto, connector},
    world::World,
};

/// How many reports pass the gate.
const MESSAGES: u64 = 2_000;
/// Each way.
const LATENCY: Duration = Duration::from_millis(15);
/// Connections live this many milliseconds.
const LIFETIME_MS: std::ops::Range<u64> = 150..700;
/// Many times what this takes: on a machine that does other things each cut costs more.
const LIMIT: Duration = Duration::from_secs(300);

/// A proxy that delays every byte by [`LATENCY`] and cuts every connection after a while.
struct Proxy {
    listener: TcpListener,
    broker: u16,
    cuts: AtomicU64,
}

impl Proxy {
    async fn open(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            listener,
            broker,
            cuts: AtomicU64::new(0),
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    async fn run(&self) {
        let mut random = StdRng::seed_from_u64(7);
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let lifetime = Duration::from_millis(random.random_range(LIFETIME_MS));
                    connections.push(self.carry(accepted.unwrap().0, lifetime));
                }
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn carry(&self, mut client: TcpStream, lifetime: Duration) {
        let Ok(mut broker) = TcpStream::connect(("127.0.0.1", self.broker)).await else {
            return;
        };
        client.set_nodelay(true).unwrap();
        broker.set_nodelay(true).unwrap();
        let (mut client_read, mut client_write) = client.split();
        let (mut broker_read, mut broker_write) = broker.split();
        tokio::select! {
            () = delayed(&mut client_read, &mut broker_write) => {}
            () = delayed(&mut broker_read, &mut client_write) => {}
            () = sleep(lifetime) => {
                self.cuts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Carries bytes one way, each read late by [`LATENCY`]. What is on its way at a cut is lost.
#[expect(clippy::disallowed_methods, reason = "a network has a time of its own")]
async fn delayed(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin)) {
    let (sender, mut queue) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1024);
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    let due = tokio::time::Instant::now() + LATENCY;
                    sender.send((due, buffer[..read].to_vec())).await.unwrap();
                }
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = queue.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_gate_no_report_is_lost_or_counted_twice() {
    let Some(broker) = Mosquitto::start("sync.gate").await else {
        return;
    };
    let proxy = Proxy::open(broker.port).await;
    let mut world = World::in_real_time();
    world.owe(MESSAGES);
    let goal = world.quiet();
    let through = connector(proxy.port());
    tokio::select! {
        () = world.run_until(through, connector(broker.port), LIMIT, goal) => {}
        () = proxy.run() => {}
    }
    let lost = world.lost(MESSAGES);
    let registry = world.registry.see();
    println!(
        "release gate: {MESSAGES} reports, {} cuts, {} ms latency each way: {} lost, \
         {} came again and were counted once",
        proxy.cuts.load(Ordering::Relaxed),
        LATENCY.as_millis(),
        lost.len(),
        registry.repeated,
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
    counts::reached("sync.gate", "reports", MESSAGES);
    counts::reached("sync.gate", "cuts", proxy.cuts.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_and_segments_pass_a_network_that_cuts() {
    let Some(broker) = Mosquitto::start("sync.mosquitto.cuts").await else {
        return;
    };
    let proxy = Arc::new(Proxy::open(broker.port).await);
    let world = World::in_real_time();
    let model = world.import(3, 2, 3_000_000);
    world.publish_models(1, vec![model.clone()]);
    world.publish_endpoints(1, 1, &model);
    world.seal(0, 5_000_000);
    let goal = async {
        world.settled(Kind::Endpoints, 1).await;
        world.quiet().await;
    };
    let through = connector(proxy.port());
    tokio::select! {
        () = world.run_until(Arc::clone(&through), through, LIMIT, goal) => {}
        () = proxy.run() => {}
    }
    assert!(matches!(
        world.states(Kind::Endpoints, 1).last(),
        Some(AckState::Applied { .. })
    ));
    assert_eq!(world.registry.see().landings, 1);
}
