//! Two runs of bytes, number by number: each computed as a real number, then made a byte again.

use super::linear::Linear;
use super::rounded;
use crate::cpu::widest;

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// Their sum.
    Add,
    /// Their product.
    Multiply,
}

/// How the numbers that go in are read, and how what comes out is written.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Of the first operand.
    pub left: Linear,
    /// Of the second operand.
    pub right: Linear,
    /// Of the result.
    pub result: Linear,
    /// The smallest result, as a real number.
    pub least: f32,
    /// The largest result, as a real number.
    pub most: f32,
}

/// Combines `left` and `right`, which are as long as `bytes`, number by number.
pub fn combine(binary: Binary, left: &[u8], right: &[u8], terms: Terms, bytes: &mut [u8]) {
    match binary {
        Binary::Add => add(left, right, terms, bytes),
        Binary::Multiply => multiply(left, right, terms, bytes),
    }
}

widest! {
    fn add(left: &[u8], right: &[u8], terms: Terms, bytes: &mut [u8]) {
        each(left, right, terms, bytes, |left, right| left + right);
    }
}

widest! {
    fn multiply(left: &[u8], right: &[u8], terms: Terms, bytes: &mut [u8]) {
        each(left, right, terms, bytes, |left, right| left * right);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "differences of bytes are exact in f32, results are of 8 bits"
)]
#[inline(always)]
fn each(
    left: &[u8],
    right: &[u8],
    terms: Terms,
    bytes: &mut [u8],
    result: impl Fn(f32, f32) -> f32,
) {
    let real = |byte: u8, linear: &Linear| {
        let zero = linear.zero - 128 - linear.encoding.least();
        let number = i32::from((byte ^ linear.encoding.flip()).cast_signed());
        number.wrapping_sub(zero) as f32 * linear.scale
    };
    let lowest = (terms.result.encoding.least() - terms.result.zero) as f32;
    let highest = lowest + 255.0;
    for ((byte, left), right) in bytes.iter_mut().zip(left).zip(right) {
        let value = result(real(*left, &terms.left), real(*right, &terms.right));
        let value = value.max(terms.least).min(terms.most) / terms.result.scale;
        let steps = rounded(value.max(lowest).min(highest));
        *byte = steps.wrapping_add(terms.result.zero) as u8;
    }
}
