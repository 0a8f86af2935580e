//! Models that `XGBoost` saved: JSON, and UBJSON with the same content.
//!
//! The binary format before both of them was given up by `XGBoost` itself and is refused.

use super::categories::Categories;
use super::link::Link;
use super::model::{self, Answer, Core, Features, Linear, Model, Precision, Unseen};
use super::ubjson;
use crate::engine::{LoadModelError, ModelForm, Predictor};

mod document;
mod objective;
mod trees;

use document::{BoosterModel, CategoryColumn, Document, GradientBooster, Learner};
use objective::Objective;

const FORM: ModelForm = ModelForm::XgBoost(Predictor::Booster);

/// Reads a model whose `predict` is that of `predictor`.
pub(super) fn read(bytes: &[u8], predictor: Predictor) -> Result<Model, LoadModelError> {
    let learner = document(bytes)?.learner;
    let objective = Objective::of(&learner.objective.name)?;
    let counts = Counts::of(&learner)?;
    let mut start = start(&learner, objective, counts.targets)?;
    let (booster, drops) = booster(&learner.gradient_booster)?;
    let core = if learner.gradient_booster.name == "gblinear" {
        // The linear booster gives all targets the base score of the first.
        if let Some(first) = start.first().copied() {
            start.fill(first);
        }
        Core::Linear(linear(booster, &counts)?)
    } else {
        let rounds = match predictor {
            Predictor::Booster => None,
            Predictor::Estimator | Predictor::Classifier => best_rounds(&learner),
        };
        let used = trees::used(booster, rounds, counts.targets);
        Core::Trees(trees::lists(booster, drops, used, counts.targets)?)
    };
    let answer = answer(objective, predictor, &counts);
    let (link, precision) = (objective.link, Precision::Single);
    Ok(Model {
        core,
        precision,
        start,
        divisor: 1.0,
        link: match answer {
            // The largest margin is the largest probability, and XGBoost compares margins.
            Answer::LargestScore => Link::Identity,
            _ => link,
        },
        answer,
        features: features(&learner, booster, counts.features)?,
    })
}

pub(super) fn damaged(reason: impl Into<String>) -> LoadModelError {
    LoadModelError::Parse {
        form: FORM,
        reason: reason.into(),
    }
}

pub(super) fn not_served(what: impl Into<String>) -> LoadModelError {
    LoadModelError::NotServed { what: what.into() }
}

/// JSON and UBJSON both begin with a brace; what follows it tells them apart.
fn document(bytes: &[u8]) -> Result<Document, LoadModelError> {
    match bytes {
        [b'{', b'i' | b'U' | b'I' | b'l' | b'L' | b'$' | b'#', ..] => {
            ubjson::from_slice(bytes).map_err(|error| damaged(error.to_string()))
        }
        [b'{', ..] => serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string())),
        _ => Err(not_served(
            "this is neither JSON nor UBJSON; the binary format that XGBoost gave up is not read: \
             load the file with XGBoost before 3.1 and save it with save_model(\"model.ubj\")",
        )),
    }
}

/// How many of what the model has.
struct Counts {
    features: usize,
    classes: usize,
    targets: usize,
}

impl Counts {
    fn of(learner: &Learner) -> Result<Self, LoadModelError> {
        let param = &learner.learner_model_param;
        let features = count("num_feature", &param.num_feature)?;
        let classes = count("num_class", &param.num_class)?;
        let outputs = count("num_target", &param.num_target)?;
        let targets = classes.max(outputs).max(1);
        model::check_size(FORM, features, targets)?;
        Ok(Self {
            features,
            classes,
            targets,
        })
    }
}

/// A number in a text, as XGBoost keeps its parameters; absent is 0.
fn count(name: &str, text: &str) -> Result<usize, LoadModelError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| damaged(format!("{name} is {text:?}")))
}

/// The margin before the first tree of each target: the base score, before the link.
fn start(
    learner: &Learner,
    objective: Objective,
    targets: usize,
) -> Result<Vec<f64>, LoadModelError> {
    let text = learner.learner_model_param.base_score.as_str();
    let bad = || damaged(format!("base_score is {text:?}"));
    let list = text.trim_matches(['[', ']']);
    let scores = list.split(',').map(|score| score.trim().parse::<f32>());
    let scores: Vec<f32> = scores.collect::<Result<_, _>>().map_err(|_| bad())?;
    let margins: Vec<f64> = scores
        .iter()
        .map(|score| objective.margin(*score))
        .collect();
    match margins.as_slice() {
        [one] => Ok(vec![*one; targets]),
        several if several.len() == targets => Ok(margins),
        _ => Err(bad()),
    }
}

