//! Serving: the way of one invocation.
//!
//! Owns what lies between a dialect and a model: which request is admitted, which served entity
//! answers it, on which thread, how long it may take, and the row that is written about it.
//!
//! ```text
//! dialect -> Exchange: open -> aim -> route -> admit -> invoke -> close -> InferenceSink
//!                               |       |        |        |
//!                             RoutingSnapshot Admission Pace: inline | Compute
//! ```
//!
//! What a device computes is read and written by the processor's threads; one thread of its own has
//! nothing to do but to keep the device at work.
//!
//! Nothing on this way takes a lock that a writer holds or touches the disk. It knows no HTTP: a
//! dialect reads and writes bodies as a [`Call`], turns a [`ServeError`] into its own answer, and tells
//! the [`Exchange`] the status it answered with.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_base::names::{EndpointName, TableName};
use edgeward_base::units::{ByteCount, Percent};
use uuid::Uuid;

use crate::config::{BatchingConfig, EndpointConfig, ServerConfig};
use crate::endpoint::{Endpoints, RoutedEndpoint, RoutedEntity, WorkloadSize};
use crate::gateway::Policies;
use crate::inference_table::Row;
use crate::profile::{Profile, WorkloadSizes};
use crate::tasks::{SpawnThreadError, Tasks};

mod admission;
mod authorise;
mod call;
mod compute;
mod error;
mod exchange;
mod measured;
mod on_device;
mod pace;
mod scale_to_zero;
mod statistics;
mod trace;
mod traffic;
mod work;

pub use admission::{Admission, AdmitError, Permit};
pub use authorise::level_of;
pub use call::{Answered, Call, Noted};
pub use compute::{Batching, Compute, ComputeError, Costs, Lane, Ran, Seat};
pub use error::ServeError;
pub use exchange::{Choice, Exchange};
pub use statistics::{EntityStatistics, Tally};
pub use trace::Randomness;

pub use traffic::{BOUNDS_MS, Durations, EndpointTraffic};

use measured::{ById, Measured};
use traffic::Traffic;

/// Where rows go. Called on the request's thread: must not wait, and cannot fail.
pub trait InferenceSink: Send + Sync + std::fmt::Debug {
    /// Takes one row of a table, or drops and counts it.
    fn offer(&self, table: &TableName, row: Row);
}

/// What invocations may take of this box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingLimits {
    /// Requests in flight at once.
    pub requests: usize,
    /// Bytes of request bodies in flight at once.
    pub bytes: ByteCount,
    /// The longest request body.
    pub body: ByteCount,
    /// From the head of a request to its answer.
    pub request_timeout: Duration,
    /// Compute threads.
    pub threads: usize,
    /// Predictions that may wait for a compute thread, and as many for the device.
    pub queue: usize,
    /// Whether an engine of this box computes on a device: it has a thread of its own.
    pub device: bool,
    /// What each workload size is of the compute threads.
    pub workload_sizes: WorkloadSizes,
    /// How the requests of endpoints may be answered together, where it is not as of all others.
    pub batching: Vec<BatchingConfig>,
    /// A model whose endpoint scales to zero gives its memory back after so long without a request.
    pub scale_to_zero_after: Duration,
}

/// How the requests of an endpoint may be answered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchingRule {
    /// Answered together at most.
    pub(crate) requests: usize,
    /// How long a request may wait for others while threads are idle.
    pub(crate) delay: Duration,
}

impl Default for ServingLimits {
    /// As the configuration's and the profile's defaults: many small requests, as many compute
    /// threads as cores.
    fn default() -> Self {
        let percent = |value| Percent::new(value).unwrap_or(Percent::ALL);
        Self {
            requests: 1024,
            bytes: ByteCount::mib(128),
            body: ByteCount(16_000_000),
            request_timeout: Duration::from_secs(297),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            // More would wait longer than clients do.
            queue: 256,
            device: false,
            workload_sizes: WorkloadSizes {
                small: percent(25),
                medium: percent(50),
                large: Percent::ALL,
            },
            batching: Vec::new(),
            scale_to_zero_after: Duration::from_secs(1800),
        }
    }
}

