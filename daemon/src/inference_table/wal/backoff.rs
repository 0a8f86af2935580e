//! How long a disk that fails is left alone.

use std::io;
use std::time::Duration;

/// The first failure may be one bad moment; from the second on there is a pause.
const TOLERATED: u32 = 1;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after commits that failed.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    /// Until when, on the monotonic clock, and what the disk said.
    pause: Option<(Duration, io::ErrorKind)>,
}

impl BackOff {
    /// Fails as the disk did while the pause lasts.
    pub(super) fn check(&self, now: Duration) -> io::Result<()> {
        match self.pause {
            Some((until, kind)) if now < until => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// How long the pause lasts from now.
    pub(super) fn rest(&self, now: Duration) -> Duration {
        let until = self.pause.map_or(Duration::ZERO, |(until, _)| until);
        until.saturating_sub(now)
    }

    /// A commit failed.
    pub(super) fn failed(&mut self, kind: io::ErrorKind, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(TOLERATED + 1) else {
            return;
        };
        let pause = SHORTEST
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(LONGEST);
        self.pause = Some((now + pause, kind));
    }

    /// A commit worked, or has to be tried whatever came before.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}
