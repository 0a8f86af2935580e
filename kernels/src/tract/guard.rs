//! Keeps a panic inside tract from leaving a session, and a session that only panics from going on.
//!
//! A session that panics `MOST_PANICS` times without one answer in between is dead, for good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tract_onnx::prelude::TractResult;

use super::panic_message;
use super::session::TooLarge;
use crate::engine::RunModelError;

/// After this many panics in a row a session answers nothing any more.
pub(super) const MOST_PANICS: u32 = 8;

/// Counts the panics of one session.
#[derive(Debug, Default)]
pub(super) struct Guard {
    panics: AtomicU32,
    dead: OnceLock<String>,
}

impl Guard {
    /// Fails when the session is dead.
    pub(super) fn alive(&self) -> Result<(), RunModelError> {
        self.dead.get().map_or(Ok(()), |reason| {
            Err(RunModelError::Dead {
                reason: reason.clone(),
            })
        })
    }

    /// What `run` answers; a panic becomes an error, and one too many kills the session.
    pub(super) fn run<T>(&self, run: impl FnOnce() -> TractResult<T>) -> Result<T, RunModelError> {
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outputs)) => {
                if self.panics.load(Ordering::Relaxed) != 0 {
                    self.panics.store(0, Ordering::Relaxed);
                }
                Ok(outputs)
            }
            Ok(Err(error)) => {
                let reason = format!("{error:#}");
                Err(if error.is::<TooLarge>() {
                    RunModelError::TooLarge { reason }
                } else {
                    RunModelError::Engine { reason }
                })
            }
            Err(panic) => {
                let reason = format!("panicked: {}", panic_message(&*panic));
                if self.panics.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_PANICS {
                    let reason = self
                        .dead
                        .get_or_init(|| format!("{reason}, {MOST_PANICS} times in a row"))
                        .clone();
                    return Err(RunModelError::Dead { reason });
                }
                Err(RunModelError::Engine { reason })
            }
        }
    }
}
