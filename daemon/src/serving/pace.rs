//! Pace: how fast each served entity computes, and so where it may run.
//!
//! A session whose p99 is under [`INLINE_MICROS`] costs less than handing it to another thread, so
//! it runs on the request's own thread (design decision D15). The verdict is the share of slow runs
//! in the last complete window of [`WINDOW`] runs, and one after the first [`FIRST`] runs, so that a
//! fast model does not stay on the pool for long. Runs on both places are measured, therefore a
//! model that slows down leaves the request threads after one window.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    settled: AtomicBool,
}

impl Pace {
    /// Whether the next run may take the request's own thread.
    #[must_use]
    pub(super) fn inline(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
    }

    /// Whether the first verdict has fallen.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Counts one run.
    pub(super) fn record(&self, micros: u64) {
        let slow = u64::from(micros > INLINE_MICROS);
        let packed = self
            .window
            .fetch_add((1 << 32) | slow, Ordering::Relaxed)
            .wrapping_add((1 << 32) | slow);
        let (runs, slow) = (packed >> 32, packed & u64::from(u32::MAX));
        if runs == u64::from(FIRST) {
            self.settled.store(true, Ordering::Relaxed);
            if slow == 0 {
                self.inline.store(true, Ordering::Relaxed);
            }
        }
        if runs >= u64::from(WINDOW) {
            self.window.store(0, Ordering::Relaxed);
            self.inline.store(slow <= 1, Ordering::Relaxed);
        }
    }
}
