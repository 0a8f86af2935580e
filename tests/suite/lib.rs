//! What the suite measures with: whether counts fit the shares that were asked for.
//!
//! The suite opens rooms of the product in its own process, several at a time, and looks at what
//! they do together. What a single room does is tested beside its code; what processes do, in
//! `tests/process`.

/// Pearson's test of how well counts of three kinds fit their shares.
///
/// Answers the probability that counts so far from the shares come about by chance. With three
/// kinds there are two degrees of freedom, whose chi-square distribution is the exponential one:
/// `p = exp(-x / 2)`.
///
/// `shares` are fractions that sum to 1; a kind whose share is 0 must not be counted at all.
#[must_use]
pub fn fit_of_three(counts: [u32; 3], shares: [f64; 3]) -> f64 {
    let total = f64::from(counts.iter().sum::<u32>());
    let deviations = counts.iter().zip(shares).map(|(count, share)| {
        let expected = share * total;
        let deviation = f64::from(*count) - expected;
        // Of a kind without a share even one is too many.
        if deviation == 0.0 {
            0.0
        } else {
            deviation * deviation / expected
        }
    });
    (-deviations.sum::<f64>() / 2.0).exp()
}
