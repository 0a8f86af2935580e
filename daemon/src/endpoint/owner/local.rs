//! Create, update and delete, asked for on this box.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgeward_base::names::{EndpointName, Principal};

use crate::config::LocalEdits;
use crate::endpoint::NewEndpoint;
use crate::endpoint::about::About;
use crate::endpoint::config::{
    AutoCapture, EndpointConfig, EndpointConfigInput, ServedEntityConfig, ValidateConfigError,
    WorkloadType,
};
use crate::endpoint::error::EndpointError;
use crate::endpoint::record::{Creator, EndpointId, EndpointRecord, ManagedBy};
use crate::endpoint::view::EndpointView;
use crate::model::Compute;
use crate::store::Change;

use super::change::Origin;
use super::slot::Slot;
use super::{Owner, Reply, answer};

impl Owner {
    /// Begins to make a new endpoint.
    pub(super) fn create(&mut self, new: NewEndpoint, reply: Reply<Arc<EndpointView>>) {
        let name = new.name;
        if self.slots.contains_key(&name) {
            return answer(reply, Err(EndpointError::AlreadyExists(name)));
        }
        let config = match self.checked(&name, &new.config, None) {
            Ok(config) => config,
            Err(error) => return answer(reply, Err(error)),
        };
        let mut record = self.new_record(&name, new.creator, ManagedBy::Local);
        (record.id, record.about) = (new.id, new.about);
        self.slots.insert(name.clone(), Slot::new(record, false));
        self.begin(vec![(name, config)], Origin::Local { reply: Some(reply) });
    }

    /// Begins to replace an endpoint's configuration.
    pub(super) fn update_config(
        &mut self,
        name: EndpointName,
        input: &EndpointConfigInput,
        author: &Principal,
        reply: Reply<Arc<EndpointView>>,
    ) {
        match self.checked_update(&name, input) {
            Ok(config) => {
                tracing::info!(endpoint = %name, %author, "endpoint configuration asked for");
                self.begin(vec![(name, config)], Origin::Local { reply: Some(reply) });
            }
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn checked_update(
        &self,
        name: &EndpointName,
        input: &EndpointConfigInput,
    ) -> Result<EndpointConfig, EndpointError> {
        let slot = self.editable(name)?;
        if slot.change.is_some() {
            return Err(EndpointError::UpdateInProgress(name.clone()));
        }
        let previous = slot
            .record
            .applied
            .as_ref()
            .and_then(|applied| applied.config.auto_capture.as_ref());
        self.checked(name, input, previous)
    }

    /// Changes what is said of an endpoint.
    pub(super) async fn retag(
        &mut self,
        name: &EndpointName,
        add: &BTreeMap<String, Option<String>>,
        delete: &[String],
    ) -> Result<Arc<EndpointView>, EndpointError> {
        let slot = self.editable(name)?;
        if slot.change.is_some() {
            // The record has a change that nobody was promised yet.
            return Err(EndpointError::UpdateInProgress(name.clone()));
        }
        let mut record = slot.record.clone();
        record.about = record.about.retagged(add, delete)?;
        record.last_updated_timestamp = self.now();
        self.commit(Change::new().put(&record)?).await?;
        let slot = self.slots.get_mut(name);
        let slot = slot.ok_or_else(|| EndpointError::NotFound(name.clone()))?;
        slot.record = record;
        let view = Arc::new(slot.view());
        self.publish_views();
        Ok(view)
    }

    /// Deletes an endpoint; a change of it that is being staged is given up, unless it is the
    /// fleet's.
    pub(super) async fn delete(&mut self, name: &EndpointName) -> Result<(), EndpointError> {
        let slot = self.editable(name)?;
        if let Some(id) = slot.change {
            let from_fleet = self
                .changes
                .get(&id)
                .is_some_and(|change| matches!(change.origin, Origin::Registry { .. }));
            if from_fleet {
                return Err(EndpointError::UpdateInProgress(name.clone()));
            }
            self.withdraw(id, "its deletion").await;
        }
        let change = Change::new().delete::<EndpointRecord>(name.as_str());
        self.means
            .store
            .commit(change)
            .await
            .map_err(EndpointError::Store)?;
        self.remove(name);
        self.publish_routing();
        tracing::info!(endpoint = %name, "endpoint deleted");
        Ok(())
    }

    /// The endpoint, if somebody on this box may change it.
    fn editable(&self, name: &EndpointName) -> Result<&Slot, EndpointError> {
        let slot = self
            .slots
            .get(name)
            .ok_or_else(|| EndpointError::NotFound(name.clone()))?;
        match (slot.record.managed_by, self.means.options.local_edits) {
            (ManagedBy::Registry(generation), LocalEdits::Refuse) => {
                Err(EndpointError::ManagedByRegistry {
                    endpoint: name.clone(),
                    generation,
                })
            }
            (ManagedBy::Local, _) | (_, LocalEdits::Allow) => Ok(slot),
        }
    }

    /// Refuses an entity that asks for a graphics card where no engine has one.
    fn has_compute(
        &self,
        name: &EndpointName,
        (index, entity): (usize, &ServedEntityConfig),
    ) -> Result<(), EndpointError> {
        let asked = entity.capacity.workload_type;
        let is_there = asked.is_none_or(|asked| {
            asked.compute() != Compute::Device || self.means.models.has_device()
        });
        if is_there {
            return Ok(());
        }
        Err(EndpointError::Invalid {
            endpoint: name.clone(),
            reason: ValidateConfigError::value(
                format!("served_entities[{index}].workload_type"),
                format!("{:?}", asked.map_or("", WorkloadType::as_str)),
                "this box has no GPU engine; use CPU, CPU_MEDIUM or CPU_LARGE",
            ),
        })
    }

    /// Validates a configuration, and that the catalogue has every version that it names.
    pub(super) fn checked(
        &self,
        name: &EndpointName,
        input: &EndpointConfigInput,
        previous: Option<&AutoCapture>,
    ) -> Result<EndpointConfig, EndpointError> {
        let config = input
            .validate(name, previous)
            .map_err(|reason| EndpointError::Invalid {
                endpoint: name.clone(),
                reason,
            })?;
        let entities = config.served_entities.iter().zip(&input.served_entities);
        for (index, (entity, asked)) in entities.enumerate() {
            self.has_compute(name, (index, entity))?;
            let entry = self
                .means
                .models
                .find(&entity.model)
                .map_err(EndpointError::Catalogue)?
                .ok_or_else(|| EndpointError::MissingVersion {
                    endpoint: name.clone(),
                    entity: entity.name.clone(),
                    model: entity.model.clone(),
                })?;
            if let Some(wanted) = asked.manifest.filter(|wanted| *wanted != entry.manifest) {
                return Err(EndpointError::OtherManifest {
                    endpoint: name.clone(),
                    model: entity.model.clone(),
                    found: entry.manifest,
                    wanted,
                });
            }
        }
        Ok(config)
    }

    /// The record of an endpoint that does not exist yet.
    pub(super) fn new_record(
        &self,
        name: &EndpointName,
        creator: Creator,
        managed_by: ManagedBy,
    ) -> EndpointRecord {
        let now = self.now();
        EndpointRecord {
            name: name.clone(),
            id: EndpointId::random(),
            creator,
            creation_timestamp: now,
            last_updated_timestamp: now,
            managed_by,
            drift: false,
            applied: None,
            change: None,
            about: About::default(),
        }
    }
}
