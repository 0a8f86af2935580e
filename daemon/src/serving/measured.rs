//! What serving knows of each served entity from the requests that it answered.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::pace::Pace;
use super::statistics::Statistics;

/// What was measured of one served entity.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// How fast it computes, and so where it may run.
    pub(super) pace: Pace,
    /// How often and how long it computed.
    pub(super) statistics: Statistics,
}

/// The measurements of all served entities by their ids: read without a lock, added to by copy.
#[derive(Debug, Default)]
pub(super) struct MeasuredEntities(ArcSwap<HashMap<Arc<str>, Arc<Measured>>>);

impl MeasuredEntities {
    /// Those of one served entity; a new one starts on the pool.
    #[must_use]
    pub(super) fn of(&self, entity_id: &str) -> Arc<Measured> {
        if let Some(known) = self.known(entity_id) {
            return known;
        }
        let id: Arc<str> = entity_id.into();
        let fresh = Arc::new(Measured::default());
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(Arc::clone(&id))
                .or_insert_with(|| Arc::clone(&fresh));
            all
        });
        self.known(entity_id).unwrap_or(fresh)
    }

    /// Those of one served entity, if it ever answered.
    #[must_use]
    pub(super) fn known(&self, entity_id: &str) -> Option<Arc<Measured>> {
        self.0.load().get(entity_id).map(Arc::clone)
    }

    /// Forgets the entities that `serves` no longer knows.
    pub(super) fn retain(&self, serves: impl Fn(&str) -> bool) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.retain(|id, _| serves(id));
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::pace::FIRST;

    #[test]
    fn an_entity_keeps_its_pace_until_it_is_forgotten() {
        let all = MeasuredEntities::default();
        for id in ["a", "b"] {
            (0..FIRST).for_each(|_| all.of(id).pace.record(1));
        }
        assert!(all.of("a").pace.inline());
        all.retain(|id| id == "b");
        assert!(all.known("a").is_none());
        assert!(!all.of("a").pace.inline());
        assert!(all.of("b").pace.inline());
    }
}
