//! Both ends over a real Mosquitto process. Skipped, saying so, where it is not installed.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use edgeward_wire::{ack::AckState, ordering::Kind};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tokio_util::sync::CancellationToken;

use super::{counts, world::World};
use crate::link::{
    Backoff, BrokerOptions, Connector, Encoding, LinkEvent, Outgoing, RumqttConnector, Session,
    TryPublishError,
};

/// A Mosquitto process on a free port of the loopback, without persistence.
pub(super) struct Mosquitto {
    program: PathBuf,
    process: Child,
    folder: TempDir,
    pub(super) port: u16,
    /// Kept open: a broker that cannot write its log stops.
    log: Log,
}

/// Where Mosquitto is, if it is installed: Debian puts it beside the daemons, out of a user's `PATH`.
fn installed() -> Option<&'static Path> {
    [
        "/usr/sbin/mosquitto",
        "/usr/bin/mosquitto",
        "/usr/local/sbin/mosquitto",
    ]
    .into_iter()
    .map(Path::new)
    .find(|path| path.is_file())
}

/// A port that nobody listens on, of those that no system gives to who asks for any: a broker that
/// starts again finds it free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: Range<u16> = 10_000..20_000;
    let first = std::process::id() % 100 * 100;
    let mut ports = std::iter::repeat_with(|| {
        let next = first + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + u16::try_from(next % u32::from(PORTS.end - PORTS.start)).unwrap()
    });
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.by_ref().take(PORTS.len()).find(is_free).unwrap()
}

type Log = Lines<BufReader<ChildStderr>>;

impl Mosquitto {
    /// None where Mosquitto is not installed: then `case` is skipped.
    pub(super) async fn start(case: &str) -> Option<Self> {
        Self::start_with(case, |_| String::new()).await
    }

    /// With more lines of configuration, made from its folder.
    async fn start_with(case: &str, more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let Some(program) = installed() else {
            counts::skip(case, "there is no Mosquitto on this machine");
            return None;
        };
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let configuration = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\npersistence false\n\
             max_queued_messages 20000\nset_tcp_nodelay true\n"
        );
        let configuration = configuration + &more(folder.path());
        std::fs::write(folder.path().join("mosquitto.conf"), configuration).unwrap();
        let (process, log) = Self::launch(program, &folder).await;
        Some(Self {
            program: program.to_path_buf(),
            process,
            folder,
            port,
            log,
        })
    }

    async fn launch(program: &Path, folder: &TempDir) -> (Child, Log) {
        let mut process = Command::new(program)
            .arg("-c")
            .arg(folder.path().join("mosquitto.conf"))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("running") {
                return (process, log);
            }
        }
        panic!("mosquitto did not start: {:?}", process.wait().await);
    }

    /// Waits until it logs a line with these words.
    pub(super) async fn logs(&mut self, words: &str) {
        loop {
            let line = self.log.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended without logging {words}"));
            println!("mosquitto: {line}");
            if line.contains(words) {
                return;
            }
        }
    }

    /// Stops it and starts it again: everything it held is forgotten.
    pub(super) async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        (self.process, self.log) = Self::launch(&self.program, &self.folder).await;
    }
}

/// A connector with the short waits of a test.
pub(super) fn connector(port: u16) -> Arc<dyn Connector> {
    Arc::new(RumqttConnector::new(BrokerOptions {
        keep_alive: Duration::from_secs(5),
        session_expiry: Duration::from_secs(60),
        will_delay: Duration::from_secs(1),
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
        ..BrokerOptions::new("127.0.0.1", port)
    }))
}

