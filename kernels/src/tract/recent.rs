//! What was built lately and may be needed again, bounded in number.
//!
//! Readers see an immutable list and never wait; what is missing is built under a lock that only
//! those who need something new take. When the list is full, what was used least recently gives way;
//! who runs it meanwhile holds it until done.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// A bounded list of values by key.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    ready: ArcSwap<Vec<Arc<Entry<K, V>>>>,
    building: Mutex<()>,
    /// Counts uses, to tell which entry was used last.
    clock: AtomicU64,
    most: usize,
}

/// A value and when it was used last.
#[derive(Debug)]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    used: AtomicU64,
}

impl<K: Debug, V> Recent<K, V> {
    /// Keeps at most this many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            ready: ArcSwap::default(),
            building: Mutex::new(()),
            clock: AtomicU64::new(0),
            most,
        }
    }

    /// The value of `key`, built if there is none.
    pub(super) fn get<Q, E>(
        &self,
        key: &Q,
        build: impl FnOnce() -> Result<V, E>,
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
        let entry = Arc::new(Entry {
            key: key.to_owned(),
            value: build()?,
            used: AtomicU64::new(now),
        });
        let mut entries = Vec::clone(&self.ready.load());
        if entries.len() >= self.most {
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

    /// What is ready, in the order in which it was built.
    pub(super) fn entries(&self) -> Arc<Vec<Arc<Entry<K, V>>>> {
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
