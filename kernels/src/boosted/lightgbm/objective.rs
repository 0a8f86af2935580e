//! The objectives of `LightGBM`: what they do to margins.

use super::{damaged, not_served};
use crate::boosted::link::Link;
use crate::engine::LoadModelError;

/// The link of an objective as the file writes it: a name and its parameters. Without one, as after
/// training with a function of the user's own, margins are answered.
pub(super) fn link(objective: Option<&str>, targets: usize) -> Result<Link, LoadModelError> {
    let mut words = objective.unwrap_or("none").split_ascii_whitespace();
    let name = words.next().unwrap_or("none");
    let parameters: Vec<&str> = words.collect();
    let slope = || {
        let given = parameters
            .iter()
            .find_map(|parameter| parameter.strip_prefix("sigmoid:"));
        given.map_or(Ok(1.0), |text| {
            text.parse::<f64>()
                .map_err(|_| damaged(format!("sigmoid is {text:?}")))
        })
    };
    let classes = parameters
        .iter()
        .find_map(|parameter| parameter.strip_prefix("num_class:"));
    if classes.is_some_and(|classes| classes.parse() != Ok(targets)) {
        return Err(damaged("the objective has another number of classes"));
    }
    Ok(match name {
        "regression" | "regression_l1" | "quantile" | "mape" | "fair"
            if parameters.contains(&"sqrt") =>
        {
            Link::SignedSquare
        }
        "regression" | "regression_l1" | "quantile" | "mape" | "fair" | "huber" | "lambdarank"
        | "rank_xendcg" | "none" | "custom" => Link::Identity,
        "poisson" | "gamma" | "tweedie" => Link::Exp,
        "binary" | "multiclassova" => Link::Logistic { slope: slope()? },
        "cross_entropy" => Link::Logistic { slope: 1.0 },
        "cross_entropy_lambda" => Link::Softplus,
        "multiclass" => Link::Softmax,
        other => return Err(not_served(format!("objective {other:?} of LightGBM"))),
    })
}
