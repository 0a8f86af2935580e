//! How far an engine's answer may lie from the expected one: one table, for every engine and model.
//!
//! Owns the table and the comparison. No manifest and no configuration can widen it.
//!
//! | element type | rule |
//! |---|---|
//! | f32 | `abs(got - expected) <= 1e-5 + 1e-4 * abs(expected)` |
//! | f64 | `abs(got - expected) <= 1e-9 + 1e-7 * abs(expected)` |
//! | integers, booleans, strings | equal |
//!
//! A quantised model rounds to 8 bits on its way, and a sum that lies half-way between two steps may
//! fall on either side, in real numbers as on bytes. [`Rounding`] says what that adds:
//!
//! | output | may lie further apart by |
//! |---|---|
//! | comes out of a `DequantizeLinear`, if through operators that bring no two numbers further apart | its scale, one step; and the same again where its bytes are made of such |
//! | is of bytes itself, made by a quantised operator | 1 |
//! | comes out of rounded numbers in any other way (dynamic quantisation) | a 255th of the expected output's range |
//!
//! NaN equals NaN, and an infinity equals itself.

use crate::tensor::{DataType, Tensor, TensorData};

/// The allowed distance of a floating-point element: `absolute + relative * abs(expected)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// The part that does not depend on the expected value.
    pub absolute: f64,
    /// The part that grows with it.
    pub relative: f64,
}

/// The tolerance of an element type; `None` means that elements must be equal.
#[must_use]
pub fn tolerance(data_type: DataType) -> Option<Tolerance> {
    match data_type {
        // The training framework computes in f64 what the model computes in f32, so the two differ
        // by f32 rounding accumulated over a network's depth.
        DataType::F32 => Some(Tolerance {
            absolute: 1e-5,
            relative: 1e-4,
        }),
        DataType::F64 => Some(Tolerance {
            absolute: 1e-9,
            relative: 1e-7,
        }),
        DataType::Bool
        | DataType::U8
        | DataType::U16
        | DataType::U32
        | DataType::U64
        | DataType::I8
        | DataType::I16
        | DataType::I32
        | DataType::I64
        | DataType::String => None,
    }
}

/// What rounding to 8 bits lies between a model's inputs and one of its outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rounding {
    /// None.
    None,
    /// The output is made of steps of this size.
    Steps(f64),
    /// The output is computed from rounded numbers.
    Range,
}

/// The first place where two tensors differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The element types differ.
    #[error("expected {expected} elements, got {got}")]
    Type {
        /// Of the expected tensor.
        expected: DataType,
        /// Of the tensor tested.
        got: DataType,
    },
    /// The shapes differ.
    #[error("expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Of the expected tensor.
        expected: Vec<usize>,
        /// Of the tensor tested.
        got: Vec<usize>,
    },
    /// An element differs by more than its type allows.
    #[error("element {index:?}: expected {expected}, got {got}")]
    Element {
        /// Its position, one index per axis.
        index: Vec<usize>,
        /// The expected value, as text.
        expected: String,
        /// The value found, as text.
        got: String,
    },
}

/// Compares `got` with `expected` under the table above.
///
/// # Errors
/// The first [`Difference`].
pub fn compare(expected: &Tensor, got: &Tensor) -> Result<(), Difference> {
    compare_rounded(expected, got, Rounding::None)
}

