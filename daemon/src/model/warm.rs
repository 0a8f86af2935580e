//! Warms a session on a device up: the driver compiles what computes a batch when it first comes, and
//! no request should wait for that.
//!
//! Whatever it answers here is not looked at: it has proved itself before.

use std::time::Duration;

use edgeward_base::clock::SharedClock;
use edgeward_kernels::engine::{Rows, RunModelError, Session};
use edgeward_kernels::tensor::Tensor;

/// A batch of more rows is never put together.
const MOST_ROWS: usize = 64;

/// Nobody notices that something was compiled before a batch that takes as long as this.
const LONG: Duration = Duration::from_secs(1);

/// Runs `inputs` as they are and, where rows are independent, their first row as a batch of 1, 2, 4, and
/// so on, up to 64 or until a batch takes a second.
///
/// # Errors
/// [`RunModelError`] of the first that fails.
pub(super) fn warm(
    session: &dyn Session,
    inputs: &[Tensor],
    clock: &SharedClock,
) -> Result<(), RunModelError> {
    session.run(inputs)?;
    let first = inputs.iter().map(|input| input.slice_rows(0..1));
    let Some(first) = first.collect::<Option<Vec<Tensor>>>() else {
        return Ok(());
    };
    if session.rows() != Rows::Independent {
        return Ok(());
    }
    let mut rows = 1;
    while rows <= MOST_ROWS {
        let repeated = first
            .iter()
            .map(|row| Tensor::concat_rows(&vec![row; rows]));
        let Some(repeated) = repeated.collect::<Option<Vec<Tensor>>>() else {
            return Ok(());
        };
        let start = clock.monotonic();
        session.run(&repeated)?;
        if clock.monotonic().saturating_sub(start) >= LONG {
            break;
        }
        rows *= 2;
    }
    Ok(())
}
