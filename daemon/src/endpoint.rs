//! Serving endpoints: what is served under which name, and how it is changed.
//!
//! One owner task holds every endpoint. Others hold an [`Endpoints`] handle: a bounded queue of
//! commands to the owner, the [`RoutingSnapshot`] that requests are routed by, and views for those
//! who ask how things stand. A change comes from REST, the command line or the fleet, and takes
//! the same way every time:
//!
//! ```text
//! validate whole -> stage (load, known answers, memory) -> commit to the store
//!     -> swap the routing snapshot -> drain the old sessions -> report
//! ```
//!
//! A change that fails at any step leaves what ran before running. Nobody but the owner writes an
//! endpoint's record; nothing here answers a request or speaks HTTP or MQTT.
//!
//! The queue of commands holds 64; a command that finds it full is refused as
//! [`EndpointError::Busy`], because whoever sent it can tell its client to come again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_base::names::{EndpointName, Principal};
use edgeward_base::units::ByteCount;
use edgeward_wire::ordering::Generation;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::LocalEdits;
use crate::store::{Change, Store};
use crate::tasks::Tasks;

mod about;
mod config;
mod error;
mod models;
mod owner;
mod record;
mod routing;
pub mod state;
pub mod traffic;
mod view;

#[cfg(test)]
mod tests;

pub use about::{About, AboutError};
pub use config::{
    AutoCapture, AutoCaptureInput, Capacity, EndpointConfig, EndpointConfigInput,
    MAX_SERVED_ENTITIES, ProvisionedInput, Route, RouteInput, ServedEntityConfig,
    ServedEntityInput, ValidateConfigError, WorkloadSize, WorkloadType,
};
pub use error::{EndpointError, OpenEndpointsError};
pub use models::{CatalogueEntry, ModelSource, Placement};
pub use record::{AppliedDesired, Creator, EndpointId, EndpointRecord, ManagedBy, ServedEntityId};
pub use routing::{RouteConfigError, RoutedEndpoint, RoutedEntity, RoutingSnapshot};
pub use state::{ConfigUpdate, Ready};
pub use traffic::TrafficSplit;
pub use view::{
    ConfigView, Deployment, EndpointState, EndpointView, EndpointViews, PendingConfigView,
    ServedEntityView,
};

use owner::{Command, Published, Reply};

/// How many commands may wait for the owner.
const QUEUE: usize = 64;

/// What a box decides about its endpoints.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Whether an endpoint that the registry manages may be changed on this box.
    pub local_edits: LocalEdits,
    /// How much all loaded models may hold together, the old and the new version of a change
    /// side by side; no limit when absent.
    pub memory_ceiling: Option<ByteCount>,
    /// How long a change waits for its models before it is answered `IN_PROGRESS`.
    pub answer_within: Duration,
    /// How long a deleted or replaced configuration may keep its sessions for requests that are
    /// under way, before that is logged as a leak.
    pub grace_period: Duration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            local_edits: LocalEdits::Refuse,
            memory_ceiling: None,
            // Enough for small models, short enough that a waiter gains nothing by polling.
            answer_within: Duration::from_secs(2),
            grace_period: Duration::from_secs(30),
        }
    }
}

/// An endpoint that is to be made.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// Its id, which nothing else ever has.
    pub id: EndpointId,
    /// What it serves.
    pub config: EndpointConfigInput,
    /// What people say of it.
    pub about: About,
    /// Who makes it.
    pub creator: Creator,
}

impl NewEndpoint {
    /// One of which nothing is said, with a new id.
    #[must_use]
    pub fn new(name: EndpointName, config: EndpointConfigInput, creator: Creator) -> Self {
        Self {
            name,
            id: EndpointId::random(),
            config,
            about: About::default(),
            creator,
        }
    }
}

/// A handle to the one owner of all endpoints. A clone is another handle to the same owner.
#[derive(Debug, Clone)]
pub struct Endpoints {
    commands: mpsc::Sender<Command>,
    published: Arc<Published>,
    views: watch::Receiver<Arc<EndpointViews>>,
}

