//! A change on its way: staged beside what runs, committed, swapped in; or given up whole.
//!
//! A change covers one endpoint (from this box) or many (from the fleet), and is one step in
//! either case: one commit to the store, one new routing snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgeward_base::names::EndpointName;
use edgeward_wire::ack::Rejection;

use crate::endpoint::config::{EndpointConfig, ServedEntityConfig};
use crate::endpoint::error::{EndpointError, not_stored, reasons};
use crate::endpoint::models::{LoadFailures, Placement, Scorers};
use crate::endpoint::record::{
    AppliedConfig, AppliedDesired, EndpointRecord, ManagedBy, UnappliedChange,
};
use crate::endpoint::routing::{RouteConfigError, RoutedEndpoint};
use crate::endpoint::state::Event;
use crate::endpoint::view::EndpointView;
use crate::store::Change;
use edgeward_base::error::chain;

use super::slot::{Failures, Routed, Slot};
use super::{ChangeId, Owner, Progress, Reply, answer};

/// A change that is being staged. The configurations themselves stand in the endpoints' records.
#[derive(Debug)]
pub(super) struct PendingChange {
    /// The endpoints that get a new configuration.
    pub(super) edits: BTreeSet<EndpointName>,
    /// Where the change comes from.
    pub(super) origin: Origin,
}

/// Where a change comes from, and what that adds to it.
#[derive(Debug)]
pub(super) enum Origin {
    /// This box.
    Local {
        /// Who still waits for an answer.
        reply: Option<Reply<Arc<EndpointView>>>,
    },
    /// The fleet.
    Registry {
        /// The set that will have been applied.
        desired: AppliedDesired,
        /// Endpoints whose configuration is as desired: only their ownership is renewed.
        kept: BTreeSet<EndpointName>,
        /// Endpoints that the set no longer has.
        removals: BTreeSet<EndpointName>,
        /// What else becomes durable with the set.
        beside: Change,
        /// Who waits for the answer.
        reply: Reply<()>,
    },
}

impl Owner {
    /// Marks the endpoints of a change as changing and begins to load what it needs.
    pub(super) fn begin(&mut self, edits: Vec<(EndpointName, EndpointConfig)>, origin: Origin) {
        let id = self.next_change;
        self.next_change += 1;
        let start_time = self.now();
        let mut models: BTreeSet<Placement> = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (name, config) in edits {
            let Some(slot) = self.slots.get_mut(&name) else {
                continue;
            };
            slot.advance(Event::Change);
            slot.change = Some(id);
            models.extend(
                config
                    .served_entities
                    .iter()
                    .map(ServedEntityConfig::placement),
            );
            slot.record.change = Some(UnappliedChange {
                config,
                start_time,
                failures: Failures::new(),
            });
            names.insert(name);
        }
        let staged = self.loaded.stage(&models);
        self.work
            .push(Box::pin(async move { Progress::Staged(id, staged.await) }));
        if matches!(origin, Origin::Local { reply: Some(_) }) {
            let due = tokio::time::sleep(self.means.options.answer_within);
            self.work.push(Box::pin(async move {
                due.await;
                Progress::AnswerDue(id)
            }));
        }
        let change = PendingChange {
            edits: names,
            origin,
        };
        self.changes.insert(id, change);
        self.publish_views();
    }

    /// The models of a change are there, or some are not.
    pub(super) async fn staged(&mut self, id: ChangeId, outcome: Result<Scorers, LoadFailures>) {
        let Some(change) = self.changes.remove(&id) else {
            return;
        };
        let outcome = outcome.and_then(|scorers| {
            self.loaded.adopt(&scorers)?;
            Ok(scorers)
        });
        let outcome = match outcome {
            Ok(scorers) => self.prepare(&change, &scorers).map_err(Cause::Error),
            Err(failures) => Err(Cause::Models(failures)),
        };
        // Nothing has changed for requests until the store has taken it all.
        let committed = match outcome {
            Ok((applied, stored)) => match self.means.store.commit(stored).await {
                Ok(_) => Ok(applied),
                Err(error) => Err(Cause::Error(EndpointError::Store(error))),
            },
            Err(cause) => Err(cause),
        };
        match committed {
            Ok(applied) => self.apply(change, applied),
            Err(cause) => self.fail(change, cause).await,
        }
    }

    /// Swaps a committed change in.
    fn apply(&mut self, change: PendingChange, applied: Vec<Applied>) {
        for (record, routed) in applied {
            self.swap(record, routed);
        }
        let PendingChange { edits, origin } = change;
        match origin {
            Origin::Local { reply } => {
                self.publish_routing();
                self.answer_with_view(edits.first(), reply);
            }
            Origin::Registry {
                desired,
                removals,
                reply,
                ..
            } => {
                for name in &removals {
                    self.remove(name);
                }
                tracing::info!(generation = %desired.generation, "desired endpoints applied");
                self.applied_desired = Some(desired);
                self.publish_routing();
                answer(reply, Ok(()));
            }
        }
    }

