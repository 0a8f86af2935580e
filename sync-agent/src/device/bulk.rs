//! The bulk task: a connection that is up only while a fetch or an upload needs it.
//!
//! Owns: the bulk link, and the queues between it and the two flows.
//! Must never: connect when nothing waits, or hold more than a window of chunks.
//!
//! ```text
//! fetch  --requests-->  +------+            idle -- a flow begins --> connecting --> up
//! upload --chunks---->  | link |              ^                                      |
//!   ^  ^-- answers ---  +------+              +--- no flow for `linger` -------------+
//!   +----- chunks -----
//! ```
//!
//! A flow is a plain sequence of sends and awaited answers that repeats what is not answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use edgeward_wire::topic::{self, Topic};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{DeviceOptions, DevicePorts, StagingJob, StagingNews, fetch, upload};
use crate::link::{Connector, Incoming, Link, LinkEvent, Outgoing, Session, TryPublishError};

/// The bulk task's ends of the channels to the control task.
pub(super) struct Staging {
    pub(super) job: watch::Receiver<Option<StagingJob>>,
    pub(super) news: mpsc::Sender<StagingNews>,
}

/// Messages of a flow that wait for the link. A full queue holds the flow back.
const OUTGOING: usize = 2;
/// Answers that wait for a flow: a window of chunks and some. A full queue drops the newest; the
/// flow asks for it again.
const ANSWERS: usize = 32;

/// What a flow hears.
#[derive(Debug)]
pub(super) enum Answer {
    /// A message on one of its topics.
    Message(Topic, Bytes),
    /// The connection is new: whatever was asked before may be lost.
    Connected,
}

/// A flow's end of the bulk connection.
pub(super) struct Exchange {
    outgoing: mpsc::Sender<Outgoing>,
    answers: mpsc::Receiver<Answer>,
    demand: watch::Sender<usize>,
}

/// While one exists, the bulk connection is kept up.
pub(super) struct Demand(watch::Sender<usize>);

impl Drop for Demand {
    fn drop(&mut self) {
        self.0.send_modify(|flows| *flows -= 1);
    }
}

impl Exchange {
    /// Asks for the connection until the returned value is dropped.
    pub(super) fn begin(&self) -> Demand {
        self.demand.send_modify(|flows| *flows += 1);
        Demand(self.demand.clone())
    }

    /// Sends, waiting for the connection and for room.
    pub(super) async fn send(&self, message: Outgoing) {
        if self.outgoing.send(message).await.is_err() {
            // the task is ending, and this flow with it
            std::future::pending::<()>().await;
        }
    }

    /// The next answer; none when none comes in time.
    pub(super) async fn answer(&mut self, within: Duration) -> Option<Answer> {
        tokio::time::timeout(within, self.answers.recv())
            .await
            .ok()
            .flatten()
    }

    /// Forgets answers to what was asked before.
    pub(super) fn forget_answers(&mut self) {
        while self.answers.try_recv().is_ok() {}
    }
}

pub(super) async fn run(
    options: Arc<DeviceOptions>,
    ports: DevicePorts,
    connector: Arc<dyn Connector>,
    staging: Staging,
    shutdown: CancellationToken,
) {
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let (demand, wanted) = watch::channel(0);
    let (fetch_answers, answers) = mpsc::channel(ANSWERS);
    let fetch = Exchange {
        outgoing: outgoing.clone(),
        answers,
        demand: demand.clone(),
    };
    let (upload_answers, answers) = mpsc::channel(ANSWERS);
    let upload = Exchange {
        outgoing,
        answers,
        demand,
    };
    let connection = Connection {
        options: Arc::clone(&options),
        connector,
        queue,
        wanted,
        fetch: fetch_answers,
        upload: upload_answers,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = connection.serve() => {}
        () = fetch::run(Arc::clone(&options), ports.clone(), staging, fetch) => {}
        () = upload::run(options, ports, upload) => {}
    }
}

struct Connection {
    options: Arc<DeviceOptions>,
    connector: Arc<dyn Connector>,
    queue: mpsc::Receiver<Outgoing>,
    wanted: watch::Receiver<usize>,
    fetch: mpsc::Sender<Answer>,
    upload: mpsc::Sender<Answer>,
}

impl Connection {
    async fn serve(mut self) {
        loop {
            if self.wanted.wait_for(|flows| *flows > 0).await.is_err() {
                return;
            }
            let mut link = self.connector.open(Session {
                client_id: format!("{}-bulk", self.options.device),
                filters: topic::device_bulk_filters(&self.options.fleet, &self.options.device),
                will: None,
                durable: false,
            });
            self.while_wanted(link.as_mut()).await;
            link.close().await;
            tracing::debug!("bulk connection closed: nothing waits");
        }
    }

    /// Moves messages until no flow has wanted the connection for a while.
    async fn while_wanted(&mut self, link: &mut dyn Link) {
        let mut connected = false;
        let mut pending: Option<Outgoing> = None;
        loop {
            if connected && let Some(message) = pending.take() {
                pending = hand_over(link, message);
            }
            let idle = idle(&mut self.wanted, self.options.timing.linger);
            tokio::select! {
                event = link.next(pending.is_some()) => match event {
                    LinkEvent::Connected { .. } => {
                        connected = true;
                        for flow in [&self.fetch, &self.upload] {
                            deliver(flow, Answer::Connected);
                        }
                    }
                    LinkEvent::Disconnected => connected = false,
                    LinkEvent::Message(message) => self.dispatch(message),
                    LinkEvent::Room => {}
                },
                Some(message) = self.queue.recv(), if connected && pending.is_none() => {
                    pending = Some(message);
                }
                () = idle => return,
            }
        }
    }

    fn dispatch(&self, message: Incoming) {
        let Incoming { topic, payload } = message;
        match Topic::parse(&self.options.fleet, &topic) {
            Ok(topic) if topic.device() != &self.options.device => {}
            Ok(topic @ (Topic::BlobChunk { .. } | Topic::BlobMissing { .. })) => {
                deliver(&self.fetch, Answer::Message(topic, payload));
            }
            Ok(topic @ Topic::SegmentAnswer { .. }) => {
                deliver(&self.upload, Answer::Message(topic, payload));
            }
            _ => tracing::warn!(topic, "unexpected topic"),
        }
    }
}

/// Returns the message when the link has no room for it now.
fn hand_over(link: &mut dyn Link, message: Outgoing) -> Option<Outgoing> {
    match link.try_publish(message.clone()) {
        Ok(()) => None,
        Err(TryPublishError::Busy | TryPublishError::NotConnected) => Some(message),
        Err(error @ TryPublishError::TooLarge { .. }) => {
            tracing::error!(%error, topic = message.topic, "the broker takes no message of this size");
            None
        }
    }
}

/// Ends when no flow has wanted the connection for `linger`.
async fn idle(wanted: &mut watch::Receiver<usize>, linger: Duration) {
    loop {
        if wanted.wait_for(|flows| *flows == 0).await.is_err() {
            return;
        }
        let back = tokio::time::timeout(linger, wanted.wait_for(|flows| *flows > 0)).await;
        if !matches!(back, Ok(Ok(_))) {
            return;
        }
    }
}

fn deliver(flow: &mpsc::Sender<Answer>, answer: Answer) {
    if flow.try_send(answer).is_err() {
        tracing::debug!("an answer came too fast and is dropped: it will be asked for again");
    }
}
