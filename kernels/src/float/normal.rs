//! Layer normalisation: each row brought to mean 0 and variance 1, then scaled and moved.
//!
//! ```text
//! row, scale, bias  [columns]        result = (row - mean) / sqrt(variance + epsilon) * scale + bias
//! ```

use crate::cpu::widest;

/// Numbers that are added up together.
const LANES: usize = 16;

widest! {
    /// Writes each row of `numbers`, as long as `scale`, normalised. No `bias` is all 0.
    pub fn normalise(
        numbers: &[f32],
        scale: &[f32],
        bias: Option<&[f32]>,
        epsilon: f32,
        results: &mut [f32],
    ) {
        let columns = scale.len().max(1);
        let rows = numbers.chunks_exact(columns).zip(results.chunks_exact_mut(columns));
        for (row, results) in rows {
            let mean = sum(row, |number| number) / count(columns);
            let variance = sum(row, |number| (number - mean) * (number - mean)) / count(columns);
            let share = 1.0 / (variance + epsilon).sqrt();
            for ((result, number), scale) in results.iter_mut().zip(row).zip(scale) {
                *result = (number - mean) * share * scale;
            }
            if let Some(bias) = bias {
                results.iter_mut().zip(bias).for_each(|(result, bias)| *result += bias);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rows are far shorter than 2^24")]
#[inline(always)]
fn count(columns: usize) -> f32 {
    columns as f32
}

/// The sum of what `of` makes of each number, in one order for a length.
#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for (sum, number) in sums.iter_mut().zip(block) {
            *sum += of(*number);
        }
    }
    for (sum, number) in sums.iter_mut().zip(rest) {
        *sum += of(*number);
    }
    sums.iter().sum()
}
