//! Exchange: one invocation, from the moment its head was read to its row.
//!
//! Owns the row of the request and fills it as the request gets on. Whatever happens, the row is
//! handed over exactly once: by [`Exchange::close`] with the status that the client got, or when
//! the exchange is dropped half-way, because the client went away (status 499).
//!
//! ```text
//! open -> [identify] -> route -> admit -> invoke -> close
//!   \________________ dropped: 499 ________________/
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgeward_base::names::{Principal, TableName};
use uuid::Uuid;

use super::admission::Permit;
use super::compute::{self, Lane};
use super::error::ServeError;
use super::{Core, Invocation};
use crate::endpoint::{ConfigUpdate, EndpointView, RoutedEndpoint, RoutedEntity};
use crate::inference_table::Row;
use crate::model::{ScoreError, Scorer};

/// Bodies over this size are parsed and computed on the pool, however fast the model is: reading
/// them takes longer than a request's thread may be held.
const INLINE_BYTES: usize = 64 * 1024;

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
    endpoint: Result<Arc<RoutedEndpoint>, Option<ServeError>>,
    entity: Option<Arc<RoutedEntity>>,
    permit: Option<Permit>,
}

impl Exchange {
    /// Takes note of a request for the endpoint called `endpoint`.
    pub(super) fn open(core: Arc<Core>, endpoint: &str, traceparent: Option<&str>) -> Self {
        let wall = core.clock.wall_micros();
        let id = core.randomness.request_id(wall.div_euclid(1_000));
        let mut row = Row::new(id, wall);
        row.monotonic_us = core.clock.monotonic_micros();
        row.clock_quality = core.clock.quality();
        row.trace_id = Some(core.randomness.trace_id(traceparent));
        let snapshot = core.endpoints.snapshot();
        let (endpoint, table) = match snapshot.endpoint(endpoint) {
            Some(routed) => {
                row.endpoint_name = Some(routed.name.clone());
                row.config_version = Some(routed.config_version);
                row.effective_hash = Some(Arc::clone(&routed.effective_hash_text));
                (Ok(Arc::clone(routed)), routed.capture.clone())
            }
            None => {
                row.endpoint_name = endpoint.parse().ok();
                let (error, table) = absent(&core, endpoint);
                (Err(Some(error)), table)
            }
        };
        Self {
            row: Some(row),
            table,
            endpoint,
            entity: None,
            permit: None,
            core,
        }
    }

    /// The request's id: the reply header `x-request-id` and the row's `databricks_request_id`.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.row
            .as_ref()
            .map_or_else(Uuid::nil, |row| row.request_id)
    }

    /// Takes note of who asks.
    pub fn identify(&mut self, principal: Principal) {
        self.with_row(|row| row.requester = Some(principal));
    }

    /// Decides which served entity answers: the one asked for, or one by the traffic split.
    ///
    /// # Errors
    /// [`ServeError`] when the endpoint or the entity does not exist or does not serve.
    pub fn route(&mut self, served_entity: Option<&str>) -> Result<(), ServeError> {
        let endpoint = match &mut self.endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let error = error.take();
                return Err(error.unwrap_or_else(|| ServeError::UnknownEndpoint(String::new())));
            }
        };
        let entity = match served_entity {
            None => endpoint.pick(self.core.randomness.next()),
            Some(name) => endpoint
                .entity(name)
                .ok_or_else(|| ServeError::UnknownServedEntity {
                    endpoint: endpoint.name.clone(),
                    served_entity: name.chars().take(80).collect(),
                })?,
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

    /// Computes the answer: the whole reply body.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn invoke(&mut self, invocation: Invocation) -> Result<Bytes, ServeError> {
        let Some(entity) = self.entity.clone() else {
            return Err(ServeError::UnknownEndpoint(String::new()));
        };
        self.with_row(|row| row.request = Some(invocation.body.clone()));
        let asked = self.core.clock.monotonic_micros();
        let pace = self.core.paces.of(entity.id.as_str());
        let inline = pace.inline() && invocation.body.len() <= INLINE_BYTES;
        let core = Arc::clone(&self.core);
        let scorer = Arc::clone(&entity.scorer);
        let job = move || {
            let started = core.clock.monotonic_micros();
            let mut work = Work::of(&core, &scorer, &invocation);
            work.queue_us = started.saturating_sub(asked);
            pace.record(core.clock.monotonic_micros().saturating_sub(started));
            work
        };
        let work = if inline {
            compute::guarded(job)?
        } else {
            self.on_pool(&entity, job).await?
        };
        self.with_row(|row| {
            row.client_request_id = work.client_request_id;
            row.usage_context = work.usage_context;
            row.queue_duration_us = work.queue_us;
            row.execution_duration_us = work.execution_us;
        });
        Ok(work.answer?)
    }

    async fn on_pool(
        &self,
        entity: &RoutedEntity,
        job: impl FnOnce() -> Work + Send + 'static,
    ) -> Result<Work, ServeError> {
        let lane = Lane {
            id: entity.id.to_shared(),
            threads: self.core.limits.threads_for(entity.workload_size),
        };
        let answer = self.core.compute.submit(&lane, job)?;
        let left = self.time_left();
        match tokio::time::timeout(left, answer).await {
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
        if let Some(table) = &self.table {
            row.status_code = status;
            self.core.sink.offer(table, row);
        }
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

/// What a compute thread made of an invocation.
#[derive(Debug)]
struct Work {
    client_request_id: Option<String>,
    usage_context: Vec<(String, String)>,
    queue_us: u64,
    execution_us: u64,
    answer: Result<Bytes, ScoreError>,
}

impl Work {
    fn of(core: &Core, scorer: &Scorer, invocation: &Invocation) -> Self {
        let mut work = Self {
            client_request_id: None,
            usage_context: Vec::new(),
            queue_us: 0,
            execution_us: 0,
            answer: Ok(Bytes::new()),
        };
        work.answer = work.compute(core, scorer, invocation);
        work
    }

    fn compute(
        &mut self,
        core: &Core,
        scorer: &Scorer,
        invocation: &Invocation,
    ) -> Result<Bytes, ScoreError> {
        let request = (invocation.decode)(&invocation.body)?;
        self.client_request_id = request.client_request_id;
        self.usage_context = request.usage_context.into_iter().collect();
        let inputs = scorer.prepare(&request.input)?;
        let started = core.clock.monotonic_micros();
        let outputs = scorer.run(&inputs);
        self.execution_us = core.clock.monotonic_micros().saturating_sub(started);
        Ok(Bytes::from(scorer.render(&outputs?)?.into_body()))
    }
}

/// Why no endpoint of that name is routed, and where the row of the request goes.
fn absent(core: &Core, name: &str) -> (ServeError, Option<TableName>) {
    let Some(view) = core.endpoints.get(name) else {
        let name = name.chars().take(80).collect();
        return (
            ServeError::UnknownEndpoint(name),
            Some(TableName::unmatched()),
        );
    };
    let shown = view
        .config
        .as_ref()
        .or_else(|| Some(&view.pending_config.as_ref()?.config));
    let table = shown
        .and_then(|config| config.auto_capture.as_ref())
        .filter(|capture| capture.enabled)
        .map(|capture| capture.table.clone());
    (not_serving(&view), table)
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
