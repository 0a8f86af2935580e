//! From margins to what the frameworks answer: the inverse link functions of their objectives.

use crate::scores::{PostTransform, logistic};

/// What is done to the margins of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Link {
    /// Nothing.
    Identity,
    /// `1 / (1 + exp(-slope * x))` of each.
    Logistic { slope: f64 },
    /// `exp(x)` of each.
    Exp,
    /// `ln(1 + exp(x))` of each.
    Softplus,
    /// `x * x` with the sign of `x`, of each: the target's root was trained.
    SignedSquare,
    /// 1 above 0 and else 0, of each.
    Step,
    /// `exp(x)` of each, divided by their sum.
    Softmax,
}

impl Link {
    /// Transforms one row in place.
    pub(super) fn apply(self, row: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::Logistic { slope } => each(row, |x| logistic(slope * x)),
            Self::Exp => each(row, f64::exp),
            Self::Softplus => each(row, |x| x.exp().ln_1p()),
            Self::SignedSquare => each(row, |x| x * x.abs()),
            Self::Step => each(row, |x| f64::from(u8::from(x > 0.0))),
            Self::Softmax => PostTransform::Softmax.apply(row),
        }
    }
}

fn each(row: &mut [f64], change: impl Fn(f64) -> f64) {
    row.iter_mut().for_each(|x| *x = change(*x));
}
