//! The control task: performs the effects of the state machine and keeps the control link.
//!
//! Owns: the control link, the state, the outbox, and the document being applied.
//! Must never: move bulk bytes, or send a report that is not durable.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use edgeward_wire::{
    desired::{Address, DesiredDocument, Document, EndpointsDocument},
    json,
    ordering::{Generation, Kind},
    presence::Presence,
    report::{Confirm, Report, ReportMessage},
    reported::{Reported, Running},
    topic::{self, Topic},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    DeviceOptions, DevicePorts, StagingJob, StagingNews,
    state::{Effect, Event, Restored, Standing, State},
};
use crate::{
    link::{Connector, Incoming, Link, LinkEvent, Outgoing, Session, TryPublishError},
    outbox::Outbox,
    ports::{AppliedDocument, ApplyOutcome, PortError, TrackRecord},
};

/// The control task's ends of the channels to the bulk task.
pub(super) struct Staging {
    pub(super) jobs: watch::Sender<Option<StagingJob>>,
    pub(super) news: mpsc::Receiver<StagingNews>,
}

type Applying = Pin<Box<dyn Future<Output = (Generation, ApplyOutcome)> + Send>>;

struct Control {
    options: Arc<DeviceOptions>,
    ports: DevicePorts,
    link: Box<dyn Link>,
    outbox: Outbox,
    state: State,
    jobs: watch::Sender<Option<StagingJob>>,
    applying: Option<Applying>,
    /// The document being applied, while it is not durable.
    unsaved: Option<TrackRecord>,
    /// What is to be told to the registry and is not yet in the outbox: the messages of one step.
    unsaid: Vec<ReportMessage>,
    /// The number of the connection that is up.
    connection: Option<u64>,
    /// Whether this connection's birth is still to be published.
    birth_due: bool,
    /// Kinds whose reported document may have changed.
    reports_due: BTreeSet<Kind>,
    /// What was last reported, so that nothing is said twice.
    reported: Vec<Reported>,
}

/// What woke the control task.
enum Woken {
    Link(LinkEvent),
    Staging(StagingNews),
    Applied((Generation, ApplyOutcome)),
    EndpointsChanged,
    Timer,
    Shutdown,
}

pub(super) async fn run(
    options: Arc<DeviceOptions>,
    ports: DevicePorts,
    connector: Arc<dyn Connector>,
    staging: Staging,
    shutdown: CancellationToken,
) {
    let Staging { jobs, mut news } = staging;
    let work = async {
        let (outbox, records) = open(&options, &ports).await;
        let (state, effects) = State::restore(records);
        let mut control = Control {
            link: connector.open(session(&options)),
            options,
            ports,
            outbox,
            state,
            jobs,
            applying: None,
            unsaved: None,
            unsaid: Vec::new(),
            connection: None,
            birth_due: false,
            reports_due: BTreeSet::new(),
            reported: Vec::new(),
        };
        control.perform(effects).await;
        control.serve(&mut news, &shutdown).await;
        control.leave().await;
    };
    // a port that keeps failing must not hold up the shutdown
    tokio::select! {
        () = work => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(LEAVE_TIMEOUT).await } => {}
    }
}

/// How long an apply may take before its document and its `accepted` are written.
const QUICK_APPLY: Duration = Duration::from_millis(50);
/// How long the control task may take to say goodbye.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

async fn open(options: &DeviceOptions, ports: &DevicePorts) -> (Outbox, Vec<Restored>) {
    let outbox = retried(options, || {
        Outbox::open(
            Arc::clone(&ports.outbox),
            Arc::clone(&ports.clock),
            options.outbox.clone(),
            options.boot,
        )
    });
    let outbox = outbox.await;
    let records = retried(options, || ports.desired.load()).await;
    let records = records
        .into_iter()
        .map(|record| restored(options, record))
        .collect();
    (outbox, records)
}

/// Repeats a port call until it works: what must be durable is not skipped.
async fn retried<T, F: Future<Output = Result<T, PortError>>>(
    options: &DeviceOptions,
    mut call: impl FnMut() -> F,
) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => {
                tracing::error!(error = %chain(&error), "device storage failed, trying again");
                tokio::time::sleep(options.timing.retry).await;
            }
        }
    }
}

fn chain(error: &PortError) -> String {
    format!("{error}: {}", error.source)
}

fn address(options: &DeviceOptions, kind: Kind) -> Address {
    Address {
        fleet: options.fleet.clone(),
        device: options.device.clone(),
        kind,
    }
}

/// Verifies again what was stored: a record whose key is no longer pinned keeps its place in the
/// order and nothing else.
fn restored(options: &DeviceOptions, record: TrackRecord) -> Restored {
    let read = |container: &[u8]| -> Option<Document> {
        DesiredDocument::verify(
            container,
            &options.registry_key,
            &address(options, record.kind),
        )
        .map(|verified| verified.document)
        .inspect_err(|error| tracing::warn!(kind = %record.kind, %error, "stored document"))
        .ok()
    };
    let held = read(&record.held_container);
    let applied = record
        .applied
        .as_ref()
        .and_then(|applied| read(&applied.container));
    Restored {
        record,
        held,
        applied,
    }
}