/// Compares `got` with `expected` under the tables above, where `rounding` lies behind both.
///
/// # Errors
/// The first [`Difference`].
pub fn compare_rounded(
    expected: &Tensor,
    got: &Tensor,
    rounding: Rounding,
) -> Result<(), Difference> {
    if expected.data_type() != got.data_type() {
        return Err(Difference::Type {
            expected: expected.data_type(),
            got: got.data_type(),
        });
    }
    if expected.shape() != got.shape() {
        return Err(Difference::Shape {
            expected: expected.shape().to_vec(),
            got: got.shape().to_vec(),
        });
    }
    let first = match (expected.data(), got.data()) {
        (TensorData::Bool(a), TensorData::Bool(b)) => first_unequal(a, b),
        (TensorData::U8(a), TensorData::U8(b)) => first_off(a, b, rounding),
        (TensorData::U16(a), TensorData::U16(b)) => first_unequal(a, b),
        (TensorData::U32(a), TensorData::U32(b)) => first_unequal(a, b),
        (TensorData::U64(a), TensorData::U64(b)) => first_unequal(a, b),
        (TensorData::I8(a), TensorData::I8(b)) => first_off(a, b, rounding),
        (TensorData::I16(a), TensorData::I16(b)) => first_unequal(a, b),
        (TensorData::I32(a), TensorData::I32(b)) => first_unequal(a, b),
        (TensorData::I64(a), TensorData::I64(b)) => first_unequal(a, b),
        (TensorData::String(a), TensorData::String(b)) => first_unequal(a, b),
        (TensorData::F32(a), TensorData::F32(b)) => first_apart(a, b, DataType::F32, rounding),
        (TensorData::F64(a), TensorData::F64(b)) => first_apart(a, b, DataType::F64, rounding),
        _ => None,
    };
    first.map_or(Ok(()), |(position, expected_text, got_text)| {
        Err(Difference::Element {
            index: unravel(position, expected.shape()),
            expected: expected_text,
            got: got_text,
        })
    })
}

/// A differing pair: its flat position and both values as text.
type Pair = (usize, String, String);

fn first_unequal<T: PartialEq + std::fmt::Debug>(expected: &[T], got: &[T]) -> Option<Pair> {
    expected
        .iter()
        .zip(got)
        .position(|(a, b)| a != b)
        .and_then(|at| {
            Some((
                at,
                format!("{:?}", expected.get(at)?),
                format!("{:?}", got.get(at)?),
            ))
        })
}

fn first_apart<T: Copy + Into<f64> + std::fmt::Debug>(
    expected: &[T],
    got: &[T],
    data_type: DataType,
    rounding: Rounding,
) -> Option<Pair> {
    let mut allowed = tolerance(data_type)?;
    allowed.absolute += step(expected, rounding);
    expected
        .iter()
        .zip(got)
        .enumerate()
        .find_map(|(at, (&a, &b))| {
            (!close(a.into(), b.into(), allowed)).then(|| (at, format!("{a:?}"), format!("{b:?}")))
        })
}

/// The first pair of bytes further apart than rounding explains.
fn first_off<T: Copy + Into<f64> + std::fmt::Debug>(
    expected: &[T],
    got: &[T],
    rounding: Rounding,
) -> Option<Pair> {
    let allowed = step(expected, rounding);
    let mut pairs = expected.iter().zip(got).enumerate();
    pairs.find_map(|(at, (&a, &b))| {
        let apart = (a.into() - b.into()).abs() > allowed;
        apart.then(|| (at, format!("{a:?}"), format!("{b:?}")))
    })
}

/// How far rounding may bring two numbers apart.
fn step<T: Copy + Into<f64>>(expected: &[T], rounding: Rounding) -> f64 {
    match rounding {
        Rounding::None => 0.0,
        Rounding::Steps(step) => step,
        Rounding::Range => {
            let finite = expected.iter().map(|value| (*value).into());
            let finite = finite.filter(|value| value.is_finite());
            let (least, most) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |range, value| {
                (range.0.min(value), range.1.max(value))
            });
            (most - least).max(0.0) / 255.0
        }
    }
}

fn close(expected: f64, got: f64, allowed: Tolerance) -> bool {
    if expected.is_nan() || got.is_nan() {
        return expected.is_nan() && got.is_nan();
    }
    if expected.is_infinite() || got.is_infinite() {
        return expected == got;
    }
    (got - expected).abs() <= allowed.absolute + allowed.relative * expected.abs()
}

/// The index along each axis of a flat, row-major position.
fn unravel(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (slot, &extent) in index.iter_mut().zip(shape).rev() {
        *slot = position % extent.max(1);
        position /= extent.max(1);
    }
    index
}

#[cfg(test)]
mod tests;
