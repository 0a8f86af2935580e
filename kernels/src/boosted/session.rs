//! A loaded boosted model: from the columns of a table to what the framework answers.
//!
//! Features come as one `f64` matrix. Where the model knows categories by their texts, each feature
//! is an input of its own instead, texts for those. The framework's precision is applied here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_base::units::ByteCount;

use super::link::Link;
use super::machine::{Evaluation, Machine, width_of};
use super::model::{Answer, Core, Features, Model, Precision};
use crate::engine::{LoadModelError, ModelForm, Rows, RunModelError, Session};
use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};
use crate::trees::{Lists, Mode};

mod features;

/// Of one feature, at most this many of the thresholds that trees ask for stand in the example.
const EXAMPLE_THRESHOLDS: usize = 12;

/// A loaded model.
#[derive(Debug)]
pub(super) struct BoostedSession {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    machine: Machine,
    precision: Precision,
    start: Vec<f64>,
    divisor: f64,
    link: Link,
    answer: Answer,
    features: Features,
    /// For each feature that trees look at, values at which they decide.
    telling: HashMap<usize, Vec<f64>>,
    independent: AtomicBool,
}

impl BoostedSession {
    pub(super) fn new(
        model: Model,
        evaluation: Evaluation,
        form: ModelForm,
    ) -> Result<Self, LoadModelError> {
        let telling = match &model.core {
            Core::Trees(lists) => telling(lists),
            Core::Linear(_) => HashMap::new(),
        };
        if let Core::Trees(lists) = &model.core
            && width_of(lists) > model.features.width
        {
            return Err(LoadModelError::Parse {
                form,
                reason: format!(
                    "trees look at {} features, the model has {}",
                    width_of(lists),
                    model.features.width
                ),
            });
        }
        Ok(Self {
            inputs: model.features.specs(),
            outputs: vec![output_spec(
                model.answer,
                model.precision,
                model.start.len(),
            )],
            machine: Machine::new(model.core, model.precision, evaluation, form)?,
            precision: model.precision,
            start: model.start,
            divisor: model.divisor,
            link: model.link,
            answer: model.answer,
            features: model.features,
            telling,
            independent: AtomicBool::new(false),
        })
    }

    /// The answer to margins, which are scratch afterwards.
    fn answer(&self, mut margins: Vec<f64>, rows: usize) -> Option<Tensor> {
        let targets = self.start.len().max(1);
        for row in margins.chunks_exact_mut(targets) {
            if self.divisor != 1.0 {
                row.iter_mut().for_each(|margin| *margin /= self.divisor);
            }
            self.link.apply(row);
        }
        if self.precision == Precision::Single {
            margins
                .iter_mut()
                .for_each(|score| *score = rounded(*score));
        }
        let largest = || margins.chunks_exact(targets).map(largest);
        let shape = if self.outputs.first()?.shape.len() == 1 {
            vec![rows]
        } else {
            vec![rows, targets]
        };
        let data = match self.answer {
            Answer::Scores => self.scores(margins),
            Answer::LargestScore => self.scores(largest().map(|at| at as f64).collect()),
            Answer::LargestLabel => TensorData::I64(largest().collect()),
            Answer::HalfLabel => TensorData::I64(
                margins
                    .iter()
                    .map(|score| i64::from(*score > 0.5))
                    .collect(),
            ),
            Answer::HalfScores => TensorData::F64(
                margins
                    .iter()
                    .map(|score| f64::from(u8::from(*score > 0.5)))
                    .collect(),
            ),
        };
        Tensor::new(shape, data).ok()
    }

    fn scores(&self, scores: Vec<f64>) -> TensorData {
        match self.precision {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the framework answers in f32"
            )]
            Precision::Single => {
                TensorData::F32(scores.into_iter().map(|score| score as f32).collect())
            }
            Precision::Double => TensorData::F64(scores),
        }
    }
}

fn output_spec(answer: Answer, precision: Precision, targets: usize) -> TensorSpec {
    let scores = match precision {
        Precision::Single => DataType::F32,
        Precision::Double => DataType::F64,
    };
    let (data_type, wide) = match answer {
        Answer::Scores => (scores, targets > 1),
        Answer::LargestScore => (scores, false),
        Answer::LargestLabel | Answer::HalfLabel => (DataType::I64, false),
        Answer::HalfScores => (DataType::F64, true),
    };
    TensorSpec {
        name: "predictions".to_owned(),
        data_type,
        shape: if wide {
            vec![None, Some(targets)]
        } else {
            vec![None]
        },
    }
}

/// The index of the largest score, the first of several equal ones, and of NaN before all, as
/// numpy's argmax has it.
fn largest(scores: &[f64]) -> i64 {
    let mut best: (i64, f64) = (0, f64::NEG_INFINITY);
    for (at, score) in (0..).zip(scores) {
        if score.is_nan() {
            return at;
        }
        if *score > best.1 {
            best = (at, *score);
        }
    }
    best.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the framework answers in f32"
)]
fn rounded(score: f64) -> f64 {
    f64::from(score as f32)
}

/// For each feature that trees look at, some of the values at which they decide.
fn telling(lists: &Lists) -> HashMap<usize, Vec<f64>> {
    let mut telling: HashMap<usize, Vec<f64>> = HashMap::new();
    for node in lists.nodes.iter().filter(|node| node.mode != Mode::Leaf) {
        let values = telling.entry(node.feature as usize).or_default();
        let room = values.len() < EXAMPLE_THRESHOLDS && !values.contains(&node.threshold);
        // Larger ones would leave f32 when rows are stretched to see whether they are independent.
        if room && node.threshold.abs() < 1e30 {
            values.push(node.threshold);
        }
    }
    telling
}

impl Session for BoostedSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn columns(&self) -> &[String] {
        if self.features.in_words() {
            &[]
        } else {
            &self.features.names
        }
    }

    fn answers_array(&self) -> bool {
        true
    }

    fn example(&self) -> Option<Vec<Tensor>> {
        self.features.example(&self.inputs, &self.telling)
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let (rows, count) = self.features.read(&self.inputs, inputs, self.precision)?;
        let failed = |reason: String| RunModelError::Engine { reason };
        let margins = self
            .machine
            .margins(&rows, self.features.width, &self.start)
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.answer(margins, count);
        let answer = answer.ok_or_else(|| failed("margins do not fit the rows".to_owned()))?;
        Ok(vec![answer])
    }

    fn permit_rows(&self, rows: Rows) {
        // A category that is refused takes down the rows beside it.
        let alone = self.features.refuses();
        self.independent
            .store(rows == Rows::Independent && !alone, Ordering::Relaxed);
    }

    fn rows(&self) -> Rows {
        if self.independent.load(Ordering::Relaxed) {
            Rows::Independent
        } else {
            Rows::Together
        }
    }

    fn resident(&self) -> ByteCount {
        ByteCount(self.machine.resident() as u64)
    }
}