/// Longer than any of this takes on a machine that does other things: reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_loop_over_a_real_broker_that_forgets() {
    let Some(mut broker) = Mosquitto::start("sync.mosquitto.loop").await else {
        return;
    };
    let world = World::in_real_time();
    let entry = world.import(3, 3, 5_000_000);
    let next = world.import(4, 1, 10);
    world.publish_endpoints(1, 1, &entry);
    world.publish_models(1, vec![entry.clone()]);
    world.seal(0, 6_000_000);
    let connector = connector(broker.port);
    let goal = async {
        world.settled(Kind::Endpoints, 1).await;
        world.quiet().await;
        broker.restart().await;
        world.publish_models(2, vec![entry.clone(), next.clone()]);
        world.publish_endpoints(2, 2, &next);
        world.seal(100, 1_000);
        world.settled(Kind::Endpoints, 2).await;
        world.quiet().await;
    };
    world
        .run_until(Arc::clone(&connector), connector, LIMIT, goal)
        .await;
    assert!(matches!(
        world.states(Kind::Endpoints, 2).last(),
        Some(AckState::Applied { .. })
    ));
    assert_eq!(world.registry.see().landings, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_says_offline_for_a_device_that_died() {
    let Some(broker) = Mosquitto::start("sync.mosquitto.will").await else {
        return;
    };
    let world = World::in_real_time();
    let shutdown = CancellationToken::new();
    let story = async {
        {
            let device = world.run_device(connector(broker.port), CancellationToken::new());
            let online = world
                .registry
                .until(|registry| registry.presence.values().any(|presence| presence.online));
            // dropped without a goodbye, as by a power cut
            tokio::select! {
                () = device => {}
                () = online => {}
            }
        }
        world
            .registry
            .until(|registry| registry.presence.values().any(|presence| !presence.online))
            .await;
        shutdown.cancel();
    };
    let all = async {
        tokio::join!(
            world.run_registry(connector(broker.port), shutdown.clone()),
            story
        )
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_connections_run_over_tls_and_only_to_the_broker_they_trust() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let broker = Mosquitto::start_with("sync.mosquitto.tls", |folder| {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, certificate.cert.pem()).unwrap();
        std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
        format!("certfile {}\nkeyfile {}\n", cert.display(), key.display())
    })
    .await;
    let Some(mut broker) = broker else { return };
    let connector = |trusted: &[rustls_pki_types::CertificateDer<'static>]| -> Arc<dyn Connector> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(RumqttConnector::new(BrokerOptions {
            tls: Some(Arc::new(tls)),
            backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
            ..BrokerOptions::new("localhost", broker.port)
        }))
    };
    let world = World::in_real_time();
    let entry = world.import(3, 1, 1_000_000);
    world.publish_models(1, vec![entry]);
    let trusting = connector(&[certificate.cert.der().clone()]);
    world
        .run_until(
            Arc::clone(&trusting),
            trusting,
            LIMIT,
            world.settled(Kind::Models, 1),
        )
        .await;

    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut link = connector(&[stranger.cert.der().clone()]).open(Session {
        client_id: "doubter".to_owned(),
        filters: vec!["edgeward/v1/plant/dev/doubter/confirm".to_owned()],
        will: None,
        durable: false,
    });
    let turned_away = tokio::time::timeout(LIMIT, broker.logs(" alert "));
    tokio::select! {
        event = link.next(false) => panic!("at a broker it does not trust: {event:?}"),
        told = turned_away => told.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_brokers_limit_is_refused_and_the_next_passes() {
    let limit = 100_000;
    let more = |_: &Path| format!("max_packet_size {limit}\n");
    let broker = Mosquitto::start_with("sync.mosquitto.limit", more).await;
    let Some(broker) = broker else { return };
    let topic = "edgeward/v1/plant/dev/box-1/confirm".to_owned();
    let mut link = connector(broker.port).open(Session {
        client_id: "box-1".to_owned(),
        filters: vec![topic.clone()],
        will: None,
        durable: true,
    });
    let message = |bytes: usize| Outgoing {
        topic: topic.clone(),
        payload: vec![7; bytes].into(),
        retain: false,
        encoding: Encoding::Frame,
    };
    assert_eq!(
        link.try_publish(message(1)),
        Err(TryPublishError::NotConnected)
    );
    let story = async {
        let connected = LinkEvent::Connected {
            connection: 1,
            resumed: false,
        };
        assert_eq!(link.next(false).await, connected);
        let refused = link.try_publish(message(limit));
        assert!(
            matches!(refused, Err(TryPublishError::TooLarge { .. })),
            "{refused:?}"
        );
        assert_eq!(link.next(true).await, LinkEvent::Room);
        link.try_publish(message(90_000)).unwrap();
        // on the same connection: nothing was cut
        let LinkEvent::Message(arrived) = link.next(false).await else {
            panic!("no message")
        };
        assert_eq!(arrived.payload.len(), 90_000);
        link.close().await;
    };
    tokio::time::timeout(LIMIT, story).await.unwrap();
}
