//! Models that `LightGBM` saved as text.

use serde_json::Value;

use super::categories::Categories;
use super::model::{self, Answer, Core, Features, Model, Precision, Unseen};
use crate::engine::{LoadModelError, ModelForm, Predictor};
use crate::trees::Lists;

mod objective;
mod text;
mod trees;

use text::{Section, Text};

const FORM: ModelForm = ModelForm::LightGbm(Predictor::Booster);

/// Reads a model whose `predict` is that of `predictor`.
pub(super) fn read(bytes: &[u8], predictor: Predictor) -> Result<Model, LoadModelError> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let text = Text::split(text).map_err(damaged)?;
    let head = &text.head;
    let last_feature: usize = head.parse("max_feature_idx").map_err(damaged)?;
    let width = last_feature.saturating_add(1);
    let classes: usize = head.parse("num_class").map_err(damaged)?;
    let targets = match head.get("num_tree_per_iteration") {
        Some(_) => head.parse("num_tree_per_iteration").map_err(damaged)?,
        None => classes,
    };
    model::check_size(FORM, width, targets)?;
    let link = objective::link(head.get("objective"), targets)?;
    let mut lists = Lists {
        targets,
        ..Lists::default()
    };
    for ((number, section), target) in (0..).zip(&text.trees).zip((0..targets).cycle()) {
        trees::add(number, section, target, &mut lists)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 trees")]
    let divisor = if head.get("average_output").is_some() {
        (text.trees.len() / targets).max(1) as f64
    } else {
        1.0
    };
    Ok(Model {
        core: Core::Trees(lists),
        precision: Precision::Double,
        start: vec![0.0; targets],
        divisor,
        link,
        answer: match (predictor, targets) {
            (Predictor::Booster | Predictor::Estimator, _) => Answer::Scores,
            (Predictor::Classifier, 1) => Answer::HalfLabel,
            (Predictor::Classifier, _) => Answer::LargestLabel,
        },
        features: features(&text, width)?,
    })
}

fn damaged(reason: impl Into<String>) -> LoadModelError {
    LoadModelError::Parse {
        form: FORM,
        reason: reason.into(),
    }
}

fn not_served(what: impl Into<String>) -> LoadModelError {
    LoadModelError::NotServed { what: what.into() }
}

fn features(text: &Text<'_>, width: usize) -> Result<Features, LoadModelError> {
    let names: Vec<String> = text
        .head
        .get("feature_names")
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect();
    if names.len() != width {
        return Err(damaged(format!(
            "it has {} feature names for {width} features",
            names.len()
        )));
    }
    // What LightGBM calls columns that had no name.
    let unnamed = (0..)
        .zip(&names)
        .all(|(at, name)| *name == format!("Column_{at}"));
    Ok(Features {
        width,
        names: if unnamed { Vec::new() } else { names },
        categories: categories(text, width)?,
        unseen: Unseen::Missing,
    })
}

/// The categories of pandas: a list for each column that had them, in the order of the columns. Which
/// columns those are stands elsewhere.
fn categories(text: &Text<'_>, width: usize) -> Result<Vec<Option<Categories>>, LoadModelError> {
    let lists: Option<Vec<Vec<Value>>> = match text.pandas_categorical {
        Some(json) => serde_json::from_str(json)
            .map_err(|error| damaged(format!("pandas_categorical: {error}")))?,
        None => None,
    };
    let lists = lists.unwrap_or_default();
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let by_infos = categorical_infos(&text.head);
    let by_parameter = text.categorical_features();
    let columns = [by_infos, by_parameter]
        .into_iter()
        .find(|columns| columns.len() == lists.len());
    let columns = columns.ok_or_else(|| {
        not_served(format!(
            "pandas_categorical has {} columns, and the file does not say which they are: train with \
             unordered categories, or with numbers for them",
            lists.len()
        ))
    })?;
    let mut categories = vec![None; width];
    for (column, list) in columns.into_iter().zip(&lists) {
        let known = Categories::of_json(list)
            .map_err(|error| not_served(format!("feature {column}: {error}")))?;
        let place = categories.get_mut(column);
        *place.ok_or_else(|| damaged("a categorical feature is not there"))? = Some(known);
    }
    Ok(categories)
}

/// The features whose values are listed (`0:1:2`) rather than bounded (`[0:2]`).
fn categorical_infos(head: &Section<'_>) -> Vec<usize> {
    let infos = head.get("feature_infos").unwrap_or_default().split(' ');
    infos
        .enumerate()
        .filter(|(_, info)| *info != "none" && !info.starts_with('['))
        .map(|(at, _)| at)
        .collect()
}
