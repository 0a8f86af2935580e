//! The MQTT 5 broker inside `edgeward quickstart`: rumqttd, on the loopback.
//!
//! It keeps everything in memory and forgets it with the process: the registry republishes what
//! must be retained, and the outboxes of both sides send again what was not confirmed. A fleet
//! runs a broker of its own; this one never leaves the machine.
//!
//! rumqttd offers no way to stop it: its threads end with the process.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

use tokio::net::TcpStream;

use crate::tasks::{SpawnThreadError, Tasks};

/// A message carries at most one chunk of 256 KiB and its frame; the wire's own cap is 1 MiB.
const MOST_PAYLOAD_BYTES: usize = 1 << 20;
/// Clients of one machine: a registry, a device, and what a person tries out.
const MOST_CONNECTIONS: usize = 64;
/// Memory per topic filter: two segments of 4 MiB. A slower subscriber misses messages, and its
/// peer sends them again.
const SEGMENT_BYTES: usize = 4 << 20;
const SEGMENTS: usize = 2;
/// How long the broker may take to accept its first connection.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartBrokerError {
    /// The address is not on the loopback.
    #[error(
        "the embedded broker takes anonymous clients and listens on the loopback alone, not on {address}"
    )]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No thread for it.
    #[error("cannot start the broker's thread")]
    Thread(#[source] SpawnThreadError),
    /// It was started and accepts nothing.
    #[error("the broker does not accept connections on {address}")]
    Silent {
        /// Where it should listen.
        address: SocketAddr,
        /// What the last connection attempt said.
        #[source]
        source: io::Error,
    },
}

/// Starts the broker and waits until it accepts connections; answers where it listens.
///
/// Port 0 takes a free one. The thread never ends: `tasks` is a list that nobody joins.
///
/// # Errors
/// [`StartBrokerError`], before anything was started unless it is [`StartBrokerError::Silent`].
pub async fn start(address: SocketAddr, tasks: &Tasks) -> Result<SocketAddr, StartBrokerError> {
    if !address.ip().is_loopback() {
        return Err(StartBrokerError::NotLoopback { address });
    }
    // rumqttd binds by itself and logs a failure to nobody: find out first, and learn the port.
    let bound = TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .map_err(|source| StartBrokerError::Listen { address, source })?;
    let mut broker = rumqttd::Broker::new(configuration(bound));
    tasks
        .spawn_thread("broker", move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "the broker ended");
            }
        })
        .map_err(StartBrokerError::Thread)?;
    accepts(bound).await?;
    Ok(bound)
}

async fn accepts(address: SocketAddr) -> Result<(), StartBrokerError> {
    let mut last = io::ErrorKind::TimedOut.into();
    let tried = tokio::time::timeout(START_PATIENCE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            match TcpStream::connect(address).await {
                Ok(_) => return,
                Err(error) => last = error,
            }
        }
    })
    .await;
    tried.map_err(|_| StartBrokerError::Silent {
        address,
        source: last,
    })
}

fn configuration(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: MOST_PAYLOAD_BYTES,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "mqtt".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    Config {
        router: RouterConfig {
            max_connections: MOST_CONNECTIONS,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("mqtt".to_owned(), server)])),
        ..Config::default()
    }
}
