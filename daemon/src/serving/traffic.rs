//! Traffic: what an endpoint was asked in the last minute, and how long its answers took.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds that count as the last minute.
const MINUTE: u64 = 60;

/// Places for seconds: more than a minute has, so that the oldest is out of sight before it is written over.
const SECONDS: usize = 64;

/// Upper bounds of the buckets, milliseconds.
pub const BOUNDS_MS: [u64; 16] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000,
    600_000,
];

/// One second: which it is, in the upper 34 bits, and how often something happened in it.
#[derive(Debug, Default)]
struct Second(AtomicU64);

const COUNT_BITS: u32 = 30;
const MOST: u64 = (1 << COUNT_BITS) - 1;

impl Second {
    fn add(&self, second: u64) {
        let mut packed = self.0.load(Ordering::Relaxed);
        loop {
            let same = packed >> COUNT_BITS == second;
            let count = if same { packed & MOST } else { 0 };
            let next = second << COUNT_BITS | (count + 1).min(MOST);
            let order = Ordering::Relaxed;
            match self.0.compare_exchange_weak(packed, next, order, order) {
                Ok(_) => return,
                Err(found) => packed = found,
            }
        }
    }

    /// The count, if the second lies in the minute that ends with `now`.
    fn read(&self, now: u64) -> u64 {
        let packed = self.0.load(Ordering::Relaxed);
        let second = packed >> COUNT_BITS;
        let inside = second <= now && second + MINUTE > now;
        if inside { packed & MOST } else { 0 }
    }
}

/// A count of the last minute.
#[derive(Debug)]
struct LastMinute([Second; SECONDS]);

impl Default for LastMinute {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Second::default()))
    }
}

impl LastMinute {
    fn add(&self, second: u64) {
        let place = usize::try_from(second).unwrap_or(0) % SECONDS;
        if let Some(place) = self.0.get(place) {
            place.add(second);
        }
    }

    fn read(&self, now: u64) -> u64 {
        self.0.iter().map(|second| second.read(now)).sum()
    }
}

/// Durations since the process started.
#[derive(Debug, Default)]
struct Distribution {
    /// One per bound, and one for what is above all of them.
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    micros: AtomicU64,
}

impl Distribution {
    fn add(&self, micros: u64) {
        let bucket = BOUNDS_MS.partition_point(|bound| bound.saturating_mul(1_000) < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Durations {
        Durations {
            counts: self
                .counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }
}

/// How durations are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many fell below each of [`BOUNDS_MS`] and above the one before, and how many above all.
    pub counts: [u64; BOUNDS_MS.len() + 1],
    /// All of them, microseconds.
    pub micros: u64,
}

/// The traffic of one endpoint at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointTraffic {
    /// Requests in the last minute.
    pub requests: u64,
    /// Those of them that were answered with 4xx.
    pub client_errors: u64,
    /// Those of them that were answered with 5xx.
    pub server_errors: u64,
    /// From the head of a request to its answer.
    pub latency: Durations,
    /// The model.
    pub model: Durations,
    /// Waiting for a thread.
    pub queue: Durations,
}

/// What is counted of one endpoint. Lock-free.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: LastMinute,
    client_errors: LastMinute,
    server_errors: LastMinute,
    latency: Distribution,
    model: Distribution,
    queue: Distribution,
}

/// One request that has ended; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) status: u16,
    pub(super) latency: u64,
    /// Time in the model and before it, when the model was asked.
    pub(super) computed: Option<(u64, u64)>,
}

impl Traffic {
    /// Counts a request that ended in this second of the process.
    pub(super) fn add(&self, ended: Ended, second: u64) {
        self.requests.add(second);
        match ended.status {
            400..=499 => self.client_errors.add(second),
            500.. => self.server_errors.add(second),
            _ => {}
        }
        self.latency.add(ended.latency);
        if let Some((model, queue)) = ended.computed {
            self.model.add(model);
            self.queue.add(queue);
        }
    }

    /// As it stands in this second of the process.
    pub(super) fn read(&self, second: u64) -> EndpointTraffic {
        EndpointTraffic {
            requests: self.requests.read(second),
            client_errors: self.client_errors.read(second),
            server_errors: self.server_errors.read(second),
            latency: self.latency.read(),
            model: self.model.read(),
            queue: self.queue.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16, latency: u64) -> Ended {
        Ended {
            status,
            latency,
            computed: (status == 200).then_some((latency / 2, 1)),
        }
    }

    #[test]
    fn a_minute_is_counted_and_forgotten() {
        let traffic = Traffic::default();
        for (second, status) in [(0, 200), (10, 404), (10, 429), (59, 500), (59, 200)] {
            traffic.add(ended(status, 7_000), second);
        }
        let counts = |second| {
            let read = traffic.read(second);
            (read.requests, read.client_errors, read.server_errors)
        };
        assert_eq!(counts(59), (5, 2, 1));
        assert_eq!(counts(60), (4, 2, 1));
        assert_eq!(counts(70), (2, 0, 1));
        assert_eq!(counts(119), (0, 0, 0));
        traffic.add(ended(200, 1), 64);
        assert_eq!(counts(64), (5, 2, 1), "its place is that of second 0");
        let read = traffic.read(64);
        assert_eq!((read.latency.counts[0], read.latency.counts[1]), (1, 5));
        assert_eq!(read.latency.micros, 35_001);
        assert_eq!(read.model.counts.iter().sum::<u64>(), 3);
    }
}
