//! A broker in memory that loses, repeats, delays, reorders and cuts, by a seed.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::link::{
    Connector, Encoding, Incoming, Link, LinkEvent, Outgoing, Session, TryPublishError,
};

/// How badly the simulated network behaves. Probabilities are in 0..=1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hazards {
    pub(super) lose: f64,
    pub(super) repeat: f64,
    pub(super) busy: f64,
    /// The longest delay; each message draws its own, so they overtake one another.
    pub(super) delay: Duration,
    /// The mean time to a cut; none for never.
    pub(super) cut_after: Option<Duration>,
    /// How often a cut loses the session.
    pub(super) lose_session: f64,
}

impl Hazards {
    pub(super) const NONE: Self = Self {
        lose: 0.0,
        repeat: 0.0,
        busy: 0.0,
        delay: Duration::ZERO,
        cut_after: None,
        lose_session: 0.0,
    };

    pub(super) const STORM: Self = Self {
        lose: 0.1,
        repeat: 0.1,
        busy: 0.2,
        delay: Duration::from_millis(300),
        cut_after: Some(Duration::from_secs(4)),
        lose_session: 0.5,
    };

    /// Loses nothing but what is on its way to a session that a cut ends: what the broker took, and
    /// said so, is gone all the same.
    pub(super) const LOST_SESSIONS: Self = Self {
        delay: Duration::from_millis(300),
        cut_after: Some(Duration::from_secs(2)),
        lose_session: 0.5,
        ..Self::NONE
    };
}

struct Client {
    filters: Vec<String>,
    queue: Vec<(Instant, Incoming)>,
}

struct State {
    random: StdRng,
    retained: BTreeMap<String, Outgoing>,
    clients: HashMap<String, Client>,
    /// Counts the times the broker forgot everything.
    restarts: u64,
    /// Counts the messages that it took and that went with the session they were for.
    gone: u64,
}

#[derive(Clone)]
pub(super) struct SimulatedBroker {
    hazards: Hazards,
    state: Arc<Mutex<State>>,
    moved: Arc<Notify>,
}

impl SimulatedBroker {
    pub(super) fn new(seed: u64, hazards: Hazards) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            retained: BTreeMap::new(),
            clients: HashMap::new(),
            restarts: 0,
            gone: 0,
        };
        Self {
            hazards,
            state: Arc::new(Mutex::new(state)),
            moved: Arc::new(Notify::new()),
        }
    }

    pub(super) fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(self.clone())
    }

    /// Loses every session and every retained message.
    pub(super) fn forget_everything(&self) {
        let mut state = self.state.lock().unwrap();
        state.retained.clear();
        state.clients.clear();
        state.restarts += 1;
        self.moved.notify_waiters();
    }

    pub(super) fn retains(&self, topic: &str) -> bool {
        self.state.lock().unwrap().retained.contains_key(topic)
    }

    /// Waits until a message is retained under this topic.
    pub(super) async fn until_retained(&self, topic: &str) {
        loop {
            // Enabled before the look: what moves between the two is not missed.
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.retains(topic) {
                return;
            }
            moved.await;
        }
    }

    /// Publishes as a stranger.
    pub(super) fn inject(&self, topic: &str, payload: &[u8]) {
        self.publish(Outgoing {
            topic: topic.to_owned(),
            payload: payload.to_vec().into(),
            retain: false,
            encoding: Encoding::Json,
        });
    }

    fn publish(&self, message: Outgoing) {
        let state = &mut *self.state.lock().unwrap();
        if state.random.random_bool(self.hazards.lose) {
            return;
        }
        for client in state.clients.values_mut() {
            if client
                .filters
                .iter()
                .any(|filter| matches(filter, &message.topic))
            {
                self.enqueue(&mut state.random, client, &message);
            }
        }
        if message.retain {
            state.retained.insert(message.topic.clone(), message);
        }
        self.moved.notify_waiters();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time of the test's runtime"
    )]
    fn enqueue(&self, random: &mut StdRng, client: &mut Client, message: &Outgoing) {
        let Outgoing { topic, payload, .. } = message.clone();
        let copies = 1 + u32::from(random.random_bool(self.hazards.repeat));
        for _ in 0..copies {
            let delay = self.hazards.delay.mul_f64(random.random::<f64>());
            let incoming = Incoming {
                topic: topic.clone(),
                payload: payload.clone(),
            };
            client.queue.push((Instant::now() + delay, incoming));
        }
    }

    /// Opens a connection; true when the session was there.
    fn connect(&self, session: &Session, keep: bool) -> bool {
        let state = &mut *self.state.lock().unwrap();
        if keep && state.clients.contains_key(&session.client_id) {
            return true;
        }
        let mut client = Client {
            filters: session.filters.clone(),
            queue: Vec::new(),
        };
        for message in state.retained.values() {
            if client
                .filters
                .iter()
                .any(|filter| matches(filter, &message.topic))
            {
                self.enqueue(&mut state.random, &mut client, message);
            }
        }
        let ended = state.clients.insert(session.client_id.clone(), client);
        state.gone += ended.map_or(0, |client| client.queue.len() as u64);
        false
    }

    /// The next message that has arrived, or when the next one will.
    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time of the test's runtime"
    )]
    fn take(&self, client_id: &str) -> Result<Incoming, Option<Instant>> {
        let state = &mut *self.state.lock().unwrap();
        let client = state.clients.get_mut(client_id).ok_or(None)?;
        let soonest = (0..client.queue.len())
            .min_by_key(|at| client.queue[*at].0)
            .ok_or(None)?;
        if client.queue[soonest].0 <= Instant::now() {
            Ok(client.queue.remove(soonest).1)
        } else {
            Err(Some(client.queue[soonest].0))
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.state.lock().unwrap().random)
    }

    /// How many messages it took and never delivered, because their session was lost.
    pub(super) fn gone(&self) -> u64 {
        self.state.lock().unwrap().gone
    }

    fn restarts(&self) -> u64 {
        self.state.lock().unwrap().restarts
    }
}

