//! Exchange: one invocation, from the moment its head was read to its row.
//!
//! Owns the row of the request and fills it as the request gets on. Whatever happens, the row is
//! handed over exactly once: by [`Exchange::close`] with the status that the client got, or when
//! the exchange is dropped half-way, because the client went away (status 499).
//!
//! ```text
//! open -> [identify] -> aim -> route -> admit -> invoke -> close
//!   \____________________ dropped: 499 ___________________/
//! ```
//!
//! A dialect whose body names the endpoint admits and reads the body before it aims; a request that
//! never says what it is for goes to the table `_unmatched`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use edgeward_base::names::{ModelVersion, TableName};
use edgeward_kernels::engine::Rows;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Core;
use super::admission::Permit;
use super::authorise::{authorise, permit_query};
use super::call::{Answered, Call};
use super::compute::{self, Batching, Compute, ComputeError, Lane};
use super::error::ServeError;
use super::measured::Measured;
use super::on_device::Ready;
use super::traffic::Ended;
use super::work::{Done, Outcome, Seated, Work};
use crate::endpoint::{ConfigUpdate, EndpointView, RoutedEndpoint, RoutedEntity};
use crate::gateway::Caller;
use crate::inference_table::Row;

/// Bodies over this size are parsed and computed on the pool, however fast the model is: reading
/// them takes longer than a request's thread may be held.
const INLINE_BYTES: usize = 64 * 1024;

/// Answers of more numbers are written on the pool, too, where a device computed them.
const INLINE_NUMBERS: usize = 8 * 1024;

/// The lane of what is done before a request is routed. No served entity has this id.
const APART: &str = "apart";

/// The status of a request whose client went away.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// One invocation under way.
#[derive(Debug)]
pub struct Exchange {
    core: Arc<Core>,
    /// Gone once it was handed over.
    row: Option<Row>,
    /// Where the row goes; nowhere when the endpoint does not capture.
    table: Option<TableName>,
    endpoint: Result<Arc<RoutedEndpoint>, Absent>,
    entity: Option<Arc<RoutedEntity>>,
    permit: Option<Permit>,
    caller: Option<Caller>,
    /// Whether the model was asked.
    computed: bool,
}

