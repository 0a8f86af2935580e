//! Counts of rows that the request path could not hand over, or left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use edgeward_base::names::{EndpointName, TableName};

use super::super::gap::{GapCause, LossKey, Losses, Lost};

/// Whether rows lost for this cause can wait for their commit: they go on for hours, and each
/// commit of them is a gap row for good.
fn is_patient(cause: GapCause) -> bool {
    matches!(cause, GapCause::Sampled | GapCause::DiskBudget)
}

/// Which counts are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Take {
    /// Those of rows that found no room.
    Urgent,
    /// Those of rows that were left out, too.
    All,
}

/// Counts of dropped rows.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// One lane for each table, endpoint and cause that ever dropped a row.
    lanes: ArcSwap<Vec<Arc<Lane>>>,
    /// Rows that wait to be taken.
    urgent: AtomicU64,
    patient: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    table: TableName,
    endpoint: Option<EndpointName>,
    cause: GapCause,
    /// Rows since the start.
    total: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    first_us: AtomicI64,
    last_us: AtomicI64,
}

impl Drops {
    /// Counts one row. Answers whether it is the first since the counts were taken.
    pub(super) fn count(
        &self,
        table: &TableName,
        endpoint: Option<&EndpointName>,
        cause: GapCause,
        (time_us, bytes): (i64, usize),
    ) -> bool {
        let lane = self.lane(table, endpoint, cause);
        lane.first_us.fetch_min(time_us, Ordering::Relaxed);
        lane.last_us.fetch_max(time_us, Ordering::Relaxed);
        lane.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        lane.rows.fetch_add(1, Ordering::Release);
        lane.total.fetch_add(1, Ordering::Relaxed);
        self.untaken(cause).fetch_add(1, Ordering::AcqRel) == 0
    }

    fn untaken(&self, cause: GapCause) -> &AtomicU64 {
        if is_patient(cause) {
            &self.patient
        } else {
            &self.urgent
        }
    }

    fn lane(
        &self,
        table: &TableName,
        endpoint: Option<&EndpointName>,
        cause: GapCause,
    ) -> Arc<Lane> {
        let find = |lanes: &[Arc<Lane>]| {
            lanes
                .iter()
                .find(|lane| {
                    lane.cause == cause
                        && lane.table == *table
                        && lane.endpoint.as_ref() == endpoint
                })
                .cloned()
        };
        if let Some(lane) = find(&self.lanes.load()) {
            return lane;
        }
        let new = Arc::new(Lane {
            table: table.clone(),
            endpoint: endpoint.cloned(),
            cause,
            total: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_us: AtomicI64::new(i64::MAX),
            last_us: AtomicI64::new(i64::MIN),
        });
        self.lanes.rcu(|lanes| match find(lanes) {
            Some(_) => Vec::clone(lanes),
            None => lanes.iter().chain([&new]).cloned().collect(),
        });
        // Another request may have added the lane first: then that one counts.
        find(&self.lanes.load()).unwrap_or(new)
    }

    /// Whether rows wait to be counted that found no room.
    pub(super) fn any_urgent(&self) -> bool {
        self.urgent.load(Ordering::Acquire) > 0
    }

    /// Rows that wait to be counted and were left out.
    pub(super) fn patient(&self) -> u64 {
        self.patient.load(Ordering::Acquire)
    }

    /// Rows dropped for these causes since the start.
    pub(super) fn total(&self, causes: &[GapCause]) -> u64 {
        let lanes = self.lanes.load();
        let mine = lanes.iter().filter(|lane| causes.contains(&lane.cause));
        mine.map(|lane| lane.total.load(Ordering::Relaxed)).sum()
    }

    /// Takes counts.
    pub(super) fn take(&self, which: Take, losses: &mut Losses, now_us: i64) {
        let urgent = self.urgent.swap(0, Ordering::AcqRel) > 0;
        let patient = which == Take::All && self.patient.swap(0, Ordering::AcqRel) > 0;
        for lane in self.lanes.load().iter() {
            let taken = if is_patient(lane.cause) {
                patient
            } else {
                urgent
            };
            if taken {
                lane.take(losses, now_us);
            }
        }
    }
}

impl Lane {
    fn take(&self, losses: &mut Losses, now_us: i64) {
        let rows = self.rows.swap(0, Ordering::AcqRel);
        let (first, last) = (
            self.first_us.swap(i64::MAX, Ordering::Relaxed),
            self.last_us.swap(i64::MIN, Ordering::Relaxed),
        );
        // A row that is being counted right now may have left its time to the taking before.
        let lost = Lost {
            rows,
            bytes: self.bytes.swap(0, Ordering::Relaxed),
            first_us: if first == i64::MAX { now_us } else { first },
            last_us: if last == i64::MIN { now_us } else { last },
        };
        let key = LossKey {
            table: self.table.clone(),
            endpoint: self.endpoint.clone(),
            cause: self.cause,
        };
        losses.add(key, lost);
    }
}
