//! From sums of products, of 32 bits, to what leaves an operator.
//!
//! Sums stand as rows, one column for each output channel.

use super::{Encoding, rounded};
use crate::cpu::widest;

/// What makes bytes of sums: `clamp(round((sum + offset) * multiplier), least, most) + zero`.
#[derive(Debug, Clone, Copy)]
pub struct Requantise<'a> {
    /// What is added to the sums of each column.
    pub offsets: &'a [i32],
    /// What each column is multiplied by after.
    pub multipliers: &'a [f32],
    /// The number that stands for 0, as the encoding reads it.
    pub zero: i32,
    /// The smallest byte that may leave, less the zero point.
    pub least: f32,
    /// The largest byte that may leave, less the zero point.
    pub most: f32,
}

impl Requantise<'_> {
    /// The range of a whole encoding: `least` and `most` for the zero point.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "zero points are of 8 bits")]
    pub fn range(encoding: Encoding, zero: i32) -> (f32, f32) {
        let least = (encoding.least() - zero) as f32;
        (least, least + 255.0)
    }
}

widest! {
    /// Writes the bytes of rows of `sums`. In `bytes` a row begins `stride` after the one before, and
    /// takes the first places of it.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sums become f32 as in onnxruntime, results are of 8 bits"
    )]
    pub fn requantise(sums: &[i32], rule: Requantise<'_>, bytes: &mut [u8], stride: usize) {
        let columns = rule.offsets.len().max(1);
        let (zero, least, most) = (rule.zero, rule.least, rule.most);
        for (sums, bytes) in sums.chunks_exact(columns).zip(bytes.chunks_mut(stride.max(1))) {
            let of_column = rule.offsets.iter().zip(rule.multipliers);
            for ((byte, sum), (offset, multiplier)) in bytes.iter_mut().zip(sums).zip(of_column) {
                let steps = sum.wrapping_add(*offset) as f32 * multiplier;
                *byte = rounded(steps.max(least).min(most)).wrapping_add(zero) as u8;
            }
        }
    }
}

widest! {
    /// Writes `(sum + offset) * multiplier + added`, held between `least` and `most`, for rows of `sums`,
    /// as [`requantise`] lays rows out. There is a number to be added for each column, or none at all.
    /// `rule.zero` means nothing here.
    #[expect(clippy::cast_precision_loss, reason = "sums become f32 as in onnxruntime")]
    pub fn realise(
        sums: &[i32],
        rule: Requantise<'_>,
        added: &[f32],
        reals: &mut [f32],
        stride: usize,
    ) {
        let columns = rule.offsets.len().max(1);
        let (least, most) = (rule.least, rule.most);
        if added.len() == columns {
            for (sums, reals) in sums.chunks_exact(columns).zip(reals.chunks_mut(stride.max(1))) {
                let of_column = rule.offsets.iter().zip(rule.multipliers).zip(added);
                let numbers = reals.iter_mut().zip(sums).zip(of_column);
                for ((real, sum), ((offset, multiplier), added)) in numbers {
                    let value = sum.wrapping_add(*offset) as f32 * multiplier + added;
                    *real = value.max(least).min(most);
                }
            }
            return;
        }
        for (sums, reals) in sums.chunks_exact(columns).zip(reals.chunks_mut(stride.max(1))) {
            let of_column = rule.offsets.iter().zip(rule.multipliers);
            for ((real, sum), (offset, multiplier)) in reals.iter_mut().zip(sums).zip(of_column) {
                let value = sum.wrapping_add(*offset) as f32 * multiplier;
                *real = value.max(least).min(most);
            }
        }
    }
}

widest! {
    /// Takes `zero x (sum of the row's activations)` off every sum: what weights whose zero point is
    /// not 0 add too much. `rows` are the activations of each row, of `depth` each.
    pub fn straighten(sums: &mut [i32], rows: &[i8], depth: usize, zeros: &[i32]) {
        let columns = zeros.len().max(1);
        for (sums, row) in sums.chunks_exact_mut(columns).zip(rows.chunks_exact(depth.max(1))) {
            let total = row.iter().fold(0_i32, |sum, value| sum.wrapping_add(i32::from(*value)));
            for (sum, zero) in sums.iter_mut().zip(zeros) {
                *sum = sum.wrapping_sub(total.wrapping_mul(*zero));
            }
        }
    }
}
