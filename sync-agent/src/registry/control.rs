//! The registry's control task: documents out, reports in.
//!
//! Owns: the control link, which documents are still to be published, and unsent confirms.
//! Must never: confirm a report before it is recorded.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use edgeward_base::names::DeviceId;
use edgeward_wire::{
    json,
    ordering::Kind,
    presence::Presence,
    report::{Confirm, Report, ReportMessage},
    topic::{self, Topic},
};
use tokio_util::sync::CancellationToken;

use super::{RegistryOptions, RegistryPorts};
use crate::{
    link::{Connector, Encoding, Incoming, Link, LinkEvent, Outgoing, Session, TryPublishError},
    ports::PublishedDocument,
};

/// Confirms that wait for room. At the limit the oldest is dropped: the device sends its report
/// again and is confirmed again.
const CONFIRMS: usize = 4_096;

type Key = (DeviceId, Kind);

/// A document and how far it has come.
struct Delivery {
    document: PublishedDocument,
    acknowledged: bool,
    /// How often it was published without being acknowledged.
    attempts: u32,
    /// Monotonic microseconds at which it is published again, once it was published.
    again: Option<u64>,
}

struct Control {
    options: Arc<RegistryOptions>,
    ports: RegistryPorts,
    link: Box<dyn Link>,
    connected: bool,
    deliveries: BTreeMap<Key, Delivery>,
    /// Documents to publish.
    due: BTreeSet<Key>,
    online: HashSet<DeviceId>,
    confirms: VecDeque<(DeviceId, Confirm)>,
    /// Whether the documents must be read (again).
    stale: bool,
}

pub(super) async fn run(
    options: Arc<RegistryOptions>,
    ports: RegistryPorts,
    connector: Arc<dyn Connector>,
    shutdown: CancellationToken,
) {
    let link = connector.open(Session {
        client_id: options.client_id.clone(),
        filters: topic::registry_control_filters(&options.fleet),
        will: None,
        durable: true,
    });
    let mut control = Control {
        options,
        ports,
        link,
        connected: false,
        deliveries: BTreeMap::new(),
        due: BTreeSet::new(),
        online: HashSet::new(),
        confirms: VecDeque::new(),
        stale: true,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = control.serve() => {}
    }
    control.link.close().await;
}

impl Control {
    async fn serve(&mut self) {
        loop {
            if self.stale {
                self.read_documents().await;
            }
            self.find_unacknowledged();
            let want_room = self.pump();
            let timer = self.timer();
            tokio::select! {
                event = self.link.next(want_room) => self.on_link(event).await,
                () = self.ports.documents.changed() => self.stale = true,
                () = tokio::time::sleep(timer) => {}
            }
        }
    }

    async fn read_documents(&mut self) {
        match self.ports.documents.documents().await {
            Ok(documents) => {
                self.stale = false;
                for document in documents {
                    self.take_in(document);
                }
            }
            Err(error) => {
                tracing::warn!(%error, source = %error.source, "documents cannot be read, trying again");
            }
        }
    }

    fn take_in(&mut self, document: PublishedDocument) {
        let key = (document.device.clone(), document.kind);
        let known = self
            .deliveries
            .get(&key)
            .map(|delivery| delivery.document.generation);
        if known < Some(document.generation) {
            self.due.insert(key.clone());
            let delivery = Delivery {
                document,
                acknowledged: false,
                attempts: 0,
                again: None,
            };
            self.deliveries.insert(key, delivery);
        }
    }

    /// Documents whose acknowledgement an online device owes for too long are due again.
    fn find_unacknowledged(&mut self) {
        let now = self.ports.clock.monotonic_micros();
        let late = self.deliveries.iter().filter(|((device, _), delivery)| {
            !delivery.acknowledged
                && self.online.contains(device)
                && delivery.again.is_some_and(|again| again <= now)
        });
        self.due.extend(late.map(|(key, _)| key.clone()));
    }

    fn timer(&self) -> Duration {
        if self.stale {
            return self.options.timing.retry;
        }
        let now = self.ports.clock.monotonic_micros();
        // one that is due already waits for room or for the connection, not for time
        let owed = self.deliveries.iter().filter(|(key, delivery)| {
            !delivery.acknowledged && self.online.contains(&key.0) && !self.due.contains(key)
        });
        let next = owed.filter_map(|(_, delivery)| delivery.again).min();
        next.map_or(Duration::from_secs(3600), |next| {
            Duration::from_micros(next.saturating_sub(now))
        })
    }

