//! What serving knows of served entities and endpoints from the requests that they answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;

use super::compute::Costs;
use super::pace::Pace;
use super::statistics::Statistics;

/// What was measured of one served entity.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// When it was last asked, microseconds of the clock; 0 before the first look at it.
    pub(super) asked: AtomicU64,
    /// How fast it computes, and so where it may run.
    pub(super) pace: Pace,
    /// What its runs took, by the size of the batch.
    pub(super) costs: Arc<Costs>,
    /// How often and how long it computed.
    pub(super) statistics: Statistics,
}

/// Measurements by ids: read without a lock, added to by copy.
#[derive(Debug)]
pub(super) struct ById<T>(ArcSwap<HashMap<Arc<str>, Arc<T>>>);

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<T: Default> ById<T> {
    /// Those of an id; a new one starts at nothing.
    #[must_use]
    pub(super) fn of(&self, id: &str) -> Arc<T> {
        if let Some(known) = self.known(id) {
            return known;
        }
        let key: Arc<str> = id.into();
        let fresh = Arc::new(T::default());
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(Arc::clone(&key))
                .or_insert_with(|| Arc::clone(&fresh));
            all
        });
        self.known(id).unwrap_or(fresh)
    }

    /// Those of an id that was measured before.
    #[must_use]
    pub(super) fn known(&self, id: &str) -> Option<Arc<T>> {
        self.0.load().get(id).map(Arc::clone)
    }

    /// Forgets the ids that `serves` no longer knows.
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
        let all = ById::<Measured>::default();
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
