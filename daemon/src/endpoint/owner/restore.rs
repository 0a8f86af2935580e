//! Brings the stored endpoints back after a start.
//!
//! All models load at once beside the owner, and each endpoint serves as soon as its own are
//! there. One whose model does not load is `NOT_READY` with the reason, and the others serve. A
//! change that was acknowledged and not yet applied is staged again; one that had failed stays
//! failed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use edgeward_base::names::EndpointName;
use edgeward_wire::ack::{RejectCode, Rejection};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::endpoint::config::{EndpointConfig, ServedEntityConfig};
use crate::endpoint::error::OpenEndpointsError;
use crate::endpoint::models::{LoadFailures, LoadedModels, Placement, Scorers};
use crate::endpoint::record::{AppliedDesired, EndpointRecord};
use crate::endpoint::routing::{RouteConfigError, RoutedEndpoint};
use crate::endpoint::state::Event;
use crate::endpoint::view::EndpointViews;

use super::change::Origin;
use super::slot::{Failures, Routed, Slot};
use super::{Means, Owner, Progress, Published};

impl Owner {
    /// Reads what is stored and begins to load all of it.
    pub(in crate::endpoint) fn open(
        means: Means,
        published: Arc<Published>,
        views: watch::Sender<Arc<EndpointViews>>,
    ) -> Result<Self, OpenEndpointsError> {
        let records: Vec<EndpointRecord> =
            means.store.list().map_err(OpenEndpointsError::Endpoints)?;
        let applied_desired = means
            .store
            .get(AppliedDesired::KEY)
            .map_err(OpenEndpointsError::Desired)?;
        let loaded = LoadedModels::new(
            Arc::clone(&means.models),
            means.tasks.clone(),
            means.options.memory_ceiling,
        );
        let mut owner = Self {
            means,
            published,
            views,
            slots: BTreeMap::new(),
            draining: HashMap::new(),
            restoring: BTreeSet::new(),
            waiting: VecDeque::new(),
            changes: BTreeMap::new(),
            next_change: 0,
            applied_desired,
            loaded,
            work: FuturesUnordered::new(),
        };
        for record in records {
            owner.restore(record);
        }
        owner.publish_views();
        Ok(owner)
    }

    fn restore(&mut self, record: EndpointRecord) {
        let name = record.name.clone();
        let models = record.applied.as_ref().map(|applied| {
            let entities = &applied.config.served_entities;
            entities.iter().map(ServedEntityConfig::placement).collect()
        });
        self.slots.insert(name.clone(), Slot::new(record, true));
        match models {
            Some(models) => self.restore_applied(name, &models),
            None => self.resume_change(&name),
        }
    }

    fn restore_applied(&mut self, name: EndpointName, models: &BTreeSet<Placement>) {
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.advance(Event::Restore);
        }
        self.restoring.insert(name.clone());
        let staged = self.loaded.stage(models);
        self.work.push(Box::pin(
            async move { Progress::Restored(name, staged.await) },
        ));
    }

    /// The models of a stored endpoint are there, or some are not.
    pub(super) fn restored(&mut self, name: &EndpointName, outcome: Result<Scorers, LoadFailures>) {
        self.restoring.remove(name);
        let outcome = outcome.and_then(|scorers| {
            self.loaded.adopt(&scorers)?;
            Ok(scorers)
        });
        if let Some(slot) = self.slots.get_mut(name) {
            slot.bring_back(outcome);
        }
        self.publish_routing();
        self.resume_change(name);
    }

    /// Stages a change again that was acknowledged before the restart and not applied.
    fn resume_change(&mut self, name: &EndpointName) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        match slot.record.change.take() {
            Some(change) if change.failures.is_empty() => {
                let edit = (name.clone(), change.config);
                self.begin(vec![edit], Origin::Local { reply: None });
            }
            failed => {
                if failed.is_some() && slot.record.applied.is_none() {
                    // A new endpoint whose models had failed: it takes the same two steps again.
                    slot.advance(Event::Change);
                    slot.advance(Event::StagingFailed);
                }
                slot.record.change = failed;
            }
        }
    }
}

impl Slot {
    /// Routes the stored configuration again, or notes why that cannot be.
    fn bring_back(&mut self, outcome: Result<Scorers, LoadFailures>) {
        let Some(applied) = &self.record.applied else {
            return;
        };
        let record = &self.record;
        let identity = (
            record.name.clone(),
            record.id.clone(),
            record.creator.clone(),
        );
        let routed = outcome.and_then(|scorers| {
            RoutedEndpoint::build(identity, applied.version, &applied.config, &scorers)
                .map_err(|error| all_failed(&applied.config, &error))
        });
        match routed {
            Ok((endpoint, released)) => {
                self.routed = Some(Routed { endpoint, released });
                let update_failed = self
                    .record
                    .change
                    .as_ref()
                    .is_some_and(|change| !change.failures.is_empty());
                self.advance(Event::Restored { update_failed });
            }
            Err(failures) => {
                self.load_failures = by_entity(&applied.config, &failures);
                tracing::error!(
                    endpoint = %self.record.name,
                    failures = ?self.load_failures,
                    "endpoint cannot serve"
                );
                self.advance(Event::LoadFailed);
            }
        }
    }
}

/// The failures of models as those of the served entities that have them.
fn by_entity(config: &EndpointConfig, failures: &LoadFailures) -> Failures {
    config
        .served_entities
        .iter()
        .filter_map(|entity| {
            Some((
                entity.name.clone(),
                failures.get(&entity.placement())?.clone(),
            ))
        })
        .collect()
}

/// One reason for every model of a configuration.
fn all_failed(config: &EndpointConfig, error: &RouteConfigError) -> LoadFailures {
    let failure = Rejection::new(RejectCode::Invalid, error.to_string());
    config
        .served_entities
        .iter()
        .map(|entity| (entity.placement(), failure.clone()))
        .collect()
}
