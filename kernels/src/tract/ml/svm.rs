//! `SVMClassifier` and `SVMRegressor`: support vector machines as libsvm trains them, and the
//! linear models that some exporters write as such.
//!
//! Kernels and sums are computed in `f64`, as libsvm does.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TDim, TVec, Tensor, ToDim, TractResult, bail, ensure, tvec,
};

use super::labels::Labels;
use super::{
    Build, Operator, Port, as_f32, dims_of, matrix_of, numeric, only, only_tensor, rounded,
    transform_of,
};
use crate::scores::{Decision, PostTransform, Reading};

mod coupling;
mod kernel;

use kernel::{Kernel, Vectors};

/// The rows of an input of this shape, which must be as wide as a vector.
fn rows_of(name: &str, input: &Port, features: usize) -> TractResult<TDim> {
    let (datum_type, shape) = input;
    numeric(name, *datum_type)?;
    let (rows, columns) = dims_of(name, shape)?;
    if let Ok(columns) = usize::try_from(&columns)
        && columns != features
    {
        bail!("{name} has vectors of {features} features, its input {columns}")
    }
    Ok(rows)
}

/// Calls `emit` with each row of the input.
fn each_row(
    name: &str,
    input: &Tensor,
    features: usize,
    mut emit: impl FnMut(&[f32]),
) -> TractResult<usize> {
    let (rows, columns) = matrix_of(name, input.shape())?;
    ensure!(
        columns == features,
        "{name} takes {features} features, got {columns}"
    );
    let numbers = as_f32(input)?;
    let numbers = numbers.try_as_plain_ram()?;
    let numbers = numbers.as_slice::<f32>()?;
    numbers.chunks_exact(columns.max(1)).for_each(&mut emit);
    Ok(rows)
}

fn list(node: &NodeProto, name: &str) -> TractResult<Vec<f32>> {
    Ok(node.get_attr_opt_vec::<f32>(name)?.unwrap_or_default())
}

/// Classes by votes of pairs, or by linear scores.
#[derive(Debug)]
pub(super) struct SvmClassifier {
    labels: Labels,
    machine: Machine,
    decision: Decision,
}

#[derive(Debug)]
enum Machine {
    /// One decision for each pair of classes.
    Pairs(Pairs),
    /// One score for each class.
    Linear {
        coefficients: Vec<f32>,
        intercept: f32,
        features: usize,
        all_positive: bool,
    },
}

/// One decision function for each pair of classes, over the support vectors of both.
#[derive(Debug)]
struct Pairs {
    vectors: Vectors,
    /// The support vectors of each class are beside each other: where they begin, and the end.
    starts: Vec<usize>,
    /// `[classes - 1, vectors]`: row `j - 1` has what class `i < j` gives to the pair, row `i` what
    /// class `j` gives.
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    /// Slope and offset of each pair's probability; none: margins are reported.
    sigmoids: Vec<(f32, f32)>,
}

impl Build for SvmClassifier {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let labels = Labels::read(node, "classlabels_ints")?;
        let classes = labels.len();
        ensure!(classes > 1, "SVMClassifier has {classes} class");
        let counts = node.get_attr_opt_vec::<usize>("vectors_per_class")?;
        let counts = counts.unwrap_or_default();
        let vectors = counts.iter().sum::<usize>();
        let machine = if vectors > 0 {
            Machine::Pairs(Pairs::read(node, classes, &counts)?)
        } else {
            linear(node, classes)?
        };
        let reading = match &machine {
            Machine::Pairs(pairs) if classes == 2 && pairs.sigmoids.is_empty() => Reading::Margin,
            _ => Reading::PerClass,
        };
        let transform = transform_of(node)?;
        Ok(Self {
            labels,
            machine,
            decision: Decision { transform, reading },
        })
    }
}

fn linear(node: &NodeProto, classes: usize) -> TractResult<Machine> {
    let coefficients = node.get_attr_vec::<f32>("coefficients")?;
    let rho = node.get_attr_vec::<f32>("rho")?;
    let Some(intercept) = rho.first() else {
        bail!("SVMClassifier has no rho")
    };
    ensure!(
        !coefficients.is_empty() && coefficients.len().is_multiple_of(classes),
        "{} coefficients do not divide among {classes} classes",
        coefficients.len()
    );
    Ok(Machine::Linear {
        features: coefficients.len() / classes,
        intercept: *intercept,
        all_positive: coefficients.iter().all(|coefficient| *coefficient >= 0.0),
        coefficients,
    })
}

