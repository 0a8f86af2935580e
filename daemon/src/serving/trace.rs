//! Identifiers of one request: its id, and the trace it belongs to.
//!
//! The request id is a UUID of version 7, so that ids sort by arrival; it leaves as `x-request-id`
//! and is the row's `databricks_request_id`. The trace id is the one of a valid W3C `traceparent`,
//! else a new one. Both take their randomness from [`Randomness`], so that a test can repeat them.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

#[cfg(test)]
mod tests;

/// Where random bits come from: ids, and which served entity gets the next request.
#[derive(Debug, Default)]
pub enum Randomness {
    /// The operating system's generator, reseeded by itself, one per thread.
    #[default]
    System,
    /// A fixed sequence (`SplitMix64`), for tests that must repeat.
    Seeded(AtomicU64),
}

impl Randomness {
    /// The fixed sequence that starts at `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(AtomicU64::new(seed))
    }

    /// The next 64 random bits.
    pub fn next(&self) -> u64 {
        match self {
            Self::System => rand::random(),
            Self::Seeded(state) => {
                let step = 0x9e37_79b9_7f4a_7c15;
                let mut z = state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    /// A request id for a request that arrived at this wall time.
    pub fn request_id(&self, wall_millis: i64) -> Uuid {
        let mut random = [0; 10];
        for (byte, bit) in random.iter_mut().zip(
            self.next()
                .to_le_bytes()
                .into_iter()
                .chain(self.next().to_le_bytes()),
        ) {
            *byte = bit;
        }
        // A box whose clock stands before 1970 still gets unique ids.
        let millis = u64::try_from(wall_millis).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// The trace id of `traceparent` where that is valid, else a new one: 32 hexadecimal digits.
    pub fn trace_id(&self, traceparent: Option<&str>) -> String {
        traceparent.and_then(trace_of).map_or_else(
            || format!("{:016x}{:016x}", self.next(), self.next() | 1),
            str::to_owned,
        )
    }
}

/// The trace id in a W3C `traceparent`: `{version}-{trace}-{parent}-{flags}`, all lowercase
/// hexadecimal; version `ff` and an all-zero trace or parent are invalid. Later versions may add
/// fields at the end.
fn trace_of(traceparent: &str) -> Option<&str> {
    let mut fields = traceparent.trim().splitn(5, '-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let (parent, flags, more) = (fields.next()?, fields.next()?, fields.next());
    let lengths = (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
    let hex = [version, trace, parent, flags].iter().all(|field| {
        field
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    let some = |field: &str| field.bytes().any(|b| b != b'0');
    let known = version != "ff" && (version != "00" || more.is_none());
    (lengths && hex && known && some(trace) && some(parent)).then_some(trace)
}
