//! The objectives of `XGBoost`: what they do to margins, and what a base score is among them.

use super::not_served;
use crate::boosted::link::Link;
use crate::engine::LoadModelError;

/// What the objective of a model says about its predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Objective {
    pub(super) link: Link,
    /// Whether the class with the largest margin is answered instead of the margins.
    pub(super) largest: bool,
    base: Base,
}

/// In what terms the base score is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Margin,
    Probability,
    Positive,
}

impl Objective {
    /// The objective of that name.
    pub(super) fn of(name: &str) -> Result<Self, LoadModelError> {
        let (link, base) = match name {
            "reg:squarederror"
            | "reg:linear"
            | "reg:squaredlogerror"
            | "reg:pseudohubererror"
            | "reg:absoluteerror"
            | "reg:quantileerror"
            | "rank:pairwise"
            | "rank:ndcg"
            | "rank:map"
            | "binary:logitraw"
            | "multi:softmax" => (Link::Identity, Base::Margin),
            "multi:softprob" => (Link::Softmax, Base::Margin),
            "reg:logistic" | "binary:logistic" => {
                (Link::Logistic { slope: 1.0 }, Base::Probability)
            }
            "binary:hinge" => (Link::Step, Base::Margin),
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
                (Link::Exp, Base::Positive)
            }
            other => return Err(not_served(format!("objective {other:?} of XGBoost"))),
        };
        Ok(Self {
            link,
            largest: name == "multi:softmax",
            base,
        })
    }

    /// The margin of a base score, in the `f32` of `XGBoost`.
    pub(super) fn margin(self, base_score: f32) -> f64 {
        f64::from(match self.base {
            Base::Margin => base_score,
            Base::Probability => -(1.0 / base_score - 1.0).ln(),
            Base::Positive => base_score.ln(),
        })
    }
}
