//! [`Link`] over rumqttc 0.25.1 (MQTT 5), wrapped against its defects.
//!
//! Owns: the one event loop of a link, the window of publishes, and when a session counts as lost.
//! Must never: let more than the window be on its way, publish before every filter is subscribed,
//! or keep an event loop whose session the broker has forgotten.
//!
//! What rumqttc does, and what is done about it here:
//!
//! - It loses `QoS` 1 publishes on reconnect when its request channel holds any, or when packet ids
//!   wrap: the channel has capacity 0, and the window is min(10, half the broker's receive maximum).
//! - A stale packet survives a lost session: the event loop is dropped and built anew.
//! - An oversized publish makes it reconnect for ever: the size is checked before it is handed over.
//! - It preallocates 14 MB for 65,535 packet ids: the upper limit is 20.
//! - A stalled peer can hang it: a watchdog of two keep-alive intervals stands around `poll`.
//! - It reconnects at once and for ever: full-jitter backoff.

mod session;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rumqttc::{
    TlsConfiguration, Transport,
    v5::{
        MqttOptions,
        mqttbytes::{
            QoS,
            v5::{ConnectProperties, LastWill, LastWillProperties},
        },
    },
};
use tokio::sync::mpsc;

use super::{
    Backoff, Connector, Encoding, Incoming, Link, LinkEvent, MAX_PAYLOAD_BYTES, Outgoing, Session,
    TryPublishError,
};

/// The most publishes on their way to the broker.
const WINDOW: usize = 10;
/// rumqttc's own limit, above the window so that it never comes into play.
const INFLIGHT_UPPER_LIMIT: u16 = 20;
/// The largest packet read: the largest payload with its topic and properties.
const MAX_INCOMING_PACKET_BYTES: u32 = (1 << 20) + (64 << 10);
/// Topic, properties and head of a publish: what a packet is larger than its payload.
const PACKET_OVERHEAD_BYTES: usize = 1024;
/// The shortest keep-alive interval that rumqttc takes.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long [`Link::close`] waits.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that wait for the agent. A full queue stops reading from the broker.
const EVENT_QUEUE: usize = 32;

/// How to reach a broker.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, with rustls over ring; none for a plain connection.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// How often a silent connection is probed; whole seconds, at least five.
    pub keep_alive: Duration,
    /// How long the broker keeps the session of a durable link that is down.
    pub session_expiry: Duration,
    /// How long the broker waits before it publishes the will: less than `session_expiry`.
    pub will_delay: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

impl BrokerOptions {
    /// A plain connection with the usual timing: keep-alive 30 s, session kept for an hour, will
    /// after 15 s, backoff from 1 s to 5 minutes.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            tls: None,
            credentials: None,
            keep_alive: Duration::from_secs(30),
            session_expiry: Duration::from_secs(3600),
            will_delay: Duration::from_secs(15),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(300)),
        }
    }

    fn mqtt(&self, session: &Session) -> MqttOptions {
        let mut options = MqttOptions::new(&session.client_id, &self.host, self.port);
        options.set_clean_start(!session.durable);
        options.set_keep_alive(self.keep_alive.max(SHORTEST_KEEP_ALIVE));
        options.set_outgoing_inflight_upper_limit(INFLIGHT_UPPER_LIMIT);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(if session.durable {
            whole_seconds(self.session_expiry)
        } else {
            0
        });
        properties.max_packet_size = Some(MAX_INCOMING_PACKET_BYTES);
        options.set_connect_properties(properties);
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            let configuration = TlsConfiguration::Rustls(Arc::clone(tls));
            options.set_transport(Transport::tls_with_config(configuration));
        }
        let mut network = rumqttc::NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(10);
        options.set_network_options(network);
        options
    }

    fn will(&self, session: &Session, connection: u64) -> Option<LastWill> {
        let Outgoing {
            topic,
            payload,
            retain,
            ..
        } = session.will.as_ref()?(connection);
        let properties = LastWillProperties {
            delay_interval: Some(whole_seconds(self.will_delay)),
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some(content_type(Encoding::Json).to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        Some(LastWill::new(
            topic,
            payload,
            QoS::AtLeastOnce,
            retain,
            Some(properties),
        ))
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BrokerOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls.is_some())
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .finish_non_exhaustive()
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

const fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/vnd.edgeward+json;v=0",
        Encoding::Frame => "application/vnd.edgeward+postcard;v=0",
    }
}

