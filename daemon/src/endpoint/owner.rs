//! The one task that owns every endpoint.
//!
//! Commands come one at a time over a bounded queue; loads, answers that fall due and sessions
//! that drain come back as [`Progress`]. Models load elsewhere, so the owner itself only ever
//! waits for the store. After a start, a change never meets an endpoint that is neither serving nor
//! known to be broken: a command waits until the endpoint that it names is back, and the fleet's
//! whole set until all are. Commands for others are served meanwhile, so that one model that loads
//! slowly holds up nobody else. When as many wait as the queue holds, the queue waits too.
//!
//! - `slot`: one endpoint in memory, and what is shown of it
//! - `local`: create, update and delete from this box
//! - `desired`: the fleet's whole set
//! - `change`: what both have in common, from staging to the swap
//! - `restore`: after a start

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use edgeward_base::clock::SharedClock;
use edgeward_base::names::{EndpointName, Principal};
use edgeward_wire::ordering::Generation;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use crate::endpoint::config::EndpointConfigInput;
use crate::endpoint::error::EndpointError;
use crate::endpoint::models::{LoadFailures, LoadedModels, ModelSource, Scorers};
use crate::endpoint::record::{AppliedDesired, EndpointId};
use crate::endpoint::routing::RoutingSnapshot;
use crate::endpoint::state::{Effect, Event, State, step};
use crate::endpoint::view::{EndpointView, EndpointViews};
use crate::endpoint::{EndpointOptions, NewEndpoint};
use crate::store::{Change, Store};
use crate::tasks::Tasks;
use crate::telemetry::forget_events;

mod change;
mod desired;
mod local;
mod restore;
mod slot;

use change::PendingChange;
use slot::{Routed, Slot};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, EndpointError>>;

/// What others ask of the owner.
#[derive(Debug)]
pub(super) enum Command {
    /// Make a new endpoint.
    Create {
        new: NewEndpoint,
        reply: Reply<Arc<EndpointView>>,
    },
    /// Add tags to an endpoint and take others away.
    Retag {
        name: EndpointName,
        add: BTreeMap<String, Option<String>>,
        delete: Vec<String>,
        reply: Reply<Arc<EndpointView>>,
    },
    /// Replace an endpoint's configuration.
    UpdateConfig {
        name: EndpointName,
        config: EndpointConfigInput,
        author: Principal,
        reply: Reply<Arc<EndpointView>>,
    },
    /// Delete an endpoint.
    Delete {
        name: EndpointName,
        reply: Reply<()>,
    },
    /// Make the registry's endpoints be this set.
    ApplyDesired {
        desired: BTreeMap<EndpointName, EndpointConfigInput>,
        generation: Generation,
        /// What else becomes durable with the set.
        beside: Change,
        reply: Reply<()>,
    },
}

/// What the owner started and that has come to something.
enum Progress {
    /// The models of a change are there, or some are not.
    Staged(ChangeId, Result<Scorers, LoadFailures>),
    /// Whoever asked for a change has waited long enough.
    AnswerDue(ChangeId),
    /// The models of a stored endpoint are there, or some are not.
    Restored(EndpointName, Result<Scorers, LoadFailures>),
    /// No request uses a former configuration any more.
    Released(EndpointId),
    /// Requests still use it, and the grace period is over.
    Held(EndpointId),
}

/// Numbers the changes of one process.
type ChangeId = u64;

/// What request paths read.
#[derive(Debug, Default)]
pub(super) struct Published(ArcSwap<RoutingSnapshot>);

impl Published {
    pub(super) fn routing(&self) -> Arc<RoutingSnapshot> {
        self.0.load_full()
    }
}

/// What the owner works with.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) options: EndpointOptions,
    pub(super) store: Store,
    pub(super) models: Arc<dyn ModelSource>,
    pub(super) tasks: Tasks,
    pub(super) clock: SharedClock,
}

/// The owner.
pub(super) struct Owner {
    means: Means,
    published: Arc<Published>,
    views: watch::Sender<Arc<EndpointViews>>,
    slots: BTreeMap<EndpointName, Slot>,
    /// Deleted endpoints whose sessions are still in use.
    draining: HashMap<EndpointId, State>,
    /// Stored endpoints whose models are being loaded after the start.
    restoring: BTreeSet<EndpointName>,
    /// Commands that wait for them.
    waiting: VecDeque<Command>,
    changes: BTreeMap<ChangeId, PendingChange>,
    next_change: ChangeId,
    applied_desired: Option<AppliedDesired>,
    loaded: LoadedModels,
    work: FuturesUnordered<BoxFuture<'static, Progress>>,
}

