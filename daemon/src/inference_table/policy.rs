//! What of a table's rows is kept: what the request path reads of the disk budget.
//!
//! Owns [`Policies`], one value that the keeper replaces whole and the request path loads once a
//! row. Must never: make a request wait for the keeper, or hide what it leaves out: a row that is
//! not kept is counted, and a row that is kept says with which fraction.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use edgeward_base::names::TableName;
use uuid::Uuid;

use super::gap::GapCause;

#[cfg(test)]
mod tests;

/// What of one table's rows is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TablePolicy {
    /// The largest request or response that is kept, bytes.
    pub(super) payload_cap: usize,
    /// The largest one that is kept while the disk is short, bytes.
    pub(super) shed_cap: Option<usize>,
    /// One row in so many is kept, at least 1.
    pub(super) one_in: u32,
    /// No row is kept.
    pub(super) stopped: bool,
}

impl TablePolicy {
    /// Keeps every row, and of each payload so many bytes.
    pub(super) fn keep_all(payload_cap: usize) -> Self {
        Self {
            payload_cap,
            shed_cap: None,
            one_in: 1,
            stopped: false,
        }
    }

    /// Why the row of this request is left out, if it is.
    pub(super) fn leaves_out(&self, request_id: Uuid) -> Option<GapCause> {
        if self.stopped {
            Some(GapCause::DiskBudget)
        } else if !mixed(request_id).is_multiple_of(u64::from(self.one_in.max(1))) {
            Some(GapCause::Sampled)
        } else {
            None
        }
    }

    /// The fraction of rows that is kept, 0 to 1.
    pub(super) fn fraction(&self) -> f64 {
        1.0 / f64::from(self.one_in.max(1))
    }
}

/// Spreads an id over 64 bits: version 7 fixes some of its bits, and counts in others.
fn mixed(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    let mut bits = high.rotate_left(32) ^ low;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb_u64] {
        bits = (bits ^ (bits >> 29)).wrapping_mul(factor);
    }
    bits ^ (bits >> 32)
}

/// What of every table's rows is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Of a table that is not named.
    pub(super) default: TablePolicy,
    pub(super) tables: HashMap<TableName, TablePolicy>,
}

impl Policy {
    /// What of this table's rows is kept.
    pub(super) fn of(&self, table: &TableName) -> TablePolicy {
        self.tables.get(table).copied().unwrap_or(self.default)
    }
}

/// The policy in force, shared by the keeper and the request path.
#[derive(Debug, Clone)]
pub(super) struct Policies(Arc<ArcSwap<Policy>>);

impl Policies {
    /// Keeps every row of every table, and of each payload so many bytes.
    pub(super) fn new(payload_cap: usize) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Policy {
            default: TablePolicy::keep_all(payload_cap),
            tables: HashMap::new(),
        })))
    }

    /// What of this table's rows is kept now.
    pub(super) fn of(&self, table: &TableName) -> TablePolicy {
        self.0.load().of(table)
    }

    /// Puts another policy in force.
    pub(super) fn publish(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }
}