/// Opens links over rumqttc.
#[derive(Debug, Clone)]
pub struct RumqttConnector {
    options: BrokerOptions,
}

impl RumqttConnector {
    /// A connector to one broker.
    #[must_use]
    pub const fn new(options: BrokerOptions) -> Self {
        Self { options }
    }
}

impl Connector for RumqttConnector {
    fn open(&self, session: Session) -> Box<dyn Link> {
        // the command queue holds one message: the window beyond it is the driver's
        let (commands, command_queue) = mpsc::channel(1);
        let (event_queue, events) = mpsc::channel(EVENT_QUEUE);
        let unacknowledged = Arc::new(AtomicUsize::new(0));
        let driver = session::drive(
            self.options.clone(),
            session,
            command_queue,
            event_queue,
            Arc::clone(&unacknowledged),
        );
        Box::new(RumqttLink {
            commands,
            events,
            driver: Box::pin(driver),
            limit: None,
            unacknowledged,
        })
    }
}

/// What the driver tells the link.
#[derive(Debug)]
enum Happened {
    Connected {
        connection: u64,
        resumed: bool,
        max_packet_bytes: Option<u32>,
    },
    Disconnected,
    Message(Incoming),
}

struct RumqttLink {
    commands: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<Happened>,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The largest payload while connected.
    limit: Option<usize>,
    /// Publishes taken over and not yet acknowledged by the broker.
    unacknowledged: Arc<AtomicUsize>,
}

impl RumqttLink {
    fn accept(&mut self, happened: Happened) -> LinkEvent {
        match happened {
            Happened::Connected {
                connection,
                resumed,
                max_packet_bytes,
            } => {
                let broker = max_packet_bytes
                    .and_then(|limit| usize::try_from(limit).ok())
                    .map_or(usize::MAX, |limit| {
                        limit.saturating_sub(PACKET_OVERHEAD_BYTES)
                    });
                self.limit = Some(broker.min(MAX_PAYLOAD_BYTES));
                LinkEvent::Connected {
                    connection,
                    resumed,
                }
            }
            Happened::Disconnected => {
                self.limit = None;
                LinkEvent::Disconnected
            }
            Happened::Message(message) => LinkEvent::Message(message),
        }
    }
}

#[async_trait]
impl Link for RumqttLink {
    fn try_publish(&mut self, message: Outgoing) -> Result<(), TryPublishError> {
        let limit = self.limit.ok_or(TryPublishError::NotConnected)?;
        if message.payload.len() > limit {
            return Err(TryPublishError::TooLarge {
                actual: message.payload.len(),
                limit,
            });
        }
        self.commands
            .try_send(message)
            .map_err(|_| TryPublishError::Busy)?;
        self.unacknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn next(&mut self, want_room: bool) -> LinkEvent {
        let want_room = want_room && self.limit.is_some();
        let happened = tokio::select! {
            biased;
            Some(happened) = self.events.recv() => happened,
            Ok(_) = self.commands.reserve(), if want_room => return LinkEvent::Room,
            // the driver never ends while the link lives; it is polled last so that what it has
            // already said is read first
            () = &mut self.driver => std::future::pending().await,
        };
        self.accept(happened)
    }

    async fn close(&mut self) {
        let unacknowledged = Arc::clone(&self.unacknowledged);
        let drained = async {
            while self.limit.is_some() && unacknowledged.load(Ordering::Relaxed) > 0 {
                self.next(false).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, drained).await.is_err() {
            tracing::debug!("closed with publishes that the broker has not taken");
        }
    }
}
