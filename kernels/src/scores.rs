//! From raw scores to what a classifier answers: the post transforms of `ai.onnx.ml`, and the
//! two-class case in which a model scores the positive class alone.
//!
//! Scores are accumulated in `f64` and rounded once, to `f32`, at the end: that is closer to the
//! training frameworks, which compute in `f64`, than rounding on the way.

/// What is done to the scores of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostTransform {
    /// Nothing.
    None,
    /// `1 / (1 + exp(-x))` of each score.
    Logistic,
    /// `exp(x)` of each score, divided by their sum.
    Softmax,
    /// As softmax, but a score of zero stays out of it.
    SoftmaxZero,
    /// The quantile of the standard normal distribution at each score.
    Probit,
}

impl PostTransform {
    /// The transform of an ONNX attribute value.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => return None,
        })
    }

    /// Transforms the scores of one row in place.
    pub fn apply(self, row: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => row.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => row.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(row, |_| true),
            Self::SoftmaxZero => softmax(row, |score| score.abs() > 1e-7),
        }
    }
}

/// `1 / (1 + exp(-x))`.
#[must_use]
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Softmax over the scores that `takes_part` accepts; the others are scaled with the rest.
fn softmax(row: &mut [f64], takes_part: impl Fn(f64) -> bool) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in row.iter_mut() {
        if takes_part(*score) {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= (-largest).exp();
        }
    }
    row.iter_mut().for_each(|score| *score /= sum);
}

/// The quantile function of the standard normal distribution: Acklam's rational approximation,
/// relative error below 1.2e-9. NaN outside 0 to 1.
#[must_use]
pub fn probit(p: f64) -> f64 {
    const TAIL: f64 = 0.024_25;
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let polynomial = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * polynomial(&A, q * q) / polynomial(&B, q * q)
    }
}

/// How a classifier turns the raw scores of a row into a class and the scores it reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is done to the scores.
    pub transform: PostTransform,
    /// How the raw scores are read.
    pub reading: Reading,
}

/// How the raw scores of a row are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One score per class; the largest wins, and the first of several equal ones.
    PerClass,
    /// Two classes and one score, that of the second class, as a probability: it wins above 0.5.
    Probability,
    /// Two classes and one score, that of the second class, as a margin: it wins above 0.
    Margin,
    /// As a margin, but reported beside `1 - margin`, as onnxruntime does for linear models.
    Complement,
}

impl Decision {
    /// How many scores are reported for `raw` of them.
    #[must_use]
    pub fn width(&self, raw: usize) -> usize {
        match self.reading {
            Reading::PerClass => raw,
            Reading::Probability | Reading::Margin | Reading::Complement => 2,
        }
    }

    /// Reads the raw scores of one row, writes the reported ones, and returns the class index.
    /// `raw` is scratch afterwards.
    pub fn decide(&self, raw: &mut [f64], reported: &mut [f32]) -> usize {
        let margin = raw.first().copied().unwrap_or_default();
        let (mut pair, class) = match (self.reading, self.transform) {
            (Reading::PerClass, transform) => {
                let class = largest(raw);
                transform.apply(raw);
                write(raw, reported);
                return class;
            }
            // A probability after the transform decides at 0.5, whatever the weights look like.
            (_, PostTransform::Logistic) => ([logistic(-margin), logistic(margin)], margin > 0.0),
            (Reading::Probability, _) => ([1.0 - margin, margin], margin > 0.5),
            (Reading::Margin, _) => ([-margin, margin], margin > 0.0),
            (Reading::Complement, _) => ([1.0 - margin, margin], margin > 0.0),
        };
        if self.transform == PostTransform::Probit {
            self.transform.apply(&mut pair);
        }
        write(&pair, reported);
        usize::from(class)
    }
}

/// The index of the largest score, the first of several equal ones.
fn largest(scores: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (class, score) in scores.iter().enumerate() {
        if *score > best.1 {
            best = (class, *score);
        }
    }
    best.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are reported in f32, as ONNX says"
)]
fn write(scores: &[f64], reported: &mut [f32]) {
    for (to, from) in reported.iter_mut().zip(scores) {
        *to = *from as f32;
    }
}

#[cfg(test)]
mod tests;