impl ServingLimits {
    /// The limits that a box was given.
    #[must_use]
    pub fn of(server: &ServerConfig, endpoint: &EndpointConfig, profile: &Profile) -> Self {
        Self {
            bytes: server
                .in_flight_bytes
                .unwrap_or_else(|| profile.in_flight_bytes()),
            body: server.body_limit,
            request_timeout: server.request_timeout,
            device: profile.has_gpu(),
            workload_sizes: profile.workload_sizes,
            batching: endpoint.batching.clone(),
            scale_to_zero_after: profile.scale_to_zero_after,
            ..Self::default()
        }
    }

    /// How the requests of the endpoint of that name may be answered together.
    pub(crate) fn batching(&self, endpoint: &EndpointName) -> BatchingRule {
        let own = self.batching.iter().find(|own| own.endpoint == *endpoint);
        BatchingRule {
            requests: usize::from(own.map_or(BatchingConfig::REQUESTS, |own| own.requests)),
            delay: own.map_or(BatchingConfig::DELAY, |own| own.delay),
        }
    }

    /// The compute threads that a served entity may hold: its share, rounded up.
    #[must_use]
    pub fn threads_for(&self, size: Option<WorkloadSize>) -> usize {
        let share = match size {
            Some(WorkloadSize::Small) => self.workload_sizes.small,
            Some(WorkloadSize::Medium) => self.workload_sizes.medium,
            Some(WorkloadSize::Large) | None => self.workload_sizes.large,
        };
        let threads = self.threads.saturating_mul(usize::from(share.get()));
        threads.div_ceil(100).max(1)
    }
}

/// What serving is built from.
#[derive(Debug)]
pub struct ServingParts {
    /// The endpoints.
    pub endpoints: Endpoints,
    /// Who may ask them, and how often.
    pub policies: Policies,
    /// Where rows go.
    pub sink: Arc<dyn InferenceSink>,
    /// The clocks.
    pub clock: SharedClock,
    /// The limits.
    pub limits: ServingLimits,
    /// Where ids and traffic draws come from.
    pub randomness: Randomness,
    /// Where compute threads run; they end after these tasks are told to shut down.
    pub tasks: Tasks,
}

/// The invocation path. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Serving(Arc<Core>);

#[derive(Debug)]
struct Core {
    endpoints: Endpoints,
    policies: Policies,
    sink: Arc<dyn InferenceSink>,
    clock: SharedClock,
    limits: ServingLimits,
    randomness: Randomness,
    admission: Admission,
    compute: Compute,
    /// The one thread that waits for the device.
    device: Option<Compute>,
    measured: ById<Measured>,
    traffic: ById<Traffic>,
    tasks: Tasks,
}

impl Serving {
    /// Starts the compute threads, and the task that forgets entities that no longer serve.
    ///
    /// # Errors
    /// [`SpawnThreadError`] when the operating system gives no thread.
    pub fn start(parts: ServingParts) -> Result<Self, SpawnThreadError> {
        let limits = parts.limits;
        let start = |name, threads| {
            let clock = Arc::clone(&parts.clock);
            Compute::start(&parts.tasks, clock, name, threads, limits.queue)
        };
        let compute = start("compute", limits.threads)?;
        let device = limits.device.then(|| start("device", 1)).transpose()?;
        let core = Arc::new(Core {
            admission: Admission::new(limits.requests, limits.bytes),
            endpoints: parts.endpoints,
            policies: parts.policies,
            sink: parts.sink,
            clock: parts.clock,
            randomness: parts.randomness,
            compute,
            device,
            limits,
            measured: ById::default(),
            traffic: ById::default(),
            tasks: parts.tasks.clone(),
        });
        let forgetting = Arc::clone(&core);
        let shutdown = parts.tasks.shutdown_token();
        drop(parts.tasks.spawn("serving/measured", async move {
            let mut changes = forgetting.endpoints.watch();
            while let Some(Ok(())) = shutdown.run_until_cancelled(changes.changed()).await {
                forgetting.forget();
            }
        }));
        let watched = scale_to_zero::watch(Arc::clone(&core), parts.tasks.clone());
        drop(parts.tasks.spawn("serving/scale-to-zero", watched));
        Ok(Self(core))
    }