/// Which of an endpoint's served entities is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// One by the traffic split.
    Split,
    /// The one of that name.
    Named(&'a str),
    /// The one that serves that version of its model.
    Version(&'a str),
}

impl Exchange {
    /// Takes note of a request.
    pub(super) fn open(core: Arc<Core>, traceparent: Option<&str>) -> Self {
        let wall = core.clock.wall_micros();
        let id = core.randomness.request_id(wall.div_euclid(1_000));
        let mut row = Row::new(id, wall);
        row.monotonic_us = core.clock.monotonic_micros();
        row.clock_quality = core.clock.quality();
        row.trace_id = Some(core.randomness.trace_id(traceparent));
        Self {
            row: Some(row),
            table: Some(TableName::unmatched()),
            endpoint: Err(Absent::default()),
            entity: None,
            permit: None,
            caller: None,
            computed: false,
            core,
        }
    }

    /// Takes note that the request is for the endpoint called `endpoint`.
    pub fn aim(&mut self, endpoint: &str) {
        let core = Arc::clone(&self.core);
        let snapshot = core.endpoints.snapshot();
        let Some(routed) = snapshot.endpoint(endpoint) else {
            self.with_row(|row| row.endpoint_name = endpoint.parse().ok());
            let (absent, table) = Absent::of(&core, endpoint);
            (self.endpoint, self.table) = (Err(absent), table);
            return;
        };
        self.with_row(|row| {
            row.endpoint_name = Some(routed.name.clone());
            row.config_version = Some(routed.config_version);
            row.effective_hash = Some(Arc::clone(&routed.effective_hash_text));
        });
        (self.endpoint, self.table) = (Ok(Arc::clone(routed)), routed.capture.clone());
    }

    /// The request's id: the reply header `x-request-id` and the row's `databricks_request_id`.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.row
            .as_ref()
            .map_or_else(Uuid::nil, |row| row.request_id)
    }

    /// Takes note of who asks.
    pub fn identify(&mut self, caller: Caller) {
        self.with_row(|row| row.requester = Some(caller.principal.clone()));
        self.caller = Some(caller);
    }

    /// Decides whether the caller may ask, once more in this minute, and which served entity answers.
    ///
    /// # Errors
    /// [`ServeError`] when the endpoint or the entity does not exist or does not serve, when two entities
    /// serve the version asked for, or when the endpoint's policy does not let the caller through.
    pub fn route(&mut self, choice: Choice<'_>) -> Result<(), ServeError> {
        let caller = self.caller.as_ref();
        let endpoint = match &mut self.endpoint {
            Ok(endpoint) => endpoint,
            Err(absent) => return Err(absent.refuse(&self.core, caller)),
        };
        authorise(&self.core, caller, endpoint)?;
        let entity = match choice {
            Choice::Split => endpoint.pick(self.core.randomness.next()),
            Choice::Named(name) => {
                endpoint
                    .entity(name)
                    .ok_or_else(|| ServeError::UnknownServedEntity {
                        endpoint: endpoint.name.clone(),
                        served_entity: name.chars().take(80).collect(),
                    })?
            }
            Choice::Version(version) => of_version(endpoint, version)?,
        };
        let entity = Arc::clone(entity);
        self.with_row(|row| {
            row.served_entity_id = Some(entity.id.to_shared());
            row.served_entity_name = Some(entity.name.clone());
            row.entity_name = Some(entity.model.name.clone());
            row.entity_version = Some(entity.model.version);
            row.engine = Some(entity.scorer.engine());
        });
        self.entity = Some(entity);
        Ok(())
    }

    /// The served entity that answers, once [`Exchange::route`] has decided.
    #[must_use]
    pub fn served_entity(&self) -> Option<&RoutedEntity> {
        self.entity.as_deref()
    }

    /// Reserves room for a body of `bytes`; what it is longer is reserved with the permit.
    ///
    /// # Errors
    /// [`ServeError::NotAdmitted`] when there is none.
    pub fn admit(&mut self, bytes: u64) -> Result<&mut Permit, ServeError> {
        let permit = self.core.admission.admit(bytes)?;
        Ok(self.permit.insert(permit))
    }

    /// Takes note of the whole body.
    pub fn received(&mut self, body: &Bytes) {
        self.with_row(|row| row.request = Some(body.clone()));
    }

    /// Does what a request of `bytes` needs before it is routed: a long one on the pool, because this
    /// thread has others to serve.
    ///
    /// # Errors
    /// [`ServeError`] when the pool takes no job, or takes too long.
    pub async fn apart<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServeError> {
        let lane = || Lane {
            id: Arc::from(APART),
            threads: 1,
        };
        self.beside(bytes <= INLINE_BYTES, lane, job).await
    }

    /// Does a step here if it is a short one, else on the pool.
    async fn beside<T: Send + 'static>(
        &self,
        short: bool,
        lane: impl FnOnce() -> Lane,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServeError> {
        if short {
            return Ok(compute::guarded(job)?);
        }
        self.within(self.core.compute.submit(&lane(), job)?).await
    }

    /// Computes the answer.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn invoke<C: Call>(
        &mut self,
        body: Bytes,
        call: C,
    ) -> Result<Answered<C>, ServeError> {
        let Some(entity) = self.entity.clone() else {
            return Err(ServeError::UnknownEndpoint(String::new()));
        };
        let measured = self.core.measured.of(entity.id.as_str());
        let asked = self.core.clock.monotonic_micros();
        measured.asked.store(asked, Ordering::Relaxed);
        let device = self.core.device_of(&entity).cloned();
        // A device is waited for: no request's thread does that.
        let quick = device.is_none() && measured.pace.inline() && !entity.scorer.is_at_zero();
        let (inline, batching) = self.place(&entity, &measured, (quick, body.len()));
        let work = Work {
            core: Arc::clone(&self.core),
            asking: self
                .caller
                .clone()
                .zip(self.endpoint.as_ref().ok().cloned()),
            entity,
            measured,
            body,
            permit: self.permit.take(),
            call,
            outcome: Outcome {
                until: asked,
                ..Outcome::default()
            },
        };
        let (work, answer) = if let Some(device) = device {
            Box::pin(self.on_device(work, batching, &device)).await?
        } else if inline {
            compute::guarded(|| work.alone())?
        } else {
            self.on_pool(work, batching).await?
        };
        self.permit = work.permit;
        let Outcome {
            noted, parts, rows, ..
        } = work.outcome;
        // A body that was refused has no rows, and the model was not asked.
        self.computed = rows > 0;
        self.with_row(|row| {
            row.client_request_id = noted.client_request_id;
            row.usage_context = noted.usage_context;
            row.input_tokens = noted.input_tokens;
            if let Some(request) = noted.request {
                row.request = Some(request);
            }
            row.queue_duration_us = parts.queue;
            row.execution_duration_us = parts.infer;
        });
        let call = work.call;
        Ok(answer.map(|body| Answered { body, call })?)
    }

    /// Whether a body of `bytes`, of a `quick` entity, is computed on this thread, and if not, whether
    /// together with others.
    fn place(
        &self,
        entity: &RoutedEntity,
        measured: &Measured,
        (quick, bytes): (bool, usize),
    ) -> (bool, Option<Batching>) {
        if quick {
            return (bytes <= INLINE_BYTES, None);
        }
        let (pace, session) = (&measured.pace, entity.scorer.session());
        // Before the first verdict nobody knows whether a run is worth waiting for.
        let may = pace.is_settled() && session.rows() == Rows::Independent;
        let rule = self.endpoint.as_ref().ok().filter(|_| may);
        let rule = rule.map(|endpoint| self.core.limits.batching(&endpoint.name));
        let batching = rule.filter(|rule| rule.requests > 1).map(|rule| Batching {
            requests: rule.requests,
            delay: rule.delay,
            costs: Arc::clone(&measured.costs),
        });
        (false, batching)
    }

    async fn on_pool<C: Call>(
        &self,
        work: Work<C>,
        batching: Option<Batching>,
    ) -> Result<Done<C>, ServeError> {
        let compute = &self.core.compute;
        let lane = self.core.lane(&work.entity);
        let Some(batching) = batching else {
            let job = move || work.alone();
            return self.within(compute.submit(&lane, job)?).await;
        };
        let (answer, answered) = oneshot::channel();
        let seat = Box::new(Seated { work, answer });
        let answered = compute.seat(&lane, batching, seat, answered)?;
        self.within(answered).await
    }

    /// Has the device's thread compute what is read before and written after.
    async fn on_device<C: Call>(
        &self,
        work: Work<C>,
        batching: Option<Batching>,
        device: &Compute,
    ) -> Result<Done<C>, ServeError> {
        let entity = Arc::clone(&work.entity);
        let alone = || Batching {
            requests: 1,
            delay: Duration::ZERO,
            costs: Arc::clone(&work.measured.costs),
        };
        let batching = batching.unwrap_or_else(alone);
        let short = work.body.len() <= INLINE_BYTES && !entity.scorer.is_at_zero();
        let lane = || self.core.lane(&entity);
        let ready = self.beside(short, lane, || Ready::read(work)).await?;
        let ready = match ready {
            Ok(ready) => ready,
            Err(refused) => return Ok(*refused),
        };
        let (answer, computed) = oneshot::channel();
        let turn = Lane {
            id: entity.id.to_shared(),
            threads: 1,
        };
        let computed = device.seat(&turn, batching, ready.seat(answer), computed)?;
        let computed = self.within(computed).await?;
        let short = computed.numbers() <= INLINE_NUMBERS;
        self.beside(short, lane, || computed.write()).await
    }

    /// Waits for what the pool was given, for as long as the request may take.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, ComputeError>>,
    ) -> Result<T, ServeError> {
        match tokio::time::timeout(self.time_left(), answer).await {
            Ok(work) => Ok(work?),
            Err(_) => Err(ServeError::TimedOut(self.core.limits.request_timeout)),
        }
    }

    /// How much of the time that one request may take is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let arrived = self.row.as_ref().map_or(0, |row| row.monotonic_us);
        let used = self.core.clock.monotonic_micros().saturating_sub(arrived);
        let limit = self.core.limits.request_timeout;
        limit.saturating_sub(Duration::from_micros(used))
    }

    /// Ends the exchange with what the client gets, and hands the row over.
    pub fn close(mut self, status: u16, response: &Bytes) {
        if let Some(mut row) = self.row.take() {
            row.response = Some(response.clone());
            self.hand_over(status, row);
        }
    }

    fn hand_over(&self, status: u16, mut row: Row) {
        self.count(status, &row);
        if let Some(table) = &self.table {
            row.status_code = status;
            self.core.sink.offer(table, row);
        }
    }

    /// Counts the request under its endpoint.
    fn count(&self, status: u16, row: &Row) {
        let Ok(endpoint) = &self.endpoint else { return };
        let now = self.core.clock.monotonic();
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let ended = Ended {
            status,
            latency: micros.saturating_sub(row.monotonic_us),
            computed: self
                .computed
                .then_some((row.execution_duration_us, row.queue_duration_us)),
        };
        let traffic = self.core.traffic.of(endpoint.id.as_str());
        traffic.add(ended, now.as_secs());
    }

    fn with_row(&mut self, fill: impl FnOnce(&mut Row)) {
        if let Some(row) = &mut self.row {
            fill(row);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(row) = self.row.take() {
            self.hand_over(CLIENT_CLOSED_REQUEST, row);
        }
    }
}