impl Owner {
    /// Serves commands until the process shuts down or every handle is gone.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let shutdown = self.means.tasks.shutdown_token();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(progress) = self.work.next(), if !self.work.is_empty() => {
                    self.on_progress(progress).await;
                }
                command = queue.recv(), if self.waiting.len() < queue.max_capacity() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break,
                },
            }
        }
    }

    async fn on_command(&mut self, command: Command) {
        if self.must_wait(&command) {
            return self.waiting.push_back(command);
        }
        match command {
            Command::Create { new, reply } => self.create(new, reply),
            Command::Retag {
                name,
                add,
                delete,
                reply,
            } => {
                let outcome = self.retag(&name, &add, &delete).await;
                answer(reply, outcome);
            }
            Command::UpdateConfig {
                name,
                config,
                author,
                reply,
            } => self.update_config(name, &config, &author, reply),
            Command::Delete { name, reply } => {
                let outcome = self.delete(&name).await;
                answer(reply, outcome);
            }
            Command::ApplyDesired {
                desired,
                generation,
                beside,
                reply,
            } => {
                self.apply_desired(&desired, generation, beside, reply)
                    .await;
            }
        }
    }

    /// Whether an endpoint that the command concerns is not back yet after the start.
    fn must_wait(&self, command: &Command) -> bool {
        match command {
            Command::Create { new, .. } => self.restoring.contains(&new.name),
            Command::Retag { name, .. }
            | Command::UpdateConfig { name, .. }
            | Command::Delete { name, .. } => self.restoring.contains(name),
            Command::ApplyDesired { .. } => !self.restoring.is_empty(),
        }
    }

    /// An endpoint is back: takes up, in their order, the commands that waited for it.
    async fn take_up_waiting(&mut self) {
        for command in std::mem::take(&mut self.waiting) {
            self.on_command(command).await;
        }
    }

    async fn on_progress(&mut self, progress: Progress) {
        match progress {
            Progress::Staged(id, outcome) => self.staged(id, outcome).await,
            Progress::AnswerDue(id) => self.answer_due(id).await,
            Progress::Restored(name, outcome) => {
                self.restored(&name, outcome);
                self.take_up_waiting().await;
            }
            Progress::Released(id) => self.drained(&id),
            Progress::Held(id) => {
                tracing::warn!(endpoint_id = %id, "requests hold a former configuration past the grace period");
                self.drained(&id);
            }
        }
    }

    /// Milliseconds since 1970, UTC.
    fn now(&self) -> i64 {
        self.means.clock.wall_micros().div_euclid(1_000)
    }

    /// Publishes what is routed, then what is shown: whoever sees the view is already routed so.
    fn publish_routing(&mut self) {
        let serving = self
            .slots
            .values()
            .filter(|slot| slot.state.serves())
            .filter_map(|slot| slot.routed.as_ref())
            .map(|routed| Arc::clone(&routed.endpoint));
        self.published
            .0
            .store(Arc::new(RoutingSnapshot::new(serving)));
        self.publish_views();
    }

    /// Publishes what is shown.
    fn publish_views(&self) {
        let endpoints = self
            .slots
            .iter()
            .map(|(name, slot)| (name.clone(), Arc::new(slot.view())))
            .collect();
        self.views.send_replace(Arc::new(EndpointViews {
            endpoints,
            applied_desired: self
                .applied_desired
                .as_ref()
                .map(|applied| applied.generation),
            restoring: self.restoring.len(),
        }));
    }

    /// Takes an endpoint off the box. Its record is gone from the store, or never was there.
    fn remove(&mut self, name: &EndpointName) {
        let Some(mut slot) = self.slots.remove(name) else {
            return;
        };
        forget_events(name.as_str());
        let id = slot.record.id.clone();
        let effects = slot.advance(Event::Delete);
        if effects.contains(&Effect::Drain) {
            self.draining.insert(id.clone(), slot.state);
            match slot.routed.take() {
                Some(routed) => self.drain(id, routed),
                None => self.drained(&id),
            }
        }
    }

    /// Waits for the requests that still use a former configuration.
    fn drain(&self, id: EndpointId, routed: Routed) {
        let grace = tokio::time::sleep(self.means.options.grace_period);
        let Routed { endpoint, released } = routed;
        // The owner's own hold would keep it in use for ever.
        drop(endpoint);
        self.work.push(Box::pin(async move {
            tokio::select! {
                () = released.cancelled() => Progress::Released(id),
                () = grace => Progress::Held(id),
            }
        }));
    }

    /// A former configuration is out of use; if its endpoint was deleted, that is now forgotten.
    fn drained(&mut self, id: &EndpointId) {
        let Some(state) = self.draining.get(id) else {
            return;
        };
        if let Ok((State::Deleted, _)) = step(*state, Event::Drained) {
            self.draining.remove(id);
        }
    }
}

/// Answers whoever asked; they may have gone, which changes nothing here.
fn answer<T>(reply: Reply<T>, outcome: Result<T, EndpointError>) {
    drop(reply.send(outcome));
}