fn session(options: &Arc<DeviceOptions>) -> Session {
    let of = Arc::clone(options);
    Session {
        client_id: options.device.to_string(),
        filters: topic::device_control_filters(&options.fleet, &options.device),
        will: Some(Arc::new(move |connection| presence(&of, connection, false))),
        durable: true,
    }
}

fn presence(options: &DeviceOptions, connection: u64, online: bool) -> Outgoing {
    let topic = Topic::Presence {
        device: options.device.clone(),
    }
    .name(&options.fleet);
    let presence = Presence {
        online,
        boot: options.boot,
        session: connection,
        version: options.version.clone(),
    };
    Outgoing::json(topic, &presence).retained()
}

async fn running(ports: &DevicePorts, kind: Kind) -> Result<Running, PortError> {
    Ok(match kind {
        Kind::Models => Running::Models {
            models: ports.models.running().await?,
        },
        Kind::Endpoints => Running::Endpoints {
            endpoints: ports.endpoints.running().await?,
        },
    })
}

impl Control {
    async fn serve(
        &mut self,
        news: &mut mpsc::Receiver<StagingNews>,
        shutdown: &CancellationToken,
    ) {
        loop {
            self.finish_quick_apply().await;
            self.report_due().await;
            self.say().await;
            let want_room = self.pump();
            match self.wake(news, shutdown, want_room).await {
                Woken::Link(event) => self.on_link(event).await,
                Woken::Staging(news) => self.on_staging(news).await,
                Woken::Applied(done) => self.on_applied(done).await,
                Woken::EndpointsChanged => {
                    self.reports_due.insert(Kind::Endpoints);
                }
                Woken::Timer => {}
                Woken::Shutdown => return,
            }
        }
    }

    async fn wake(
        &mut self,
        news: &mut mpsc::Receiver<StagingNews>,
        shutdown: &CancellationToken,
        want_room: bool,
    ) -> Woken {
        let timer = self.timer();
        let applying = async {
            match &mut self.applying {
                Some(applying) => applying.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Woken::Shutdown,
            event = self.link.next(want_room) => Woken::Link(event),
            Some(news) = news.recv() => Woken::Staging(news),
            done = applying => Woken::Applied(done),
            () = self.ports.endpoints.changed() => Woken::EndpointsChanged,
            () = tokio::time::sleep(timer) => Woken::Timer,
        }
    }

    /// When to wake though nothing happens.
    fn timer(&self) -> Duration {
        let retry = (!self.reports_due.is_empty()).then_some(self.options.timing.retry);
        let resend = self.connection.and_then(|_| self.outbox.wake_in());
        [retry, resend]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Duration::from_secs(3600))
    }

    /// Hands over what is due while the link takes it. True when something waits for room.
    fn pump(&mut self) -> bool {
        let Some(connection) = self.connection else {
            return false;
        };
        if self.birth_due {
            match self
                .link
                .try_publish(presence(&self.options, connection, true))
            {
                Ok(()) => self.birth_due = false,
                Err(error) => return error == TryPublishError::Busy,
            }
        }
        while let Some(entry) = self.outbox.due() {
            let sequence = entry.sequence;
            let device = self.options.device.clone();
            let topic = entry
                .message
                .topic(device.clone())
                .name(&self.options.fleet);
            let retain = entry.message.is_retained();
            let report = Report {
                device,
                boot: entry.boot,
                sequence,
                message: entry.message.clone(),
            };
            let message = Outgoing {
                retain,
                ..Outgoing::json(topic, &report)
            };
            match self.link.try_publish(message) {
                Ok(()) => self.outbox.sent(sequence),
                Err(error @ TryPublishError::TooLarge { .. }) => {
                    // it stays, unsent, and takes one place of the window: nothing else is lost
                    tracing::error!(sequence, %error, "a report cannot be sent");
                    self.outbox.sent(sequence);
                }
                Err(error) => return error == TryPublishError::Busy,
            }
        }
        false
    }

