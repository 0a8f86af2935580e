//! Measures whether the rows of a batch are independent of one another.

use crate::engine::{Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData};
use crate::tolerance::compare;

/// At most this many rows are looked at: one wrong row is enough, and loading must stay quick.
const MOST_ROWS: usize = 16;

/// How far the neighbours' numbers are stretched: enough to move any range taken over the batch.
const STRETCH: f64 = 64.0;

/// Runs the rows of `inputs` together, each alone, padded, and beside stretched neighbours.
/// [`Rows::Independent`] only when all four agree within the tolerance table; a model whose inputs
/// or outputs have no free axis 0 is [`Rows::Together`].
///
/// # Errors
/// When the session fails on rows that it has just been able to compute.
pub(super) fn measure(session: &dyn Session, inputs: &[Tensor]) -> Result<Rows, RunModelError> {
    let specs = session.inputs().iter().chain(session.outputs());
    let free = specs
        .into_iter()
        .all(|spec| spec.shape.first() == Some(&None));
    let Some(count) = common_rows(inputs) else {
        return Ok(Rows::Together);
    };
    if !free || count == 0 {
        return Ok(Rows::Together);
    }
    let count = count.min(MOST_ROWS);
    let Some(batch) = each(inputs, |tensor| tensor.slice_rows(0..count)) else {
        return Ok(Rows::Together);
    };
    let together = session.run(&batch)?;
    if common_rows(&together) != Some(count) {
        return Ok(Rows::Together);
    }
    for row in 0..count {
        let Some(one) = each(&batch, |tensor| tensor.slice_rows(row..row + 1)) else {
            return Ok(Rows::Together);
        };
        if !agree(&together, row, &session.run(&one)?, 1) {
            return Ok(Rows::Together);
        }
    }
    let Some(padded) = each(&batch, |tensor| tensor.pad_rows(count * 2)) else {
        return Ok(Rows::Together);
    };
    let Some(crowded) = each(&batch, |tensor| {
        Tensor::concat_rows(&[tensor, &stretched(tensor)])
    }) else {
        return Ok(Rows::Together);
    };
    for wider in [padded, crowded] {
        if !agree(&together, 0, &session.run(&wider)?, count) {
            return Ok(Rows::Together);
        }
    }
    Ok(Rows::Independent)
}

/// The number of rows that all tensors share.
fn common_rows(tensors: &[Tensor]) -> Option<usize> {
    let (first, rest) = tensors.split_first()?;
    let rows = first.rows()?;
    rest.iter()
        .all(|tensor| tensor.rows() == Some(rows))
        .then_some(rows)
}

fn each(tensors: &[Tensor], change: impl Fn(&Tensor) -> Option<Tensor>) -> Option<Vec<Tensor>> {
    tensors.iter().map(change).collect()
}

/// Whether rows `from..from + count` of `expected` equal the first `count` rows of `got`.
fn agree(expected: &[Tensor], from: usize, got: &[Tensor], count: usize) -> bool {
    expected.len() == got.len()
        && expected.iter().zip(got).all(|(expected, got)| {
            match (
                expected.slice_rows(from..from + count),
                got.slice_rows(0..count),
            ) {
                (Some(expected), Some(got)) => compare(&expected, &got).is_ok(),
                _ => false,
            }
        })
}

/// The same rows with floating-point numbers far outside their usual range. Integers and strings
/// stay: they may be categories or positions, of which a model knows only some.
fn stretched(tensor: &Tensor) -> Tensor {
    let data = match tensor.data() {
        #[expect(clippy::cast_possible_truncation, reason = "64 is exact in f32")]
        TensorData::F32(values) => {
            TensorData::F32(values.iter().map(|value| -value * STRETCH as f32).collect())
        }
        TensorData::F64(values) => {
            TensorData::F64(values.iter().map(|value| -value * STRETCH).collect())
        }
        other => other.clone(),
    };
    Tensor::new(tensor.shape().to_vec(), data).unwrap_or_else(|_| tensor.clone())
}
