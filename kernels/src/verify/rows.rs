//! Measures whether the rows of a batch are independent of one another.

use crate::engine::{Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData};
use crate::tolerance::compare;

/// At most this many rows are looked at: one wrong row is enough, and loading must stay quick.
const MOST_ROWS: usize = 16;

/// How far the neighbours' numbers are stretched: enough to move any range taken over the batch.
const STRETCH: f64 = 64.0;

/// Runs the rows of `inputs` together, each alone, padded, and beside stretched neighbours.
/// [`Rows::Independent`] only when all four agree within the tolerance table. [`Rows::Together`]
/// when an input or output has no free axis 0, when there is too little to tell by (a single row
/// without a number to stretch), and when the model fails on stretched neighbours: then a
/// neighbour can take a row down with it. Fewer rows are looked at where a device has no room for all.
///
/// # Errors
/// When the session fails on rows that it has just been able to compute.
pub(super) fn measure(session: &dyn Session, inputs: &[Tensor]) -> Result<Rows, RunModelError> {
    let mut rows = MOST_ROWS;
    loop {
        match measure_over(session, inputs, rows) {
            Err(RunModelError::TooLarge { .. }) if rows > 1 => rows /= 2,
            measured => return measured,
        }
    }
}

/// The same over so many rows.
fn measure_over(
    session: &dyn Session,
    inputs: &[Tensor],
    most_rows: usize,
) -> Result<Rows, RunModelError> {
    let Some(probe) = Probe::new(session, inputs, most_rows) else {
        return Ok(Rows::Together);
    };
    let together = session.run(&probe.batch)?;
    if common_rows(&together) != Some(probe.alone.len()) {
        return Ok(Rows::Together);
    }
    for (row, alone) in probe.alone.iter().enumerate() {
        if !agree(&together, row, &session.run(alone)?, 1) {
            return Ok(Rows::Together);
        }
    }
    let padded = session.run(&probe.padded)?;
    let beside = session.run(&probe.crowded);
    let agreed = agree(&together, 0, &padded, probe.alone.len())
        && beside.is_ok_and(|beside| agree(&together, 0, &beside, probe.alone.len()));
    Ok(if agreed {
        Rows::Independent
    } else {
        Rows::Together
    })
}

/// The same rows in four arrangements.
struct Probe {
    batch: Vec<Tensor>,
    alone: Vec<Vec<Tensor>>,
    padded: Vec<Tensor>,
    crowded: Vec<Tensor>,
}

impl Probe {
    fn new(session: &dyn Session, inputs: &[Tensor], most_rows: usize) -> Option<Self> {
        let mut specs = session.inputs().iter().chain(session.outputs());
        let free = specs.all(|spec| spec.shape.first() == Some(&None));
        let count = common_rows(inputs)?.min(most_rows);
        let telling =
            count > 1 || count == 1 && inputs.iter().any(|input| input.data_type().is_float());
        if !free || !telling {
            return None;
        }
        let batch = each(inputs, |tensor| tensor.slice_rows(0..count))?;
        let row = |row: usize| each(&batch, |tensor| tensor.slice_rows(row..row + 1));
        Some(Self {
            alone: (0..count).map(row).collect::<Option<_>>()?,
            padded: each(&batch, |tensor| tensor.pad_rows(count * 2))?,
            crowded: each(&batch, |tensor| {
                Tensor::concat_rows(&[tensor, &stretched(tensor)])
            })?,
            batch,
        })
    }
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

#[cfg(test)]
mod tests;
