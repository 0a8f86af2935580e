//! Pace: how fast each served entity computes, and so where it may run.
//!
//! A session whose p99 is under [`INLINE_MICROS`] costs less than handing it to another thread, so
//! it runs on the request's own thread (design decision D15). The verdict is the share of slow runs
//! in the last complete window of [`WINDOW`] runs, and one after the first [`FIRST`] runs, so that a
//! fast model does not stay on the pool for long. Runs on both places are measured, therefore a
//! model that slows down leaves the request threads after one window.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

#[cfg(test)]
mod tests;

/// A run that takes longer than this is slow, in microseconds.
pub(super) const INLINE_MICROS: u64 = 200;

/// Runs per window: one slow run in a window is one per cent of it, more is too many.
pub(super) const WINDOW: u32 = 100;

/// Runs after which the first verdict falls; all of them must have been fast.
pub(super) const FIRST: u32 = 10;

/// The speed of one served entity. Lock-free; counts that race are off by one run, which is
/// nothing to a verdict over a hundred.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Runs of the current window in the upper half, slow ones among them in the lower.
    window: AtomicU64,
    inline: AtomicBool,
}

impl Pace {
    /// Whether the next run may take the request's own thread.
    #[must_use]
    pub(super) fn inline(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
    }

    /// Counts one run.
    pub(super) fn record(&self, micros: u64) {
        let slow = u64::from(micros > INLINE_MICROS);
        let packed = self
            .window
            .fetch_add((1 << 32) | slow, Ordering::Relaxed)
            .wrapping_add((1 << 32) | slow);
        let (runs, slow) = (packed >> 32, packed & u64::from(u32::MAX));
        if runs == u64::from(FIRST) && slow == 0 {
            self.inline.store(true, Ordering::Relaxed);
        }
        if runs >= u64::from(WINDOW) {
            self.window.store(0, Ordering::Relaxed);
            self.inline.store(slow <= 1, Ordering::Relaxed);
        }
    }
}

/// The paces of all served entities by their ids: read without a lock, added to by copy.
#[derive(Debug, Default)]
pub(super) struct Paces(ArcSwap<HashMap<Arc<str>, Arc<Pace>>>);

impl Paces {
    /// The pace of one served entity; a new one starts on the pool.
    #[must_use]
    pub(super) fn of(&self, entity_id: &str) -> Arc<Pace> {
        if let Some(pace) = self.0.load().get(entity_id) {
            return Arc::clone(pace);
        }
        let id: Arc<str> = entity_id.into();
        let fresh = Arc::new(Pace::default());
        self.0.rcu(|paces| {
            let mut paces = HashMap::clone(paces);
            paces
                .entry(Arc::clone(&id))
                .or_insert_with(|| Arc::clone(&fresh));
            paces
        });
        self.0.load().get(entity_id).map_or(fresh, Arc::clone)
    }

    /// Forgets the entities that `serves` no longer knows.
    pub(super) fn retain(&self, serves: impl Fn(&str) -> bool) {
        self.0.rcu(|paces| {
            let mut paces = HashMap::clone(paces);
            paces.retain(|id, _| serves(id));
            paces
        });
    }
}