impl Endpoints {
    /// Reads the stored endpoints and starts their owner on `tasks`. Returns at once: models load
    /// in parallel beside it, and each endpoint serves as soon as its own are there.
    ///
    /// # Errors
    /// [`OpenEndpointsError`] when the store cannot be read.
    pub fn open(
        options: EndpointOptions,
        store: Store,
        models: Arc<dyn ModelSource>,
        tasks: &Tasks,
        clock: SharedClock,
    ) -> Result<Self, OpenEndpointsError> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (views_sender, views) = watch::channel(Arc::default());
        let published = Arc::new(Published::default());
        let owner = owner::Owner::open(
            owner::Means {
                options,
                store,
                models,
                tasks: tasks.clone(),
                clock,
            },
            Arc::clone(&published),
            views_sender,
        )?;
        drop(tasks.spawn("endpoints", owner.run(queue)));
        Ok(Self {
            commands,
            published,
            views,
        })
    }

    /// Makes a new endpoint. Answers once it serves or has failed, or as `IN_PROGRESS` when its
    /// models take longer than [`EndpointOptions::answer_within`].
    ///
    /// # Errors
    /// [`EndpointError`]; nothing has happened then. A model that cannot be loaded is no error:
    /// the endpoint exists with `UPDATE_FAILED`.
    pub async fn create(&self, new: NewEndpoint) -> Result<Arc<EndpointView>, EndpointError> {
        let about = new.about.checked()?;
        let new = NewEndpoint { about, ..new };
        self.ask(|reply| Command::Create { new, reply }).await
    }

    /// Adds tags to an endpoint, in the place of those with the same keys, and takes others away.
    ///
    /// # Errors
    /// [`EndpointError`]; nothing has happened then.
    pub async fn retag(
        &self,
        name: EndpointName,
        add: BTreeMap<String, Option<String>>,
        delete: Vec<String>,
    ) -> Result<Arc<EndpointView>, EndpointError> {
        self.ask(|reply| Command::Retag {
            name,
            add,
            delete,
            reply,
        })
        .await
    }

    /// Replaces an endpoint's served entities and routes as a whole; a missing
    /// `auto_capture_config` keeps what it has. Answers as [`create`](Self::create) does.
    ///
    /// # Errors
    /// [`EndpointError`]; nothing has happened then.
    pub async fn update_config(
        &self,
        name: EndpointName,
        config: EndpointConfigInput,
        author: Principal,
    ) -> Result<Arc<EndpointView>, EndpointError> {
        self.ask(|reply| Command::UpdateConfig {
            name,
            config,
            author,
            reply,
        })
        .await
    }

    /// Deletes an endpoint. Requests under way end as they would have.
    ///
    /// # Errors
    /// [`EndpointError`]; nothing has happened then.
    pub async fn delete(&self, name: EndpointName) -> Result<(), EndpointError> {
        self.ask(|reply| Command::Delete { name, reply }).await
    }

    /// Makes the registry's endpoints be exactly `desired`, all of it in one step or none of it.
    /// Endpoints that were made on this box under other names are left alone. Answers once the set
    /// is applied, however long its models take; a newer call ends an older one.
    ///
    /// `beside` are records of whoever asks, committed with the set in one transaction, or not at all.
    ///
    /// # Errors
    /// [`EndpointError`], whose [`rejection`](EndpointError::rejection) is the acknowledgement's; what ran
    /// before runs on.
    pub async fn apply_desired(
        &self,
        desired: BTreeMap<EndpointName, EndpointConfigInput>,
        generation: Generation,
        beside: Change,
    ) -> Result<(), EndpointError> {
        self.ask(|reply| Command::ApplyDesired {
            desired,
            generation,
            beside,
            reply,
        })
        .await
    }

    /// One endpoint, if it exists.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<EndpointView>> {
        self.views.borrow().get(name).cloned()
    }

    /// All endpoints, at one moment.
    #[must_use]
    pub fn list(&self) -> Arc<EndpointViews> {
        Arc::clone(&self.views.borrow())
    }

    /// All endpoints, and a signal whenever one of them changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<EndpointViews>> {
        self.views.clone()
    }

    /// What requests are routed by. Reading takes no lock; hold it no longer than a request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<RoutingSnapshot> {
        self.published.routing()
    }

    /// Waits until every stored endpoint serves again or has turned out not to.
    pub async fn restored(&self) {
        let mut views = self.views.clone();
        // The owner has gone: nothing more will be restored.
        drop(views.wait_for(|views| views.restoring() == 0).await);
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command + Send,
    ) -> Result<T, EndpointError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => EndpointError::Busy,
                mpsc::error::TrySendError::Closed(_) => EndpointError::Closed,
            })?;
        answer.await.unwrap_or(Err(EndpointError::Closed))
    }
}
