//! The one place that waits: on a condition, with a deadline.

#![expect(
    clippy::disallowed_methods,
    reason = "a deadline of a test is real time"
)]

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails, on a loaded machine with two cores whose
/// disk others use too: one that stalled for over a minute was seen.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `condition` answers something, and gives that back.
///
/// # Panics
/// When it has answered nothing for [`PATIENCE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// Like [`until`], with another deadline.
///
/// # Panics
/// When the condition has answered nothing for so long.
pub fn within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain until {what}"
        );
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Lets `duration` pass: for tests whose subject is time itself, such as a kill at a random
/// moment.
pub fn pass(duration: Duration) {
    let start = Instant::now();
    while let Some(left) = duration.checked_sub(start.elapsed()) {
        std::thread::park_timeout(left);
    }
}