    async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected {
                connection,
                resumed,
            } => {
                tracing::info!(connection, resumed, "control connection is up");
                self.connection = Some(connection);
                self.birth_due = true;
                if !resumed {
                    self.outbox.session_lost();
                }
            }
            LinkEvent::Disconnected => {
                tracing::info!("control connection is down");
                self.connection = None;
            }
            LinkEvent::Message(message) => self.on_message(message).await,
            LinkEvent::Room => {}
        }
    }

    async fn on_message(&mut self, message: Incoming) {
        match Topic::parse(&self.options.fleet, &message.topic) {
            Ok(Topic::Desired { device, kind }) if device == self.options.device => {
                self.on_desired(kind, &message.payload).await;
            }
            Ok(Topic::Confirm { device }) if device == self.options.device => {
                match json::parse::<Confirm>(&message.payload) {
                    Ok(confirm) => {
                        if let Err(error) = self.outbox.confirm(confirm).await {
                            tracing::warn!(error = %chain(&error), "confirm not recorded");
                        }
                    }
                    Err(error) => tracing::warn!(%error, "unreadable confirm"),
                }
            }
            _ => tracing::warn!(topic = message.topic, "unexpected topic"),
        }
    }

    async fn on_desired(&mut self, kind: Kind, container: &[u8]) {
        if container.is_empty() {
            // a retained document was cleared by hand: what is held stays in force
            return;
        }
        let key = &self.options.registry_key;
        let event = match DesiredDocument::verify(container, key, &address(&self.options, kind)) {
            Ok(document) => Event::Arrived {
                document: Box::new(document),
                container: container.to_vec(),
            },
            Err(error) => {
                let rejection = error.rejection();
                tracing::warn!(%kind, %rejection, "desired document refused");
                Event::Unbelieved {
                    kind,
                    generation: error.generation(),
                    rejection,
                }
            }
        };
        self.step(event).await;
    }

    async fn on_staging(&mut self, news: StagingNews) {
        self.step(match news {
            StagingNews::Progress {
                generation,
                bytes_done,
                bytes_total,
            } => Event::StagingProgress {
                generation,
                bytes_done,
                bytes_total,
            },
            StagingNews::Done { generation, result } => Event::ModelsStaged { generation, result },
        })
        .await;
    }

    async fn step(&mut self, event: Event) {
        let (state, effects) = std::mem::take(&mut self.state).step(event);
        self.state = state;
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Save(record) => {
                    retried(&self.options, || self.ports.desired.save(&record)).await;
                }
                Effect::Ack(ack) => {
                    tracing::info!(kind = %ack.kind, generation = ?ack.generation, state = ?ack.state, "desired document");
                    self.unsaid.push(ReportMessage::Ack(ack));
                }
                Effect::Report(kind) => {
                    self.reports_due.insert(kind);
                }
                Effect::Stage {
                    generation,
                    document,
                } => {
                    self.jobs.send_replace(Some(StagingJob {
                        generation,
                        document,
                    }));
                }
                Effect::Apply {
                    document,
                    applied,
                    held,
                } => {
                    self.applying = Some(self.apply(document, applied));
                    self.unsaved = Some(held);
                }
                Effect::CancelApply => {
                    self.applying = None;
                    self.unsaved = None;
                }
            }
        }
    }

    fn apply(&self, document: EndpointsDocument, applied: AppliedDocument) -> Applying {
        let sink = Arc::clone(&self.ports.endpoints);
        let options = Arc::clone(&self.options);
        Box::pin(async move {
            let outcome = retried(&options, || sink.apply(&document, &applied)).await;
            (applied.identity.generation, outcome)
        })
    }

    /// Gives what is being applied a moment to finish before anything is written about it: a
    /// traffic change is durable with its document in one write, and does not wait for its own
    /// acknowledgement. What takes longer is saved, and others are listened to meanwhile.
    async fn finish_quick_apply(&mut self) {
        let (Some(applying), Some(_)) = (&mut self.applying, &self.unsaved) else {
            return;
        };
        if let Ok(done) = tokio::time::timeout(QUICK_APPLY, applying).await {
            self.on_applied(done).await;
        } else if let Some(held) = self.unsaved.take() {
            retried(&self.options, || self.ports.desired.save(&held)).await;
        }
    }

    async fn on_applied(&mut self, (generation, outcome): (Generation, ApplyOutcome)) {
        self.applying = None;
        self.unsaved = None;
        self.step(Event::EndpointsApplied {
            generation,
            outcome,
        })
        .await;
    }

    /// Makes durable, in one write, what is to be told to the registry.
    async fn say(&mut self) {
        while !self.unsaid.is_empty() {
            match self.outbox.push(self.unsaid.clone()).await {
                Ok(()) => self.unsaid.clear(),
                Err(error) => {
                    tracing::error!(error = %chain(&error), "reports not stored, trying again");
                    tokio::time::sleep(self.options.timing.retry).await;
                }
            }
        }
    }

    /// Puts reported documents that changed into the outbox; one that cannot be made stays due.
    async fn report_due(&mut self) {
        for kind in self.reports_due.clone() {
            match running(&self.ports, kind).await {
                Ok(running) => {
                    self.reports_due.remove(&kind);
                    let Standing {
                        generation,
                        effective_hash,
                        refused,
                    } = self.state.standing(kind);
                    let document = Reported {
                        generation,
                        effective_hash,
                        running,
                        refused,
                    };
                    if !self.reported.contains(&document) {
                        self.reported.retain(|earlier| earlier.kind() != kind);
                        self.reported.push(document.clone());
                        self.unsaid.push(ReportMessage::Reported(document));
                    }
                }
                Err(error) => {
                    tracing::warn!(%kind, error = %chain(&error), "cannot say what runs");
                }
            }
        }
    }

    /// Says goodbye, so that nobody has to wait for the will.
    async fn leave(&mut self) {
        if let Some(connection) = self.connection {
            let goodbye = presence(&self.options, connection, false);
            if let Err(error) = self.link.try_publish(goodbye) {
                tracing::debug!(%error, "left without a goodbye: the will says it");
            }
            self.link.close().await;
        }
    }
}