    /// What a change comes to: the records as they will be with what requests will be routed to,
    /// and all of it as one change of the store. Endpoints whose configuration stays keep their
    /// routing.
    fn prepare(
        &self,
        change: &PendingChange,
        scorers: &Scorers,
    ) -> Result<(Vec<Applied>, Change), EndpointError> {
        let mut applied = Vec::new();
        for slot in change.edits.iter().filter_map(|name| self.slots.get(name)) {
            applied.extend(slot.applied(&change.origin, scorers, self.now())?);
        }
        let mut stored = Change::new();
        if let Origin::Registry {
            desired,
            kept,
            removals,
            beside,
            ..
        } = &change.origin
        {
            stored = beside.clone();
            for slot in kept.iter().filter_map(|name| self.slots.get(name)) {
                let mut record = slot.record.clone();
                own(&mut record, &change.origin);
                applied.push((record, None));
            }
            for name in removals {
                stored = stored.delete::<EndpointRecord>(name.as_str());
            }
            stored = stored.put(desired)?;
        }
        for (record, _) in &applied {
            stored = stored.put(record)?;
        }
        Ok((applied, stored))
    }

    /// Puts a committed record in place, with its new routing if it has one.
    fn swap(&mut self, record: EndpointRecord, routed: Option<Routed>) {
        let Some(slot) = self.slots.get_mut(&record.name) else {
            return;
        };
        let id = record.id.clone();
        slot.record = record;
        slot.stored = true;
        let Some(routed) = routed else { return };
        slot.change = None;
        slot.load_failures.clear();
        slot.advance(Event::Committed);
        tracing::info!(
            endpoint = %slot.record.name,
            config_version = routed.endpoint.config_version,
            "endpoint configuration applied"
        );
        if let Some(former) = slot.routed.replace(routed) {
            self.drain(id, former);
        }
    }

    /// Ends a change that could not be applied: what ran before runs on, the reasons are shown and
    /// stored, and an endpoint that only the fleet wanted is not there.
    async fn fail(&mut self, change: PendingChange, cause: Cause) {
        let now = self.now();
        let PendingChange { edits, origin } = change;
        let from_fleet = matches!(origin, Origin::Registry { .. });
        // Whoever still waits for the store's refusal is told of it; nothing is left to be shown.
        let untold = matches!(origin, Origin::Local { reply: None });
        let mut failed = BTreeMap::new();
        let mut ended = Vec::new();
        for name in &edits {
            let Some(slot) = self.slots.get_mut(name) else {
                continue;
            };
            let failures = slot.fail_change(&cause, untold, now);
            if failures.is_empty() {
                slot.advance(Event::Withdrawn);
            } else {
                slot.advance(Event::StagingFailed);
                failed.insert(name.clone(), failures);
            }
            let new = slot.record.applied.is_none() && !slot.stored;
            if new && (from_fleet || slot.record.change.is_none()) {
                self.remove(name);
            } else {
                ended.push(name.clone());
            }
        }
        self.store_end(&ended).await;
        self.publish_views();
        let error = match cause {
            Cause::Models(_) => EndpointError::Staging(failed),
            Cause::Error(error) => error,
        };
        tracing::warn!(error = %chain(&error), "endpoint change failed; what ran before runs on");
        if let EndpointError::Staging(failed) = &error {
            // Each endpoint's own events, which say nothing of the others.
            for (endpoint, failures) in failed {
                tracing::warn!(%endpoint, failures = %reasons(failures), "a change of it failed");
            }
        }
        match (origin, error) {
            (Origin::Local { reply }, EndpointError::Staging(_)) => {
                self.answer_with_view(edits.first(), reply);
            }
            (Origin::Local { reply: None }, _) => {}
            (Origin::Local { reply: Some(reply) }, error) => answer(reply, Err(error)),
            (Origin::Registry { reply, .. }, error) => answer(reply, Err(error)),
        }
    }

    /// Whoever asked for a change has waited long enough: makes the change itself last, and
    /// answers that it is in progress.
    pub(super) async fn answer_due(&mut self, id: ChangeId) {
        let Some(change) = self.changes.get_mut(&id) else {
            return;
        };
        let Origin::Local { reply } = &mut change.origin else {
            return;
        };
        let reply = reply.take();
        let names: Vec<EndpointName> = change.edits.iter().cloned().collect();
        match self.commit_slots(&names).await {
            Ok(()) => self.answer_with_view(names.first(), reply),
            Err(error) => {
                self.withdraw(id, "the refusal of the store").await;
                if let Some(reply) = reply {
                    answer(reply, Err(error));
                }
            }
        }
    }

