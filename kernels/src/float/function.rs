//! Exponential functions of many numbers at once.
//!
//! Plain arithmetic without a branch, which the compiler turns into vectors. The polynomials are those
//! of the Cephes library (S. L. Moshier, `expf` and `tanhf`); results are within 3 units of the last
//! place of `f32`. Each number's result depends on itself alone.

use crate::cpu::widest;

/// Beyond it `exp` is infinite, and below its negative it is 0.
const MOST: f32 = 88.722_84;

/// `exp(x)`; NaN stays NaN.
#[inline(always)]
pub(super) fn exponential(x: f32) -> f32 {
    const LIFT: f32 = 12_582_912.0; // 1.5 * 2^23: what is added to it has no bits left for a fraction
    let held = x.clamp(-MOST, MOST);
    let lifted = held * std::f32::consts::LOG2_E + LIFT;
    let whole = lifted - LIFT;
    let rest = held - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = sum * rest + coefficient;
    }
    let value = sum * rest * rest + rest + 1.0;
    // 2^whole, made of its bits in two halves: the whole of it may be beyond the largest number.
    let steps = lifted.to_bits().cast_signed() - LIFT.to_bits().cast_signed();
    let half = steps >> 1;
    let power = |steps: i32| f32::from_bits(((steps + 127) << 23).cast_unsigned());
    let value = value * power(half) * power(steps - half);
    let value = if x > MOST { f32::INFINITY } else { value };
    let value = if x < -MOST { 0.0 } else { value };
    if x.is_nan() { x } else { value }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exponential(-x))
}

/// `tanh(x)`.
#[inline(always)]
pub(super) fn hyperbolic(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let mut sum = -5.704_988_7e-3;
    for coefficient in [
        2.063_908_8e-2,
        -5.373_971_6e-2,
        1.333_144_2e-1,
        -3.333_328e-1,
    ] {
        sum = sum * square + coefficient;
    }
    let near = sum * square * x + x;
    let far = (1.0 - 2.0 / (exponential(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// The Gaussian error linear unit, `x * (1 + erf(x / sqrt(2))) / 2`: by formula 7.1.28 of Abramowitz and
/// Stegun, which is within 3e-7 of `erf`.
#[inline(always)]
fn gaussian(x: f32) -> f32 {
    let size = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let mut sum = 4.306_38e-5;
    for coefficient in [
        2.765_672e-4,
        1.520_143e-4,
        9.270_527e-3,
        4.228_201e-2,
        7.052_308e-2,
        1.0,
    ] {
        sum = sum * size + coefficient;
    }
    for _ in 0..4 {
        sum *= sum;
    }
    // What is missing of the unit at the side of x.
    let missing = 0.5 / sum;
    x * if x > 0.0 { 1.0 - missing } else { missing }
}

widest! {
    /// Writes the Gaussian error linear unit of each number, `x * (1 + erf(x / sqrt(2))) / 2`.
    pub fn gelu(numbers: &[f32], results: &mut [f32]) {
        for (result, number) in results.iter_mut().zip(numbers) {
            *result = gaussian(*number);
        }
    }
}

widest! {
    /// Replaces each number by `exp` of it.
    pub fn exp(numbers: &mut [f32]) {
        for number in numbers {
            *number = exponential(*number);
        }
    }
}

widest! {
    /// Replaces each number `x` by `1 / (1 + exp(-x))`.
    pub fn sigmoid(numbers: &mut [f32]) {
        for number in numbers {
            *number = logistic(*number);
        }
    }
}

widest! {
    /// Replaces each number by `tanh` of it.
    pub fn tanh(numbers: &mut [f32]) {
        for number in numbers {
            *number = hyperbolic(*number);
        }
    }
}
