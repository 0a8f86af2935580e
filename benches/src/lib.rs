//! Side-by-side measurements: the server under load, its CPU time and memory, and how they print.
//!
//! Machines are shared and noisy, so every figure that matters is a ratio of two things measured
//! in alternating rounds of one run, and CPU time stands before wall time. Nothing here asserts:
//! budgets are compared by people, in README.md.

#![expect(clippy::panic, reason = "a measurement that cannot be taken ends")]

pub mod load;
pub mod recorded;
pub mod usage;
pub mod zoo;

/// The middle of some samples; 0 without any.
#[must_use]
pub fn median(samples: &mut [f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The value below which the share `q` of the samples lies; 0 without any.
#[must_use]
pub fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index between 0 and the number of samples"
    )]
    let at = (last as f64 * q).round() as usize;
    samples.get(at).copied().unwrap_or_default()
}
