//! A boosted model, whatever file it came from.

use super::categories::Categories;
use super::link::Link;
use crate::engine::{LoadModelError, ModelForm};
use crate::trees::Lists;

/// More features than a table has; each takes memory per row.
const MOST_FEATURES: usize = 1 << 20;

/// More targets than a model has.
const MOST_TARGETS: usize = 1 << 16;

/// Refuses a model that says it is larger than any is: a few bytes must not ask for gigabytes.
pub(super) fn check_size(
    form: ModelForm,
    features: usize,
    targets: usize,
) -> Result<(), LoadModelError> {
    if (1..=MOST_FEATURES).contains(&features) && (1..=MOST_TARGETS).contains(&targets) {
        return Ok(());
    }
    Err(LoadModelError::Parse {
        form,
        reason: format!(
            "it has {features} features and {targets} targets, allowed: 1 to {MOST_FEATURES} and 1 \
             to {MOST_TARGETS}"
        ),
    })
}

/// What the readers make.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) core: Core,
    pub(super) precision: Precision,
    /// What each target has before the first tree votes.
    pub(super) start: Vec<f64>,
    /// What sums are divided by: the rounds of a forest whose trees are averaged, else 1.
    pub(super) divisor: f64,
    /// From margins to what the framework answers.
    pub(super) link: Link,
    pub(super) answer: Answer,
    pub(super) features: Features,
}

/// What gives the margins.
#[derive(Debug)]
pub(super) enum Core {
    Trees(Lists),
    Linear(Linear),
}

/// `XGBoost`'s linear booster: for each target a bias and a weight per feature.
#[derive(Debug)]
pub(super) struct Linear {
    /// By feature, then by target; the biases last.
    pub(super) weights: Vec<f32>,
    pub(super) targets: usize,
}

/// In which type the framework holds features and makes sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// `f32`.
    Single,
    /// `f64`.
    Double,
}

/// What is answered per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The numbers behind the link, one or one per target.
    Scores,
    /// Which target has the largest, as a number of the model's precision.
    LargestScore,
    /// Which target has the largest, as a label.
    LargestLabel,
    /// Whether the one number is above a half, as label 0 or 1.
    HalfLabel,
    /// For each target whether its number is above a half, as 0.0 or 1.0.
    HalfScores,
}

/// What the model knows of its features.
#[derive(Debug)]
pub(super) struct Features {
    pub(super) width: usize,
    /// Their names, where they have any.
    pub(super) names: Vec<String>,
    /// The categories of those that have any by name; empty where none has.
    pub(super) categories: Vec<Option<Categories>>,
    pub(super) unseen: Unseen,
}

/// What a category that the training data did not have is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// Missing: `LightGBM`.
    Missing,
    /// A mistake: `XGBoost` answers such a table with an error.
    Refused,
}
