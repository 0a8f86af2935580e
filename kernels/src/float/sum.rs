//! Sums of two runs of numbers.

use super::Bounds;
use crate::cpu::widest;

widest! {
    /// Writes the sum of each two numbers, within bounds; NaN stays NaN.
    pub fn add(left: &[f32], right: &[f32], bounds: Bounds, sums: &mut [f32]) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            let number = left + right;
            let above = if number < bounds.least { bounds.least } else { number };
            *sum = if above > bounds.most { bounds.most } else { above };
        }
    }
}
