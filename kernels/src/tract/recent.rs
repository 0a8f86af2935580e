//! What was built lately and may be needed again, bounded in number and in bytes.
//!
//! Readers see an immutable list and never wait; what is missing is built under a lock that only
//! those who need something new take. When there are too many, or they hold too much, what was used
//! least recently gives way; who runs it meanwhile holds it until done. What was built last stays,
//! however large.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// A bounded list of values by key.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    ready: ArcSwap<Vec<Arc<Entry<K, V>>>>,
    building: Mutex<()>,
    /// Counts uses, to tell which entry was used last.
    clock: AtomicU64,
    bounds: Bounds,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

/// A value and when it was used last.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    bytes: u64,
    used: AtomicU64,
}

impl<K: Debug, V> Recent<K, V> {
    /// Keeps at most this much.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            ready: ArcSwap::default(),
            building: Mutex::new(()),
            clock: AtomicU64::new(0),
            bounds,
        }
    }

    /// The value of `key`, built if there is none, together with how many bytes it holds.
    pub(crate) fn get<Q, E>(
        &self,
        key: &Q,
        build: impl FnOnce() -> Result<(V, u64), E>,
    ) -> Result<Arc<Entry<K, V>>, E>
    where
        Q: ToOwned<Owned = K> + PartialEq + ?Sized,
        K: Borrow<Q>,
    {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.find(key) {
            entry.used.store(now, Ordering::Relaxed);
            return Ok(entry);
        }
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.find(key) {
            return Ok(entry);
        }
        let (value, bytes) = build()?;
        let entry = Arc::new(Entry {
            key: key.to_owned(),
            value,
            bytes,
            used: AtomicU64::new(now),
        });
        let mut entries = Vec::clone(&self.ready.load());
        while self.are_too_many(&entries, bytes) {
            let oldest = entries
                .iter()
                .enumerate()
                .min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed));
            if let Some((position, _)) = oldest {
                entries.remove(position);
            }
        }
        entries.push(Arc::clone(&entry));
        self.ready.store(Arc::new(entries));
        drop(building);
        Ok(entry)
    }

    /// Keeps none of what is ready; who runs one holds it until done.
    #[cfg(feature = "wgpu")]
    pub(crate) fn clear(&self) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        self.ready.store(Arc::default());
    }

    /// How many bytes all hold that are ready.
    pub(crate) fn bytes(&self) -> u64 {
        self.ready.load().iter().map(|entry| entry.bytes).sum()
    }

    /// Whether one of these has to give way to another of so many bytes.
    fn are_too_many(&self, entries: &[Arc<Entry<K, V>>], bytes: u64) -> bool {
        let held: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let full = entries.len() >= self.bounds.entries;
        !entries.is_empty() && (full || held.saturating_add(bytes) > self.bounds.bytes)
    }

    /// What is ready, in the order in which it was built.
    pub(crate) fn entries(&self) -> Arc<Vec<Arc<Entry<K, V>>>> {
        self.ready.load_full()
    }

    fn find<Q>(&self, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        Q: PartialEq + ?Sized,
        K: Borrow<Q>,
    {
        self.ready
            .load()
            .iter()
            .find(|entry| entry.key.borrow() == key)
            .cloned()
    }
}

#[cfg(test)]
mod tests;
