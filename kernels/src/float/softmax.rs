//! Softmax of rows: `exp(x - most) / sum of those`.

use super::function::exponential;
use crate::cpu::widest;

/// Numbers that are looked at together.
const LANES: usize = 16;

widest! {
    /// Writes the softmax of each row of `columns` numbers. A row with NaN, or without a finite number,
    /// is all NaN.
    pub fn softmax(numbers: &[f32], columns: usize, results: &mut [f32]) {
        let columns = columns.max(1);
        for (row, results) in numbers.chunks_exact(columns).zip(results.chunks_exact_mut(columns)) {
            let most = most(row);
            let (blocks, rest) = row.as_chunks::<LANES>();
            let (to, rest_to) = results.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for (block, to) in blocks.iter().zip(to) {
                for ((number, to), sum) in block.iter().zip(to).zip(&mut sums) {
                    *to = exponential(number - most);
                    *sum += *to;
                }
            }
            for ((number, to), sum) in rest.iter().zip(rest_to).zip(&mut sums) {
                *to = exponential(number - most);
                *sum += *to;
            }
            let share = 1.0 / sums.iter().sum::<f32>();
            for result in results {
                *result *= share;
            }
        }
    }
}

/// The largest number of a row.
#[inline(always)]
fn most(row: &[f32]) -> f32 {
    let larger =
        |most: &mut f32, number: &f32| *most = if *number > *most { *number } else { *most };
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        most.iter_mut()
            .zip(block)
            .for_each(|(most, number)| larger(most, number));
    }
    most.iter_mut()
        .zip(rest)
        .for_each(|(most, number)| larger(most, number));
    most.iter().fold(
        f32::NEG_INFINITY,
        |all, most| if *most > all { *most } else { all },
    )
}