    /// Hands over what is due while the link takes it. True when something waits for room.
    fn pump(&mut self) -> bool {
        if !self.connected {
            return false;
        }
        while let Some((device, confirm)) = self.confirms.front() {
            let topic = Topic::Confirm {
                device: device.clone(),
            }
            .name(&self.options.fleet);
            match self.link.try_publish(Outgoing::json(topic, confirm)) {
                Ok(()) => self.confirms.pop_front(),
                Err(error) => return error == TryPublishError::Busy,
            };
        }
        while let Some(key) = self.due.first().cloned() {
            match self.publish(&key) {
                Ok(()) => self.due.remove(&key),
                Err(TryPublishError::Busy) => return true,
                Err(TryPublishError::NotConnected) => return false,
                Err(error @ TryPublishError::TooLarge { .. }) => {
                    tracing::error!(%error, device = %key.0, kind = %key.1, "document cannot be published");
                    self.due.remove(&key)
                }
            };
        }
        false
    }

    fn publish(&mut self, key: &Key) -> Result<(), TryPublishError> {
        let Some(delivery) = self.deliveries.get_mut(key) else {
            return Ok(());
        };
        let (device, kind) = key.clone();
        self.link.try_publish(Outgoing {
            topic: Topic::Desired { device, kind }.name(&self.options.fleet),
            payload: delivery.document.container.clone().into(),
            retain: true,
            encoding: Encoding::Json,
        })?;
        let timing = &self.options.timing;
        let wait = timing
            .acknowledge
            .saturating_mul(1 << delivery.attempts.min(20))
            .min(timing.acknowledge_cap);
        delivery.attempts = delivery.attempts.saturating_add(1);
        let now = self.ports.clock.monotonic_micros();
        let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        delivery.again = Some(now.saturating_add(wait));
        Ok(())
    }

    async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected {
                connection,
                resumed,
            } => {
                tracing::info!(connection, resumed, "registry control connection is up");
                self.connected = true;
                if !resumed {
                    self.due.extend(self.deliveries.keys().cloned());
                }
            }
            LinkEvent::Disconnected => {
                tracing::info!("registry control connection is down");
                self.connected = false;
            }
            LinkEvent::Message(message) => self.on_message(message).await,
            LinkEvent::Room => {}
        }
    }

    async fn on_message(&mut self, message: Incoming) {
        let Incoming { topic, payload } = message;
        match Topic::parse(&self.options.fleet, &topic) {
            Ok(topic @ (Topic::Ack { .. } | Topic::Reported { .. })) => {
                self.on_report(&topic, &payload).await;
            }
            Ok(Topic::Presence { device }) => self.on_presence(device, &payload).await,
            _ => tracing::warn!(topic, "unexpected topic"),
        }
    }

    async fn on_report(&mut self, topic: &Topic, payload: &[u8]) {
        let report = match json::parse::<Report<ReportMessage>>(payload) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(device = %topic.device(), %error, "unreadable report");
                return;
            }
        };
        // a broker's access list ties the topic, not the payload, to the device
        if report.message.topic(report.device.clone()) != *topic {
            tracing::warn!(device = %topic.device(), "report does not belong on its topic");
            return;
        }
        match self.ports.reports.record(&report).await {
            Ok(newest) => {
                self.note_acknowledged(&report);
                if self.confirms.len() >= CONFIRMS {
                    self.confirms.pop_front();
                }
                let confirm = Confirm {
                    sequence: report.sequence,
                    newest,
                };
                self.confirms.push_back((report.device, confirm));
            }
            Err(error) => {
                tracing::warn!(%error, source = %error.source, "report not recorded: it will come again");
            }
        }
    }

    fn note_acknowledged(&mut self, report: &Report<ReportMessage>) {
        let spoken_of = match &report.message {
            ReportMessage::Ack(ack) => ack.generation,
            ReportMessage::Reported(reported) => reported.generation,
        };
        let key = (report.device.clone(), report.message.kind());
        if let Some(delivery) = self.deliveries.get_mut(&key)
            && spoken_of >= Some(delivery.document.generation)
        {
            delivery.acknowledged = true;
            self.due.remove(&key);
        }
    }

    async fn on_presence(&mut self, device: DeviceId, payload: &[u8]) {
        let presence = match json::parse::<Presence>(payload) {
            Ok(presence) => presence,
            Err(error) => {
                tracing::warn!(%device, %error, "unreadable presence");
                return;
            }
        };
        match self.ports.reports.presence(&device, &presence).await {
            Ok(recorded) if recorded.online => {
                let back = self.online.insert(device.clone());
                if back {
                    self.owe_soon(&device);
                }
            }
            Ok(_) => {
                self.online.remove(&device);
            }
            Err(error) => {
                tracing::warn!(%error, source = %error.source, %device, "presence not recorded");
            }
        }
    }

    /// A device that has come online owes its acknowledgements from now on.
    fn owe_soon(&mut self, device: &DeviceId) {
        let now = self.ports.clock.monotonic_micros();
        let wait = u64::try_from(self.options.timing.acknowledge.as_micros()).unwrap_or(u64::MAX);
        for kind in Kind::ALL {
            if let Some(delivery) = self.deliveries.get_mut(&(device.clone(), kind)) {
                delivery.attempts = 0;
                delivery.again = delivery.again.map(|_| now.saturating_add(wait));
            }
        }
    }
}
