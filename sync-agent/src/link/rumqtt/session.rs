//! The driver of a link: one rumqttc event loop after another, each for one broker session.
//!
//! ```text
//!   new event loop -> connecting -> subscribing -> up -> down -+-> up (session present)
//!         ^                              |                     |
//!         +------ cut before SUBACK -----+---- session lost ---+
//! ```

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rumqttc::{
    Outgoing as Sent,
    v5::{
        AsyncClient, Event, EventLoop,
        mqttbytes::{
            QoS,
            v5::{ConnAck, Filter, Packet, PubAckReason, PublishProperties, SubscribeReasonCode},
        },
    },
};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::{
    Backoff, BrokerOptions, Encoding, Happened, Incoming, Outgoing, SHORTEST_KEEP_ALIVE, Session,
    WINDOW, content_type,
};

/// Keeps one connection up for as long as it is polled. Never returns while the link lives.
pub(super) async fn drive(
    options: BrokerOptions,
    session: Session,
    mut commands: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Happened>,
    unacknowledged: Arc<AtomicUsize>,
) {
    let mut driver = Driver {
        backoff: options.backoff.clone(),
        options,
        session,
        events,
        unacknowledged,
        connection: 0,
    };
    loop {
        // whatever was handed over for a lost session goes with it: the agent replays
        while commands.try_recv().is_ok() {}
        driver.unacknowledged.store(0, Ordering::Relaxed);
        driver.one_session(&mut commands).await;
    }
}

struct Driver {
    options: BrokerOptions,
    session: Session,
    events: mpsc::Sender<Happened>,
    backoff: Backoff,
    unacknowledged: Arc<AtomicUsize>,
    connection: u64,
}

/// What the two halves of a session tell each other.
#[derive(Default)]
struct Signals {
    /// Connected for the first time: send the subscriptions.
    subscribe: Notify,
    /// Subscribed: publishing may start.
    ready: Notify,
}

/// Where the polling half is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Subscribing,
    Up,
    Down,
}

/// What the polling half knows of its session.
struct Progress {
    phase: Phase,
    /// Packet ids of publishes that the broker has not acknowledged.
    on_their_way: HashSet<u16>,
    max_packet_bytes: Option<u32>,
}

impl Driver {
    /// Runs one event loop until its session is lost.
    async fn one_session(&mut self, commands: &mut mpsc::Receiver<Outgoing>) {
        let mut options = self.options.mqtt(&self.session);
        if let Some(will) = self.options.will(&self.session, self.connection + 1) {
            options.set_last_will(will);
        }
        let (client, event_loop) = AsyncClient::new(options, 0);
        let window = Semaphore::new(0);
        let signals = Signals::default();
        let filters = self.session.filters.clone();
        tokio::select! {
            () = self.poll(event_loop, &window, &signals) => {}
            () = feed(&client, filters, commands, &window, &signals) => {}
        }
    }

    /// Polls the event loop and forwards what happens; returns when the session is lost.
    async fn poll(&mut self, mut event_loop: EventLoop, window: &Semaphore, signals: &Signals) {
        let mut progress = Progress {
            phase: Phase::Connecting,
            on_their_way: HashSet::new(),
            max_packet_bytes: None,
        };
        loop {
            let lost = match self.next_event(&mut event_loop).await {
                Some(event) => self.on_event(event, &mut progress, window, signals).await,
                None => self.down(&mut progress.phase, &mut event_loop).await,
            };
            if lost {
                return;
            }
        }
    }

    /// The next event; none when the connection is gone.
    async fn next_event(&self, event_loop: &mut EventLoop) -> Option<Event> {
        let client = &self.session.client_id;
        let watchdog = self.options.keep_alive.max(SHORTEST_KEEP_ALIVE) * 2 + CONNECT_ALLOWANCE;
        match tokio::time::timeout(watchdog, event_loop.poll()).await {
            Ok(Ok(event)) => Some(event),
            Ok(Err(error)) => {
                tracing::debug!(client, %error, "connection lost");
                None
            }
            Err(_elapsed) => {
                tracing::warn!(client, "connection stalled: cut");
                event_loop.clean();
                None
            }
        }
    }