impl Pairs {
    fn read(node: &NodeProto, classes: usize, counts: &[usize]) -> TractResult<Self> {
        ensure!(
            counts.len() == classes,
            "SVMClassifier has {classes} labels and vectors of {} classes",
            counts.len()
        );
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        }));
        let total = counts.iter().sum::<usize>();
        let pairs = classes * (classes - 1) / 2;
        let coefficients = node.get_attr_vec::<f32>("coefficients")?;
        let intercepts = node.get_attr_vec::<f32>("rho")?;
        let (slopes, offsets) = (list(node, "prob_a")?, list(node, "prob_b")?);
        let enough = |name: &str, found: usize, needed: usize| {
            ensure!(
                found == needed,
                "SVMClassifier has {found} {name}, {classes} classes with {total} vectors need \
                 {needed}"
            );
            Ok(())
        };
        enough("coefficients", coefficients.len(), (classes - 1) * total)?;
        enough("rho", intercepts.len(), pairs)?;
        if !slopes.is_empty() || !offsets.is_empty() {
            enough("prob_a", slopes.len(), pairs)?;
            enough("prob_b", offsets.len(), pairs)?;
        }
        Ok(Self {
            vectors: Vectors::read(node, total)?,
            starts,
            coefficients,
            intercepts,
            sigmoids: slopes.into_iter().zip(offsets).collect(),
        })
    }

    /// The decision of each pair, positive for its first class, in the order (0, 1), (0, 2), ...
    fn decisions(&self, kernels: &[f64], decisions: &mut Vec<f64>) {
        decisions.clear();
        let spans = || self.starts.iter().zip(self.starts.iter().skip(1));
        let share = |row: usize, (start, end): (&usize, &usize)| {
            let row = self.coefficients.get(row * kernels.len()..);
            let coefficients = row.unwrap_or_default().iter().zip(kernels);
            let share = coefficients.skip(*start).take(end - start);
            share
                .map(|(coefficient, kernel)| f64::from(*coefficient) * kernel)
                .sum::<f64>()
        };
        let mut intercepts = self.intercepts.iter();
        for (first, of_first) in spans().enumerate() {
            for (second, of_second) in spans().enumerate().skip(first + 1) {
                let intercept = intercepts.next().map_or(0.0, |rho| f64::from(*rho));
                let sum = share(second - 1, of_first) + share(first, of_second);
                decisions.push(sum + intercept);
            }
        }
    }

    fn classes(&self) -> usize {
        self.starts.len() - 1
    }

    /// The class with the most votes, the first of several.
    fn winner(&self, decisions: &[f64], votes: &mut [usize]) -> usize {
        votes.fill(0);
        let classes = self.classes();
        let pairs = (0..classes).flat_map(|first| (first + 1..classes).map(move |at| (first, at)));
        for ((first, second), decision) in pairs.zip(decisions) {
            let class = if *decision > 0.0 { first } else { second };
            if let Some(votes) = votes.get_mut(class) {
                *votes += 1;
            }
        }
        let most = votes.iter().max();
        votes
            .iter()
            .position(|votes| Some(votes) == most)
            .unwrap_or(0)
    }
}

impl SvmClassifier {
    fn features(&self) -> usize {
        match &self.machine {
            Machine::Pairs(pairs) => pairs.vectors.features(),
            Machine::Linear { features, .. } => *features,
        }
    }

    /// How many scores are reported for a row.
    fn width(&self) -> usize {
        match &self.machine {
            Machine::Pairs(pairs) if pairs.sigmoids.is_empty() => {
                self.decision.width(pairs.intercepts.len())
            }
            _ => self.labels.len(),
        }
    }
}

impl Operator for SvmClassifier {
    const NAME: &'static str = "SVMClassifier";
    const OUTPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let input = only(Self::NAME, inputs)?;
        let rows = rows_of(Self::NAME, input, self.features())?;
        let scores = tvec![rows.clone(), self.width().to_dim()];
        Ok(tvec![
            (self.labels.datum_type(), tvec![rows]),
            (DatumType::F32, scores)
        ])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let width = self.width();
        let (mut classes, mut reported) = (Vec::new(), Vec::new());
        let mut scratch = Scratch::default();
        let rows = each_row(Self::NAME, input, self.features(), |row| {
            let mut slot = vec![0.0; width];
            classes.push(self.classify(row, &mut scratch, &mut slot));
            reported.extend(slot);
        })?;
        Ok(tvec![
            self.labels.tensor(&classes)?,
            Tensor::from_shape(&[rows, width], &reported)?
        ])
    }
}