/// The booster's model, and what `dart` multiplies each tree with.
fn booster(outer: &GradientBooster) -> Result<(&BoosterModel, Option<&[f32]>), LoadModelError> {
    let missing = || damaged("the gradient booster has no model");
    match outer.name.as_str() {
        "gbtree" | "gblinear" => Ok((outer.model.as_ref().ok_or_else(missing)?, None)),
        "dart" => {
            let inner = outer.gbtree.as_ref().ok_or_else(missing)?;
            let model = inner.model.as_ref().ok_or_else(missing)?;
            Ok((model, Some(&outer.weight_drop)))
        }
        other => Err(not_served(format!("booster {other:?}"))),
    }
}

fn linear(model: &BoosterModel, counts: &Counts) -> Result<Linear, LoadModelError> {
    let wanted = (counts.features + 1) * counts.targets;
    if model.weights.len() != wanted {
        return Err(damaged(format!(
            "the linear booster has {} weights, not {wanted}",
            model.weights.len()
        )));
    }
    Ok(Linear {
        weights: model.weights.clone(),
        targets: counts.targets,
    })
}

/// How many rounds the scikit-learn interface uses after early stopping.
fn best_rounds(learner: &Learner) -> Option<usize> {
    let best = learner.attributes.get("best_iteration")?;
    best.parse::<usize>().ok()?.checked_add(1)
}

fn answer(objective: Objective, predictor: Predictor, counts: &Counts) -> Answer {
    let classifier = predictor == Predictor::Classifier;
    match (objective.largest, classifier) {
        (true, false) => Answer::LargestScore,
        (true, true) => Answer::LargestLabel,
        (false, false) => Answer::Scores,
        // XGBClassifier tells several labels of a row from several classes by their number.
        (false, true) if counts.targets > 1 && counts.classes != 2 && counts.classes > 0 => {
            Answer::LargestLabel
        }
        (false, true) if counts.targets > 1 => Answer::HalfScores,
        (false, true) => Answer::HalfLabel,
    }
}

fn features(
    learner: &Learner,
    booster: &BoosterModel,
    width: usize,
) -> Result<Features, LoadModelError> {
    let names = learner.feature_names.clone();
    if !names.is_empty() && names.len() != width {
        return Err(damaged(format!(
            "the model has {} feature names for {width} features",
            names.len()
        )));
    }
    let columns = booster.cats.as_ref().map_or(&[][..], |cats| &cats.enc);
    let categories = columns
        .iter()
        .map(categories)
        .collect::<Result<Vec<_>, _>>()?;
    if categories.len() > width {
        return Err(damaged("more columns of categories than features"));
    }
    Ok(Features {
        width,
        names,
        categories: if categories.iter().any(Option::is_some) {
            categories
        } else {
            Vec::new()
        },
        unseen: Unseen::Refused,
    })
}

/// The categories of one column; none where it has no values.
fn categories(column: &CategoryColumn) -> Result<Option<Categories>, LoadModelError> {
    let Some(offsets) = &column.offsets else {
        let numbers = !column.values.is_empty();
        return Ok(numbers.then(|| Categories::numbers(column.values.iter().copied())));
    };
    // Texts one behind the other, and where each begins and ends.
    if column
        .values
        .iter()
        .any(|byte| !(0.0..128.0).contains(byte))
    {
        return Err(not_served(
            "category texts that are not ASCII: XGBoost counts their characters for bytes and saves \
             them garbled; train with other texts, or with numbers",
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below 128, as checked above"
    )]
    let bytes: Vec<u8> = column.values.iter().map(|byte| *byte as u8).collect();
    let word = |ends: &[usize]| {
        let &[start, end] = ends else {
            return None;
        };
        String::from_utf8(bytes.get(start..end)?.to_vec()).ok()
    };
    let words: Option<Vec<String>> = offsets.windows(2).map(word).collect();
    let words = words.ok_or_else(|| damaged("the texts of a column of categories are damaged"))?;
    Ok((!words.is_empty()).then(|| Categories::words(words)))
}