    /// Forwards an event. True when the session is lost.
    async fn on_event(
        &mut self,
        event: Event,
        progress: &mut Progress,
        window: &Semaphore,
        signals: &Signals,
    ) -> bool {
        let client = &self.session.client_id;
        match event {
            Event::Incoming(Packet::ConnAck(acknowledged)) => {
                return self
                    .on_connected(&acknowledged, progress, window, signals)
                    .await;
            }
            Event::Incoming(Packet::SubAck(subscribed)) if progress.phase == Phase::Subscribing => {
                let good = |code: &_| matches!(code, SubscribeReasonCode::Success(_));
                if !subscribed.return_codes.iter().all(good) {
                    tracing::error!(client, codes = ?subscribed.return_codes, "subscription refused");
                    self.wait_backoff().await;
                    return true;
                }
                progress.phase = Phase::Up;
                signals.ready.notify_one();
                self.tell_connected(false, progress.max_packet_bytes).await;
            }
            Event::Incoming(Packet::Publish(message)) => {
                if let Ok(topic) = String::from_utf8(message.topic.to_vec()) {
                    let message = Incoming {
                        topic,
                        payload: message.payload,
                    };
                    self.tell(Happened::Message(message)).await;
                }
            }
            Event::Outgoing(Sent::Publish(id)) => {
                progress.on_their_way.insert(id);
            }
            Event::Incoming(Packet::PubAck(acknowledged)) => {
                if progress.on_their_way.remove(&acknowledged.pkid) {
                    window.add_permits(1);
                    self.unacknowledged.fetch_sub(1, Ordering::Relaxed);
                }
                let reason = acknowledged.reason;
                if !matches!(
                    reason,
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                ) {
                    tracing::warn!(client, ?reason, "publish refused by the broker");
                }
            }
            _ => {}
        }
        false
    }

    /// True when the broker no longer has the session of this event loop.
    async fn on_connected(
        &mut self,
        acknowledged: &ConnAck,
        progress: &mut Progress,
        window: &Semaphore,
        signals: &Signals,
    ) -> bool {
        self.connection += 1;
        let properties = acknowledged.properties.as_ref();
        progress.max_packet_bytes = properties.and_then(|properties| properties.max_packet_size);
        if progress.phase == Phase::Connecting {
            window.add_permits(window_of(acknowledged));
            progress.phase = Phase::Subscribing;
            signals.subscribe.notify_one();
        } else if acknowledged.session_present {
            progress.phase = Phase::Up;
            self.tell_connected(true, progress.max_packet_bytes).await;
        } else {
            tracing::info!(client = self.session.client_id, "broker lost the session");
            return true;
        }
        false
    }

    /// After a cut: waits, and says whether the session is to be given up.
    async fn down(&mut self, phase: &mut Phase, event_loop: &mut EventLoop) -> bool {
        if *phase == Phase::Up {
            self.tell(Happened::Disconnected).await;
        }
        self.wait_backoff().await;
        match *phase {
            Phase::Connecting => return false,
            // rumqttc does not repeat a subscription, so the SUBACK would never come
            Phase::Subscribing => return true,
            Phase::Up | Phase::Down => *phase = Phase::Down,
        }
        if let Some(will) = self.options.will(&self.session, self.connection + 1) {
            event_loop.options.set_last_will(will);
        }
        !self.session.durable
    }

    async fn wait_backoff(&mut self) {
        tokio::time::sleep(self.backoff.next_wait()).await;
    }

    async fn tell_connected(&mut self, resumed: bool, max_packet_bytes: Option<u32>) {
        self.backoff.reset();
        let connection = self.connection;
        self.tell(Happened::Connected {
            connection,
            resumed,
            max_packet_bytes,
        })
        .await;
    }

    async fn tell(&self, happened: Happened) {
        if self.events.send(happened).await.is_err() {
            // the link is being dropped, and this future with it
            std::future::pending::<()>().await;
        }
    }
}

/// Connecting has its own timeouts, which the watchdog must not cut short.
const CONNECT_ALLOWANCE: Duration = Duration::from_secs(15);

fn window_of(acknowledged: &ConnAck) -> usize {
    let receive_max = acknowledged
        .properties
        .as_ref()
        .and_then(|properties| properties.receive_max);
    receive_max
        .map_or(WINDOW, |receive_max| {
            WINDOW.min(usize::from(receive_max) / 2)
        })
        .max(1)
}

/// Subscribes when connected, then hands over messages, never more than the window.
async fn feed(
    client: &AsyncClient,
    filters: Vec<String>,
    commands: &mut mpsc::Receiver<Outgoing>,
    window: &Semaphore,
    signals: &Signals,
) {
    signals.subscribe.notified().await;
    let filters = filters
        .into_iter()
        .map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    if client.subscribe_many(filters).await.is_err() {
        // not a valid filter: never connected, which the log of the polling half shows
        tracing::error!("a topic filter of this link is not valid");
        return std::future::pending().await;
    }
    signals.ready.notified().await;
    loop {
        let (Ok(permit), Some(message)) = (window.acquire().await, commands.recv().await) else {
            return std::future::pending().await;
        };
        permit.forget();
        let Outgoing {
            topic,
            payload,
            retain,
            encoding,
        } = message;
        let properties = PublishProperties {
            payload_format_indicator: Some(u8::from(encoding == Encoding::Json)),
            content_type: Some(content_type(encoding).to_owned()),
            ..PublishProperties::default()
        };
        let handed = client
            .publish_bytes_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .await;
        if let Err(error) = handed {
            tracing::error!(%error, "a message of this link is not valid");
            window.add_permits(1);
        }
    }
}
