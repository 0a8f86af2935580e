//! The fleet's whole set of endpoints, applied in one step or not at all.

use std::collections::{BTreeMap, BTreeSet};

use edgeward_base::digest::{Digest, DigestHasher};
use edgeward_base::names::EndpointName;
use edgeward_wire::ordering::Generation;

use crate::endpoint::config::{EndpointConfig, EndpointConfigInput};
use crate::endpoint::error::EndpointError;
use crate::endpoint::record::{AppliedDesired, Creator, ManagedBy};
use crate::store::Change;

use super::change::Origin;
use super::slot::Slot;
use super::{ChangeId, Owner, Reply, answer};

impl Owner {
    /// Begins to make the registry's endpoints be exactly `inputs`.
    ///
    /// A set that breaks a rule is refused and changes nothing, not even an older set that is still
    /// being staged. A valid one ends the older one, and local changes of endpoints it names.
    pub(super) async fn apply_desired(
        &mut self,
        inputs: &BTreeMap<EndpointName, EndpointConfigInput>,
        generation: Generation,
        beside: Change,
        reply: Reply<()>,
    ) {
        let configs = match self.checked_set(inputs) {
            Ok(configs) => configs,
            Err(error) => return answer(reply, Err(error)),
        };
        let desired = AppliedDesired {
            generation,
            digest: digest_of(&configs),
        };
        if self.stands(&desired) {
            return answer(reply, self.commit(beside).await);
        }
        self.make_way(&configs, generation).await;

        let removals = self.no_longer_desired(&configs);
        let (kept, edits): (BTreeMap<_, _>, BTreeMap<_, _>) = configs
            .into_iter()
            .partition(|(name, config)| self.runs_already(name, config));
        for name in edits.keys() {
            if !self.slots.contains_key(name) {
                let managed_by = ManagedBy::Registry(generation);
                let record = self.new_record(name, Creator::Registry, managed_by);
                self.slots.insert(name.clone(), Slot::new(record, false));
            }
        }
        let origin = Origin::Registry {
            desired,
            kept: kept.into_keys().collect(),
            removals,
            beside,
            reply,
        };
        self.begin(edits.into_iter().collect(), origin);
    }

    fn checked_set(
        &self,
        inputs: &BTreeMap<EndpointName, EndpointConfigInput>,
    ) -> Result<BTreeMap<EndpointName, EndpointConfig>, EndpointError> {
        inputs
            .iter()
            .map(|(name, input)| Ok((name.clone(), self.checked(name, input, None)?)))
            .collect()
    }

    /// Whether exactly this set was applied last and all of it serves: after a restart, or when a
    /// document is delivered twice. What was edited on this box since then stays as it is.
    fn stands(&self, desired: &AppliedDesired) -> bool {
        let serves =
            |slot: &Slot| slot.state.serves() || slot.record.managed_by == ManagedBy::Local;
        self.applied_desired.as_ref() == Some(desired)
            && self.staging_desired().is_none()
            && self.slots.values().all(serves)
    }

    /// The older set that is still being staged.
    fn staging_desired(&self) -> Option<ChangeId> {
        self.changes
            .iter()
            .find(|(_, change)| matches!(change.origin, Origin::Registry { .. }))
            .map(|(id, _)| *id)
    }

    /// Ends an older set, and local changes of the endpoints that this one names.
    async fn make_way(
        &mut self,
        configs: &BTreeMap<EndpointName, EndpointConfig>,
        generation: Generation,
    ) {
        let local = configs
            .keys()
            .filter_map(|name| self.slots.get(name)?.change);
        let in_the_way: BTreeSet<ChangeId> = local.chain(self.staging_desired()).collect();
        for id in in_the_way {
            self.withdraw(id, &format!("desired generation {generation}"))
                .await;
        }
    }

    fn runs_already(&self, name: &EndpointName, config: &EndpointConfig) -> bool {
        self.slots.get(name).is_some_and(|slot| {
            slot.state.serves()
                && slot.record.change.is_none()
                && slot
                    .record
                    .applied
                    .as_ref()
                    .is_some_and(|applied| applied.config == *config)
        })
    }

    fn no_longer_desired(
        &self,
        configs: &BTreeMap<EndpointName, EndpointConfig>,
    ) -> BTreeSet<EndpointName> {
        self.slots
            .iter()
            .filter(|(name, slot)| {
                slot.record.managed_by != ManagedBy::Local && !configs.contains_key(*name)
            })
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Digest over a whole set: names and effective hashes, in the order of the names.
fn digest_of(configs: &BTreeMap<EndpointName, EndpointConfig>) -> Digest {
    let mut hasher = DigestHasher::new();
    for (name, config) in configs {
        hasher.update(format!("{name} {}\n", config.effective_hash()).as_bytes());
    }
    hasher.finish()
}