    /// Gives up a change before it was applied; its endpoints stand as they did before it.
    pub(super) async fn withdraw(&mut self, id: ChangeId, by: &str) {
        let Some(change) = self.changes.remove(&id) else {
            return;
        };
        let PendingChange { edits, origin } = change;
        let mut stored = Vec::new();
        for name in &edits {
            let Some(slot) = self.slots.get_mut(name) else {
                continue;
            };
            slot.advance(Event::Withdrawn);
            slot.change = None;
            slot.record.change = None;
            if slot.record.applied.is_none() && !slot.stored {
                self.remove(name);
            } else if slot.stored {
                stored.push(name.clone());
            }
        }
        self.store_end(&stored).await;
        self.publish_views();
        let superseded = EndpointError::Superseded { by: by.to_owned() };
        match origin {
            Origin::Local { reply: Some(reply) } => answer(reply, Err(superseded)),
            Origin::Local { reply: None } => {}
            Origin::Registry { reply, .. } => answer(reply, Err(superseded)),
        }
    }

    /// Stores endpoints as they stand.
    async fn commit_slots(&mut self, names: &[EndpointName]) -> Result<(), EndpointError> {
        let mut change = Change::new();
        for slot in names.iter().filter_map(|name| self.slots.get(name)) {
            change = change.put(&slot.record)?;
        }
        self.commit(change).await?;
        for name in names {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.stored = true;
            }
        }
        Ok(())
    }

    /// Makes a change of the store last.
    pub(super) async fn commit(&mut self, change: Change) -> Result<(), EndpointError> {
        if change.is_empty() {
            return Ok(());
        }
        let committed = self.means.store.commit(change).await;
        committed.map(drop).map_err(EndpointError::Store)
    }

    /// Stores how a change ended without being applied. Nothing that runs depends on it: when the
    /// store refuses, a restart stages that change once more.
    async fn store_end(&mut self, names: &[EndpointName]) {
        if let Err(error) = self.commit_slots(names).await {
            tracing::error!(error = ?error, "the end of an endpoint change was not stored");
        }
    }

    fn answer_with_view(
        &self,
        name: Option<&EndpointName>,
        reply: Option<Reply<Arc<EndpointView>>>,
    ) {
        let view = name.and_then(|name| self.slots.get(name)).map(Slot::view);
        if let (Some(reply), Some(view)) = (reply, view) {
            answer(reply, Ok(Arc::new(view)));
        }
    }
}

/// A record as it will be, with what requests will be routed to if that changes.
type Applied = (EndpointRecord, Option<Routed>);

impl Slot {
    /// This endpoint with its change applied; nothing when it has none any more.
    fn applied(
        &self,
        origin: &Origin,
        scorers: &Scorers,
        now: i64,
    ) -> Result<Option<Applied>, RouteConfigError> {
        let mut record = self.record.clone();
        let Some(UnappliedChange { config, .. }) = record.change.take() else {
            return Ok(None);
        };
        let version = self.next_version();
        let identity = (
            record.name.clone(),
            record.id.clone(),
            record.creator.clone(),
        );
        let (endpoint, released) = RoutedEndpoint::build(identity, version, &config, scorers)?;
        record.last_updated_timestamp = now;
        record.applied = Some(AppliedConfig {
            version,
            applied_timestamp: now,
            config,
        });
        own(&mut record, origin);
        Ok(Some((record, Some(Routed { endpoint, released }))))
    }

    /// Ends this endpoint's part of a failed change and gives the failures that are its own.
    fn fail_change(&mut self, cause: &Cause, untold: bool, now: i64) -> Failures {
        self.change = None;
        let Some(unapplied) = &mut self.record.change else {
            return Failures::new();
        };
        let own: Failures = unapplied
            .config
            .served_entities
            .iter()
            .filter_map(|entity| {
                Some((
                    entity.name.clone(),
                    cause.failure_of(&entity.placement(), untold)?,
                ))
            })
            .collect();
        if own.is_empty() {
            self.record.change = None;
        } else {
            unapplied.failures.clone_from(&own);
            self.record.last_updated_timestamp = now;
        }
        own
    }
}

/// Who an endpoint belongs to once a change is applied.
fn own(record: &mut EndpointRecord, origin: &Origin) {
    match origin {
        Origin::Local { .. } => record.drift = record.managed_by != ManagedBy::Local,
        Origin::Registry { desired, .. } => {
            record.managed_by = ManagedBy::Registry(desired.generation);
            record.drift = false;
        }
    }
}

/// Why a staged change was not applied.
enum Cause {
    /// Some of its models cannot serve.
    Models(LoadFailures),
    /// It could not be made to last.
    Error(EndpointError),
}

impl From<EndpointError> for Cause {
    fn from(error: EndpointError) -> Self {
        Self::Error(error)
    }
}

impl Cause {
    /// What is to be shown of it on a served entity with that model.
    fn failure_of(&self, placement: &Placement, untold: bool) -> Option<Rejection> {
        match self {
            Self::Models(failures) => failures.get(placement).cloned(),
            Self::Error(error) => untold.then(|| Rejection::new(not_stored(), chain(error))),
        }
    }
}