/// The entity that serves the version written as `version`.
fn of_version<'e>(
    endpoint: &'e RoutedEndpoint,
    version: &str,
) -> Result<&'e Arc<RoutedEntity>, ServeError> {
    let asked: Option<ModelVersion> = version.parse().ok();
    let serves = |entity: &&Arc<RoutedEntity>| Some(entity.model.version) == asked;
    let mut found = endpoint.entities().iter().filter(serves);
    match (found.next(), found.next()) {
        (Some(entity), None) => Ok(entity),
        (None, _) => Err(ServeError::UnknownVersion {
            endpoint: endpoint.name.clone(),
            version: version.chars().take(80).collect(),
        }),
        (Some(_), Some(_)) => Err(ServeError::AmbiguousVersion {
            endpoint: endpoint.name.clone(),
            version: version.chars().take(80).collect(),
        }),
    }
}

/// Why no endpoint of the name that was asked for is routed.
#[derive(Debug, Default)]
struct Absent {
    error: Option<ServeError>,
    /// The endpoint, if there is one.
    view: Option<Arc<EndpointView>>,
}

impl Absent {
    /// The same of an endpoint, and where the row of the request goes.
    fn of(core: &Core, name: &str) -> (Self, Option<TableName>) {
        let Some(view) = core.endpoints.get(name) else {
            let name = name.chars().take(80).collect();
            let error = Some(ServeError::UnknownEndpoint(name));
            return (Self { error, view: None }, Some(TableName::unmatched()));
        };
        let shown = view
            .config
            .as_ref()
            .or_else(|| Some(&view.pending_config.as_ref()?.config));
        let table = shown
            .and_then(|config| config.auto_capture.as_ref())
            .filter(|capture| capture.enabled)
            .map(|capture| capture.table.clone());
        let error = Some(not_serving(&view));
        let view = Some(view);
        (Self { error, view }, table)
    }

    /// What the caller is told: how an endpoint stands is for those who may ask it.
    fn refuse(&mut self, core: &Core, caller: Option<&Caller>) -> ServeError {
        let permitted = self.view.as_ref().map(|view| {
            let (id, creator) = (view.id.as_str(), &view.creator);
            permit_query(core, caller, &view.name, id, creator)
        });
        match permitted {
            Some(Err(forbidden)) => forbidden,
            _ => self
                .error
                .take()
                .unwrap_or_else(|| ServeError::UnknownEndpoint(String::new())),
        }
    }
}

fn not_serving(view: &EndpointView) -> ServeError {
    match &view.failure {
        Some(reason) if view.state.config_update != ConfigUpdate::InProgress => {
            ServeError::NotReady {
                endpoint: view.name.clone(),
                reason: reason.clone(),
            }
        }
        _ => ServeError::Loading(view.name.clone()),
    }
}