    /// Takes note of an invocation. `traceparent` is the W3C header of that name.
    #[must_use]
    pub fn open(&self, traceparent: Option<&str>) -> Exchange {
        Exchange::open(Arc::clone(&self.0), traceparent)
    }

    /// What a served entity has answered in this process; zeros before its first request.
    #[must_use]
    pub fn statistics(&self, entity: &RoutedEntity) -> EntityStatistics {
        let known = self.0.measured.known(entity.id.as_str());
        known.map_or_else(EntityStatistics::default, |known| known.statistics.read())
    }

    /// What an endpoint was asked, in the last minute and since the process started.
    #[must_use]
    pub fn traffic(&self, endpoint: &RoutedEndpoint) -> EndpointTraffic {
        let core = &self.0;
        let known = core.traffic.known(endpoint.id.as_str());
        let second = core.clock.monotonic().as_secs();
        known.map_or_else(EndpointTraffic::default, |known| known.read(second))
    }

    /// Lets the models of an endpoint go until the next request of them. Whether all went: one that another
    /// endpoint serves too, and that does not scale to zero there, stays.
    pub async fn let_go(&self, endpoint: &RoutedEndpoint) -> bool {
        let core = &self.0;
        scale_to_zero::let_go(&core.tasks, scale_to_zero::own(core, endpoint)).await;
        let mut entities = endpoint.entities().iter();
        entities.all(|entity| entity.scorer.is_at_zero())
    }

    /// Loads the model of an entity, if it was let go.
    ///
    /// # Errors
    /// [`ServeError`] when it cannot be loaded, or when no thread can be waited for.
    pub async fn wake(&self, entity: &RoutedEntity) -> Result<(), ServeError> {
        if !entity.scorer.is_at_zero() {
            return Ok(());
        }
        let core = &self.0;
        let scorer = Arc::clone(&entity.scorer);
        let woken = core
            .compute
            .submit(&core.lane(entity), move || scorer.wake())?;
        Ok(woken.await??)
    }

    /// An id for a request that is no invocation.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        let core = &self.0;
        core.randomness.request_id(core.clock.wall_millis())
    }

    /// The clocks that requests are measured by.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &ServingLimits {
        &self.0.limits
    }

    /// What is in flight now.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// Predictions that wait for a compute thread, or for the device, now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let device = self.0.device.as_ref().map_or(0, Compute::waiting);
        self.0.compute.waiting() + device
    }

    /// Refuses new invocations from now on; those in flight go on.
    pub fn begin_drain(&self) {
        self.0.admission.begin_drain();
    }

    /// Waits until the drain has begun and no invocation is in flight.
    pub async fn drained(&self) {
        self.0.admission.drained().await;
    }
}

impl Core {
    /// The thread that computes the next call of an entity, where that is the device's.
    fn device_of(&self, entity: &RoutedEntity) -> Option<&Compute> {
        let device = self.device.as_ref()?;
        entity.scorer.session().on_device().map(|_| device)
    }

    /// The claim of an entity on the compute threads. One of them is enough to bring a model back: the
    /// others would only wait for it.
    fn lane(&self, entity: &RoutedEntity) -> Lane {
        let share = || self.limits.threads_for(entity.workload_size);
        Lane {
            id: entity.id.to_shared(),
            threads: if entity.scorer.is_at_zero() {
                1
            } else {
                share()
            },
        }
    }

    fn forget(&self) {
        let snapshot = self.endpoints.snapshot();
        let entities = || {
            snapshot
                .endpoints()
                .flat_map(|endpoint| endpoint.entities())
        };
        self.measured
            .retain(|id| entities().any(|entity| entity.id.as_str() == id));
        self.traffic.retain(|id| {
            snapshot
                .endpoints()
                .any(|endpoint| endpoint.id.as_str() == id)
        });
    }
}
