//! What pools do with pixels: the largest number of each channel, or their sum and mean.

use crate::cpu::widest;

widest! {
    /// Keeps the larger of each number of `pixel` and of `largest`; NaN stays NaN.
    pub fn most(pixel: &[f32], largest: &mut [f32]) {
        for (largest, number) in largest.iter_mut().zip(pixel) {
            *largest = if *number > *largest || number.is_nan() { *number } else { *largest };
        }
    }
}

widest! {
    /// Adds the numbers of `pixel` to `sums`.
    pub fn add(pixel: &[f32], sums: &mut [f32]) {
        for (sum, number) in sums.iter_mut().zip(pixel) {
            *sum += *number;
        }
    }
}

widest! {
    /// Divides each of `sums` by `count`.
    pub fn divide(sums: &mut [f32], count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "windows are far below 2^24 pixels")]
        let count = count as f32;
        for sum in sums {
            *sum /= count;
        }
    }
}
