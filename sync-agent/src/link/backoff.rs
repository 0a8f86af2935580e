//! Full-jitter exponential backoff: after an outage a fleet must not come back at once.

use std::time::Duration;

use rand::RngExt;

/// How long to wait before the next attempt: uniformly between zero and a bound that doubles.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Bounds of `base`, 2 `base`, 4 `base` ... up to `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            attempts: 0,
        }
    }

    /// Starts again at `base`.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self
            .base
            .saturating_mul(1 << self.attempts.min(20))
            .min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(rand::rng().random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_bound_that_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for bound in [1, 2, 4, 5, 5] {
            assert!(backoff.next_wait() <= Duration::from_secs(bound));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }
}
