//! Whose weights are on the device: where they do not all fit, the model that was asked longest ago
//! gives way, and brings its own back with its next call.
//!
//! Called by whoever has the device's turn, so nobody computes with what goes. Must never take the
//! weights of the model whose turn it is.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use edgeward_base::units::ByteCount;
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::bail;

/// A model whose weights can leave the device.
pub(super) trait Tenant: Debug + Send + Sync {
    /// How many bytes they take there now.
    fn bytes(&self) -> u64;

    /// Lets them go, and all that was planned over them.
    fn leave(&self);
}

/// The models of a device.
#[derive(Debug)]
pub(super) struct Residency {
    /// What the weights of all of them may take.
    most: ByteCount,
    /// The one that was asked longest ago first; the one whose turn it is last.
    tenants: Mutex<Vec<Weak<dyn Tenant>>>,
}

impl Residency {
    /// Weights of at most so many bytes.
    pub(super) fn new(most: ByteCount) -> Self {
        let tenants = Mutex::default();
        Self { most, tenants }
    }

    /// It is this one's turn.
    pub(super) fn ask(&self, tenant: &Arc<dyn Tenant>) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Arc::downgrade(tenant);
        tenants.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&own));
        tenants.push(own);
    }

    /// Makes room for `bytes` more of the model whose turn it is; whether another one gave way.
    pub(super) fn make_room(&self, bytes: u64) -> TractResult<bool> {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let tenants: Vec<Arc<dyn Tenant>> = tenants.iter().filter_map(Weak::upgrade).collect();
        let Some((own, others)) = tenants.split_last() else {
            return Ok(false);
        };
        let needed = own.bytes().saturating_add(bytes);
        if needed > self.most.0 {
            let most = self.most.0;
            bail!(
                "its weights take {needed} bytes, more than the {most} that all models may have there"
            );
        }
        let mut held: u64 = others.iter().map(|other| other.bytes()).sum();
        let mut left = false;
        for other in others {
            if needed.saturating_add(held) <= self.most.0 {
                break;
            }
            let given = other.bytes();
            if given > 0 {
                other.leave();
                held -= given;
                left = true;
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Held(AtomicU64);

    impl Tenant for Held {
        fn bytes(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn leave(&self) {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn tenants<const COUNT: usize>(held: [u64; COUNT]) -> [Arc<dyn Tenant>; COUNT] {
        held.map(|bytes| Arc::new(Held(AtomicU64::new(bytes))) as Arc<dyn Tenant>)
    }

    fn bytes(tenants: &[Arc<dyn Tenant>]) -> Vec<u64> {
        tenants.iter().map(|tenant| tenant.bytes()).collect()
    }

    #[test]
    fn the_one_asked_longest_ago_gives_way_and_no_more_than_needed() {
        let residency = Residency::new(ByteCount(100));
        let all = tenants([40, 40, 20, 0]);
        for tenant in [1, 0, 2, 3] {
            residency.ask(&all[tenant]);
        }
        assert!(residency.make_room(30).unwrap());
        assert_eq!(bytes(&all), [40, 0, 20, 0]);
        assert!(!residency.make_room(40).unwrap());
        assert_eq!(bytes(&all), [40, 0, 20, 0]);
    }

    #[test]
    fn the_one_whose_turn_it_is_stays_and_is_refused_what_it_alone_has_no_room_for() {
        let residency = Residency::new(ByteCount(100));
        let all = tenants([40, 60]);
        residency.ask(&all[0]);
        residency.ask(&all[1]);
        let refused = residency.make_room(41).unwrap_err().to_string();
        assert!(
            refused.contains("take 101 bytes, more than the 100"),
            "{refused}"
        );
        assert_eq!(bytes(&all), [40, 60]);
        assert!(residency.make_room(40).unwrap());
        assert_eq!(bytes(&all), [0, 60]);
    }

    #[test]
    fn what_is_gone_takes_no_room() {
        let residency = Residency::new(ByteCount(100));
        let [gone, stays] = tenants([90, 90]);
        residency.ask(&gone);
        residency.ask(&stays);
        drop(gone);
        assert!(!residency.make_room(10).unwrap());
        assert_eq!(stays.bytes(), 90);
    }
}
