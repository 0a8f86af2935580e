//! `LinearClassifier` and `LinearRegressor`: a matrix product, accumulated in `f64`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractResult, bail, ensure, tvec,
};

use super::labels::Labels;
use super::{
    Build, Operator, Port, as_f32, dims_of, matrix_of, numeric, only, only_tensor, rounded,
    transform_of,
};
use crate::scores::{Decision, PostTransform, Reading};

/// One row of coefficients and an intercept per target.
#[derive(Debug)]
struct Linear {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    features: usize,
}

impl Linear {
    fn new(node: &NodeProto, targets: usize) -> TractResult<Self> {
        let coefficients = node.get_attr_vec::<f32>("coefficients")?;
        let intercepts = node
            .get_attr_opt_vec::<f32>("intercepts")?
            .filter(|list| !list.is_empty());
        let intercepts = intercepts.unwrap_or_else(|| vec![0.0; targets]);
        ensure!(
            targets > 0 && intercepts.len() == targets,
            "{} intercepts for {targets} targets",
            intercepts.len()
        );
        ensure!(
            !coefficients.is_empty() && coefficients.len().is_multiple_of(targets),
            "{} coefficients do not divide among {targets} targets",
            coefficients.len()
        );
        Ok(Self {
            features: coefficients.len() / targets,
            coefficients,
            intercepts,
        })
    }

    /// The rows of an input of this shape, which must be as wide as there are coefficients.
    fn rows(&self, name: &str, input: &Port) -> TractResult<tract_onnx::tract_hir::internal::TDim> {
        let (datum_type, shape) = input;
        numeric(name, *datum_type)?;
        let (rows, columns) = dims_of(name, shape)?;
        match usize::try_from(&columns) {
            Ok(columns) if columns != self.features => {
                bail!(
                    "{name} has coefficients for {} features, its input {columns}",
                    self.features
                )
            }
            _ => Ok(rows),
        }
    }

    /// Calls `emit` with the raw scores of each row.
    fn compute(&self, name: &str, input: &Tensor, emit: impl FnMut(&mut [f64])) -> TractResult<()> {
        let (_, columns) = matrix_of(name, input.shape())?;
        ensure!(
            columns == self.features,
            "{name} takes {} features, got {columns}",
            self.features
        );
        if input.datum_type() == DatumType::F64 {
            let view = input.try_as_plain_ram()?;
            self.score(view.as_slice::<f64>()?, emit);
        } else {
            let features = as_f32(input)?;
            let view = features.try_as_plain_ram()?;
            self.score(view.as_slice::<f32>()?, emit);
        }
        Ok(())
    }

    fn score<T: Copy + Into<f64>>(&self, features: &[T], mut emit: impl FnMut(&mut [f64])) {
        let mut scores = vec![0.0; self.intercepts.len()];
        for row in features.chunks_exact(self.features) {
            let targets = self.coefficients.chunks_exact(self.features);
            let targets = targets.zip(&self.intercepts);
            for (score, (coefficients, intercept)) in scores.iter_mut().zip(targets) {
                *score = dot(row, coefficients) + f64::from(*intercept);
            }
            emit(&mut scores);
        }
    }
}

/// Four running sums, so that one addition need not wait for the one before.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 4];
    let (heads, tails) = (a.chunks_exact(4).zip(b.chunks_exact(4)), a.len() / 4 * 4);
    for (a, b) in heads {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (*a).into() * f64::from(*b);
        }
    }
    let rest = a.iter().zip(b).skip(tails);
    let rest: f64 = rest.map(|(a, b)| (*a).into() * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Classes by linear scores.
#[derive(Debug)]
pub(super) struct LinearClassifier {
    linear: Linear,
    labels: Labels,
    decision: Decision,
}

impl Build for LinearClassifier {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let labels = Labels::read(node, "classlabels_ints")?;
        let intercepts = node
            .get_attr_opt_vec::<f32>("intercepts")?
            .unwrap_or_default()
            .len();
        let targets = if intercepts == 0 {
            labels.len()
        } else {
            intercepts
        };
        let reading = match (targets, labels.len()) {
            (1, 2) => Reading::Complement,
            (targets, labels) if targets == labels => Reading::PerClass,
            (targets, labels) => {
                bail!("LinearClassifier has {labels} labels for {targets} rows of coefficients")
            }
        };
        let transform = transform_of(node)?;
        Ok(Self {
            linear: Linear::new(node, targets)?,
            labels,
            decision: Decision { transform, reading },
        })
    }
}

impl Operator for LinearClassifier {
    const NAME: &'static str = "LinearClassifier";
    const OUTPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let rows = self.linear.rows(Self::NAME, only(Self::NAME, inputs)?)?;
        let width = self.decision.width(self.linear.intercepts.len()).to_dim();
        Ok(tvec![
            (self.labels.datum_type(), tvec![rows.clone()]),
            (DatumType::F32, tvec![rows, width])
        ])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (rows, _) = matrix_of(Self::NAME, input.shape())?;
        let width = self.decision.width(self.linear.intercepts.len());
        let mut reported = vec![0.0_f32; rows * width];
        let mut slots = reported.chunks_exact_mut(width);
        let mut classes = Vec::with_capacity(rows);
        self.linear.compute(Self::NAME, input, |scores| {
            if let Some(slot) = slots.next() {
                classes.push(self.decision.decide(scores, slot));
            }
        })?;
        Ok(tvec![
            self.labels.tensor(&classes)?,
            Tensor::from_shape(&[rows, width], &reported)?
        ])
    }
}

/// Numbers by linear scores.
#[derive(Debug)]
pub(super) struct LinearRegressor {
    linear: Linear,
    transform: PostTransform,
}

impl Build for LinearRegressor {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let targets: usize = node.get_attr_opt("targets")?.unwrap_or(1);
        Ok(Self {
            linear: Linear::new(node, targets)?,
            transform: transform_of(node)?,
        })
    }
}

impl Operator for LinearRegressor {
    const NAME: &'static str = "LinearRegressor";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let rows = self.linear.rows(Self::NAME, only(Self::NAME, inputs)?)?;
        Ok(tvec![(
            DatumType::F32,
            tvec![rows, self.linear.intercepts.len().to_dim()]
        )])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (rows, _) = matrix_of(Self::NAME, input.shape())?;
        let targets = self.linear.intercepts.len();
        let mut output = Vec::with_capacity(rows * targets);
        self.linear.compute(Self::NAME, input, |scores| {
            self.transform.apply(scores);
            output.extend(scores.iter().map(|score| rounded(*score)));
        })?;
        Ok(tvec![Tensor::from_shape(&[rows, targets], &output)?])
    }
}