fn matches(filter: &str, name: &str) -> bool {
    let (filter, name): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
    filter.len() == name.len() && filter.iter().zip(&name).all(|(f, n)| *f == "+" || f == n)
}

impl Connector for SimulatedBroker {
    fn open(&self, session: Session) -> Box<dyn Link> {
        Box::new(SimulatedLink {
            broker: self.clone(),
            session,
            connection: 0,
            up: None,
            keep: false,
        })
    }
}

struct SimulatedLink {
    broker: SimulatedBroker,
    session: Session,
    connection: u64,
    /// While up: when it is cut, and the broker's life it belongs to.
    up: Option<(Option<Instant>, u64)>,
    /// Whether the next connection may resume.
    keep: bool,
}

impl SimulatedLink {
    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time of the test's runtime"
    )]
    async fn connect(&mut self) -> LinkEvent {
        let wait = self
            .broker
            .draw(|random| Duration::from_millis(random.random_range(1..500)));
        sleep(wait).await;
        let keep = self.keep && self.session.durable;
        let resumed = self.broker.connect(&self.session, keep);
        self.connection += 1;
        self.keep = true;
        let cut = self.broker.hazards.cut_after.map(|mean| {
            Instant::now() + mean.mul_f64(self.broker.draw(|random| random.random::<f64>() * 2.0))
        });
        self.up = Some((cut, self.broker.restarts()));
        LinkEvent::Connected {
            connection: self.connection,
            resumed,
        }
    }

    fn cut(&mut self) -> LinkEvent {
        let lose = self.broker.hazards.lose_session;
        self.keep = !self.broker.draw(|random| random.random_bool(lose));
        self.up = None;
        if let Some(will) = &self.session.will {
            self.broker.publish(will(self.connection));
        }
        LinkEvent::Disconnected
    }
}

#[async_trait]
impl Link for SimulatedLink {
    fn try_publish(&mut self, message: Outgoing) -> Result<(), TryPublishError> {
        if self.up.is_none() {
            return Err(TryPublishError::NotConnected);
        }
        let busy = self.broker.hazards.busy;
        if self.broker.draw(|random| random.random_bool(busy)) {
            return Err(TryPublishError::Busy);
        }
        self.broker.publish(message);
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time of the test's runtime"
    )]
    async fn next(&mut self, want_room: bool) -> LinkEvent {
        let Some((cut, life)) = self.up else {
            return self.connect().await;
        };
        loop {
            let moved = Arc::clone(&self.broker.moved);
            let moved = moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.broker.restarts() != life {
                self.keep = false;
                return self.cut();
            }
            if cut.is_some_and(|cut| cut <= Instant::now()) {
                return self.cut();
            }
            let next = match self.broker.take(&self.session.client_id) {
                Ok(message) => return LinkEvent::Message(message),
                Err(next) => next,
            };
            let wake = [cut, next].into_iter().flatten().min();
            let timer = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = moved => {}
                () = timer => {}
                // A link that was busy has room a moment later.
                () = sleep(Duration::from_millis(1)), if want_room => return LinkEvent::Room,
            }
        }
    }

    async fn close(&mut self) {
        self.up = None;
    }
}
