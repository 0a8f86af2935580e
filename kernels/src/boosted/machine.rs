//! What computes the margins of rows: flattened trees, the plain walk, or a linear booster.

use super::model::{Core, Linear, Precision};
use crate::engine::{LoadModelError, ModelForm};
use crate::trees::{Lists, NarrowRowError, Score, Trees, plain::Plain};

/// Which of the two evaluations is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluation {
    /// The one that serves.
    Kernel,
    /// The one that it is held against.
    Reference,
}

/// Computes margins. Features have the precision that its maker was told.
#[derive(Debug)]
pub(super) enum Machine {
    Single(Trees<f32>),
    Double(Trees<f64>),
    Plain(Plain, Precision),
    Linear(Linear),
}

impl Machine {
    pub(super) fn new(
        core: Core,
        precision: Precision,
        evaluation: Evaluation,
        form: ModelForm,
    ) -> Result<Self, LoadModelError> {
        let lists = match core {
            Core::Trees(lists) => lists,
            Core::Linear(linear) => return Ok(Self::Linear(linear)),
        };
        let made = match (evaluation, precision) {
            (Evaluation::Kernel, Precision::Single) => Trees::build(&lists).map(Self::Single),
            (Evaluation::Kernel, Precision::Double) => Trees::build(&lists).map(Self::Double),
            // Built in any case: the plain walk relies on the checks.
            (Evaluation::Reference, precision) => {
                Trees::<f64>::build(&lists).map(|_| Self::Plain(Plain::new(lists), precision))
            }
        };
        made.map_err(|error| LoadModelError::Parse {
            form,
            reason: error.to_string(),
        })
    }

    /// The margins of rows that are `width` wide, one per row and target; each target begins at its
    /// `start`.
    pub(super) fn margins(
        &self,
        rows: &[f64],
        width: usize,
        start: &[f64],
    ) -> Result<Vec<f64>, NarrowRowError> {
        let count = rows.len().checked_div(width).unwrap_or_default();
        match self {
            Self::Single(trees) => {
                let mut scores = begin::<f32>(start, count);
                trees.add_to(&narrow(rows), width, &mut scores)?;
                Ok(widen(&scores))
            }
            Self::Double(trees) => {
                let mut scores = begin::<f64>(start, count);
                trees.add_to(rows, width, &mut scores)?;
                Ok(scores)
            }
            Self::Plain(plain, Precision::Single) => {
                let rows = widen(&narrow(rows));
                Ok(widen(&walk(
                    plain,
                    &rows,
                    width,
                    begin::<f32>(start, count),
                )?))
            }
            Self::Plain(plain, Precision::Double) => {
                walk(plain, rows, width, begin::<f64>(start, count))
            }
            Self::Linear(linear) => Ok(widen(&linear.margins(&narrow(rows), width, start))),
        }
    }

    /// An estimate of the memory it holds.
    pub(super) fn resident(&self) -> usize {
        match self {
            Self::Single(trees) => trees.resident(),
            Self::Double(trees) => trees.resident(),
            // Lives as long as a verification.
            Self::Plain(..) => 0,
            Self::Linear(linear) => linear.weights.len() * size_of::<f32>(),
        }
    }
}

/// How wide a row the trees look at.
pub(super) fn width_of(lists: &Lists) -> usize {
    let features = lists.nodes.iter().map(|node| node.feature as usize + 1);
    features.max().unwrap_or_default()
}

fn begin<S: Score>(start: &[f64], rows: usize) -> Vec<S> {
    let row: Vec<S> = start.iter().map(|start| S::from_f64(*start)).collect();
    row.repeat(rows)
}

fn walk<S: Score>(
    plain: &Plain,
    rows: &[f64],
    width: usize,
    mut scores: Vec<S>,
) -> Result<Vec<S>, NarrowRowError> {
    let rows = rows.chunks_exact(width.max(1));
    let targets = scores.len().checked_div(rows.len()).unwrap_or(1).max(1);
    for (row, scores) in rows.zip(scores.chunks_exact_mut(targets)) {
        plain.add_to(row, scores).ok_or(NarrowRowError {
            needed: width + 1,
            got: width,
        })?;
    }
    Ok(scores)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the framework holds features in f32"
)]
fn narrow(rows: &[f64]) -> Vec<f32> {
    rows.iter().map(|x| *x as f32).collect()
}

fn widen<S: Score>(scores: &[S]) -> Vec<f64> {
    scores.iter().map(|score| score.to_f64()).collect()
}

impl Linear {
    fn margins(&self, rows: &[f32], width: usize, start: &[f64]) -> Vec<f32> {
        let targets = self.targets.max(1);
        let mut margins = begin::<f32>(start, rows.len().checked_div(width).unwrap_or_default());
        let (weights, biases) = self.weights.split_at(width * targets);
        for (row, margins) in rows
            .chunks_exact(width.max(1))
            .zip(margins.chunks_exact_mut(targets))
        {
            for (margin, bias) in margins.iter_mut().zip(biases) {
                *margin += bias;
            }
            let present = row
                .iter()
                .zip(weights.chunks_exact(targets))
                .filter(|(x, _)| !x.is_nan());
            for (x, weights) in present {
                for (margin, weight) in margins.iter_mut().zip(weights) {
                    *margin += x * weight;
                }
            }
        }
        margins
    }
}
