//! When an answer is the framework's.
//!
//! | kind | equal |
//! |---|---|
//! | labels | the same |
//! | probabilities | within 1e-5 of the expected one, relative |
//! | other numbers | within 1e-5 of the expected one and of the mean size of its column's numbers |
//!
//! The other numbers have a term of their size, for one that should be zero comes out of a sum.

use edgeward_kernels::tensor::{Tensor, TensorData};

use super::stored::{Elements, Stored};

/// The relative difference that is allowed.
const RELATIVE: f64 = 1e-5;

/// Holds `got` against what the framework said.
pub(super) fn compare(stored: &Stored, expected: &Elements, got: &Tensor) -> Result<(), String> {
    match (expected, got.data()) {
        (Elements::Strings(expected), TensorData::String(got)) => {
            same(stored, expected.iter(), got.iter())
        }
        (Elements::Numbers(expected), data) if stored.kind == "label" => {
            let got = numbers(data).ok_or("the label is no number")?;
            same(stored, expected.iter(), got.iter())
        }
        (Elements::Numbers(expected), data) => {
            let got = numbers(data).ok_or("the output is no number")?;
            close(stored, expected, &got)
        }
        (Elements::Strings(_), _) => Err(format!("{} holds no strings", stored.name)),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    stored: &Stored,
    expected: impl ExactSizeIterator<Item = T>,
    got: impl ExactSizeIterator<Item = T>,
) -> Result<(), String> {
    of_one_length(stored, expected.len(), got.len())?;
    let mut pairs = expected.zip(got).enumerate();
    match pairs.find(|(_, (expected, got))| expected != got) {
        Some((row, (expected, got))) => Err(format!(
            "{} of row {row}: {got:?}, and {expected:?} by its framework",
            stored.name
        )),
        None => Ok(()),
    }
}

fn close(stored: &Stored, expected: &[f64], got: &[f64]) -> Result<(), String> {
    of_one_length(stored, expected.len(), got.len())?;
    let finite = expected.iter().filter(|number| number.is_finite());
    let size =
        finite.clone().map(|number| number.abs()).sum::<f64>() / finite.count().max(1) as f64;
    let absolute = if stored.kind == "probabilities" {
        0.0
    } else {
        RELATIVE * size
    };
    let apart = |(expected, got): (&f64, &f64)| {
        let both_nan = expected.is_nan() && got.is_nan();
        let near = (expected - got).abs() <= RELATIVE * expected.abs() + absolute;
        !(both_nan || near || expected == got)
    };
    match expected.iter().zip(got).position(apart) {
        Some(at) => Err(format!(
            "{}, element {at}: {}, and {} by its framework",
            stored.name, got[at], expected[at]
        )),
        None => Ok(()),
    }
}

fn of_one_length(stored: &Stored, expected: usize, got: usize) -> Result<(), String> {
    if expected == got {
        Ok(())
    } else {
        Err(format!(
            "{} has {got} elements, and {expected} by its framework",
            stored.name
        ))
    }
}

fn numbers(data: &TensorData) -> Option<Vec<f64>> {
    Some(match data {
        TensorData::F32(list) => list.iter().map(|number| f64::from(*number)).collect(),
        TensorData::F64(list) => list.clone(),
        TensorData::I64(list) => list.iter().map(|number| *number as f64).collect(),
        TensorData::I32(list) => list.iter().map(|number| f64::from(*number)).collect(),
        TensorData::Bool(list) => list
            .iter()
            .map(|truth| f64::from(u8::from(*truth)))
            .collect(),
        _ => return None,
    })
}