/// What one row needs and the next one uses again.
#[derive(Debug, Default)]
struct Scratch {
    kernels: Vec<f64>,
    scores: Vec<f64>,
    votes: Vec<usize>,
}

impl SvmClassifier {
    /// Writes the reported scores of a row and answers its class.
    fn classify(&self, row: &[f32], scratch: &mut Scratch, reported: &mut [f32]) -> usize {
        let Scratch {
            kernels,
            scores,
            votes,
        } = scratch;
        match &self.machine {
            Machine::Pairs(pairs) => {
                pairs.vectors.kernels(row, kernels);
                pairs.decisions(kernels, scores);
                votes.resize(pairs.classes(), 0);
                let class = pairs.winner(scores, votes);
                if !pairs.sigmoids.is_empty() {
                    *scores = coupling::probabilities(scores, &pairs.sigmoids, pairs.classes());
                }
                self.decision.decide(scores, reported);
                class
            }
            Machine::Linear {
                coefficients,
                intercept,
                features,
                all_positive,
            } => {
                scores.clear();
                let of_classes = coefficients.chunks_exact(*features);
                scores.extend(
                    of_classes
                        .map(|of_class| Kernel::Linear.of(row, of_class) + f64::from(*intercept)),
                );
                let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let class = self.decision.decide(scores, reported);
                // onnxruntime's rule for two classes: a score that says yes means the second one.
                let says_yes = if *all_positive {
                    best >= 0.5
                } else {
                    best > 0.0
                };
                if self.labels.len() == 2 && says_yes {
                    1
                } else {
                    class
                }
            }
        }
    }
}

/// A number by support vectors, or by one row of coefficients.
#[derive(Debug)]
pub(super) struct SvmRegressor {
    vectors: Option<Vectors>,
    coefficients: Vec<f32>,
    intercept: f64,
    transform: PostTransform,
    /// Says only on which side a row lies: 1 or -1.
    one_class: bool,
}

impl Build for SvmRegressor {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let supports: usize = node.get_attr_opt("n_supports")?.unwrap_or(0);
        let coefficients = node.get_attr_vec::<f32>("coefficients")?;
        let rho = node.get_attr_vec::<f32>("rho")?;
        let Some(intercept) = rho.first() else {
            bail!("SVMRegressor has no rho")
        };
        let vectors = match supports {
            0 => None,
            supports => Some(Vectors::read(node, supports)?),
        };
        ensure!(
            !coefficients.is_empty() && (supports == 0 || coefficients.len() == supports),
            "SVMRegressor has {} coefficients for {supports} support vectors",
            coefficients.len()
        );
        Ok(Self {
            vectors,
            coefficients,
            intercept: f64::from(*intercept),
            transform: transform_of(node)?,
            one_class: node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0,
        })
    }
}

impl SvmRegressor {
    fn features(&self) -> usize {
        let vectors = self.vectors.as_ref();
        vectors.map_or(self.coefficients.len(), Vectors::features)
    }

    fn value(&self, row: &[f32], kernels: &mut Vec<f64>) -> f64 {
        let sum = match &self.vectors {
            Some(vectors) => {
                vectors.kernels(row, kernels);
                let terms = self.coefficients.iter().zip(&*kernels);
                terms
                    .map(|(coefficient, kernel)| f64::from(*coefficient) * kernel)
                    .sum()
            }
            None => Kernel::Linear.of(row, &self.coefficients),
        };
        let value = sum + self.intercept;
        match self.one_class {
            false => value,
            true if value > 0.0 => 1.0,
            true => -1.0,
        }
    }
}

impl Operator for SvmRegressor {
    const NAME: &'static str = "SVMRegressor";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let input = only(Self::NAME, inputs)?;
        let rows = rows_of(Self::NAME, input, self.features())?;
        Ok(tvec![(DatumType::F32, tvec![rows, 1.to_dim()])])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (mut kernels, mut values) = (Vec::new(), Vec::new());
        let rows = each_row(Self::NAME, input, self.features(), |row| {
            let mut value = [self.value(row, &mut kernels)];
            self.transform.apply(&mut value);
            values.extend(value.map(rounded));
        })?;
        Ok(tvec![Tensor::from_shape(&[rows, 1], &values)?])
    }
}
