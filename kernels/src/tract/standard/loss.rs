//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`: how far scores are from the classes
//! that they should have named.
//!
//! ```text
//! inputs   scores [N, classes, d1, ...]   target [N, d1, ...]   weight [classes], which may be absent
//! output   loss [N, d1, ...], or a scalar when it is reduced
//!          log_prob, of the shape of scores, of SoftmaxCrossEntropyLoss alone
//! ```
//!
//! Computed in `f64` and rounded to the type of the scores.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    TDim, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tensor0, tvec,
};

use super::{Build, Operator, Port};

/// Scores are logarithms of probabilities.
#[derive(Debug)]
pub(super) struct NegativeLogLikelihoodLoss(Loss);

/// Scores are any numbers; a softmax over the classes makes probabilities of them.
#[derive(Debug)]
pub(super) struct SoftmaxCrossEntropyLoss {
    loss: Loss,
    log_prob: bool,
}

#[derive(Debug)]
struct Loss {
    reduction: Reduction,
    /// A target that counts for nothing.
    ignored: Option<i64>,
    weighted: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Reduction {
    None,
    Mean,
    Sum,
}

impl Build for NegativeLogLikelihoodLoss {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Loss::read(node).map(Self)
    }
}

impl Build for SoftmaxCrossEntropyLoss {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            loss: Loss::read(node)?,
            log_prob: node.output.get(1).is_some_and(|name| !name.is_empty()),
        })
    }
}

impl Operator for NegativeLogLikelihoodLoss {
    const NAME: &'static str = "NegativeLogLikelihoodLoss";

    fn inputs(&self) -> usize {
        self.0.inputs()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        Ok(tvec![self.0.output(inputs)?])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let scores = inputs.first().context("no scores")?;
        let wide = scores.cast_to::<f64>()?;
        Ok(tvec![self.0.compute(&wide, inputs)?])
    }
}

impl Operator for SoftmaxCrossEntropyLoss {
    const NAME: &'static str = "SoftmaxCrossEntropyLoss";

    fn inputs(&self) -> usize {
        self.loss.inputs()
    }

    fn output_count(&self) -> usize {
        1 + usize::from(self.log_prob)
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let mut outputs = tvec![self.loss.output(inputs)?];
        if self.log_prob {
            outputs.extend(inputs.first().cloned());
        }
        Ok(outputs)
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let scores = inputs.first().context("no scores")?;
        let mut logarithms = scores.cast_to::<f64>()?.into_owned();
        log_softmax(&mut logarithms)?;
        let mut outputs = tvec![self.loss.compute(&logarithms, inputs)?];
        if self.log_prob {
            let logarithms = logarithms.cast_to_dt(scores.datum_type())?;
            outputs.push(logarithms.into_owned());
        }
        Ok(outputs)
    }
}

impl Loss {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("mean") {
            "none" => Reduction::None,
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            other => bail!("reduction is {other:?}, not none, mean or sum"),
        };
        Ok(Self {
            reduction,
            ignored: node.get_attr_opt("ignore_index")?,
            weighted: node.input.get(2).is_some_and(|name| !name.is_empty()),
        })
    }

    fn inputs(&self) -> usize {
        2 + usize::from(self.weighted)
    }

    fn output(&self, inputs: &[Port]) -> TractResult<Port> {
        let [(datum_type, scores), (target_type, target), ..] = inputs else {
            bail!("a loss takes scores and targets");
        };
        ensure!(datum_type.is_float(), "scores are {datum_type:?}");
        ensure!(target_type.is_integer(), "targets are {target_type:?}");
        ensure!(
            scores.len() >= 2 && scores.len() == target.len() + 1,
            "scores have {} axes, targets {}",
            scores.len(),
            target.len()
        );
        let shape: TVec<TDim> = match self.reduction {
            Reduction::None => target.clone(),
            Reduction::Mean | Reduction::Sum => tvec![],
        };
        Ok((*datum_type, shape))
    }

    /// The loss of `logarithms`, rounded to the type of the first of `inputs`.
    fn compute(&self, logarithms: &Tensor, inputs: &[&Tensor]) -> TractResult<Tensor> {
        let [scores, target, weight @ ..] = inputs else {
            bail!("a loss takes scores and targets");
        };
        let planes = Planes::of(logarithms.shape())?;
        let targets = target.cast_to::<i64>()?;
        let targets = targets.try_as_plain_ram()?;
        let targets = targets.as_slice::<i64>()?;
        ensure!(
            targets.len() == planes.batch * planes.places,
            "targets have shape {:?}, scores {:?}",
            target.shape(),
            scores.shape()
        );
        let weights = weight
            .first()
            .map(|weight| weight.cast_to::<f64>())
            .transpose()?;
        let weights = weights
            .as_deref()
            .map(Tensor::try_as_plain_ram)
            .transpose()?;
        let weights = weights
            .as_ref()
            .map(|view| view.as_slice::<f64>())
            .transpose()?;
        let logarithms = logarithms.try_as_plain_ram()?;
        let logarithms = logarithms.as_slice::<f64>()?;
        let mut losses = Vec::with_capacity(targets.len());
        let mut whole = 0.0;
        for (at, class) in targets.iter().enumerate() {
            if self.ignored == Some(*class) {
                losses.push(0.0);
                continue;
            }
            let class = usize::try_from(*class)
                .ok()
                .filter(|class| *class < planes.classes);
            let class = class.with_context(|| format!("target {at} is no class"))?;
            let weight = weights.map_or(Some(1.0), |weights| weights.get(class).copied());
            let weight = weight.with_context(|| format!("class {class} has no weight"))?;
            let score = logarithms.get(planes.place(at, class));
            whole += weight;
            losses.push(-weight * score.context("a score is missing")?);
        }
        let loss = match self.reduction {
            Reduction::None => Tensor::from_shape(target.shape(), &losses)?,
            Reduction::Mean => tensor0(losses.iter().sum::<f64>() / whole),
            Reduction::Sum => tensor0(losses.iter().sum::<f64>()),
        };
        Ok(loss.cast_to_dt(scores.datum_type())?.into_owned())
    }
}

/// A tensor as a batch of planes, one for each class, of as many places.
#[derive(Debug, Clone, Copy)]
struct Planes {
    batch: usize,
    classes: usize,
    places: usize,
}

impl Planes {
    fn of(shape: &[usize]) -> TractResult<Self> {
        let [batch, classes, places @ ..] = shape else {
            bail!("scores have shape {shape:?}");
        };
        Ok(Self {
            batch: *batch,
            classes: *classes,
            places: places.iter().product(),
        })
    }

    /// Where the score of `class` is, for the target of this position.
    fn place(self, target: usize, class: usize) -> usize {
        let places = self.places.max(1);
        (target / places * self.classes + class) * self.places + target % places
    }
}

/// The logarithm of the softmax over the classes.
fn log_softmax(scores: &mut Tensor) -> TractResult<()> {
    let planes = Planes::of(scores.shape())?;
    let mut view = scores.try_as_plain_ram_mut()?;
    let scores = view.as_slice_mut::<f64>()?;
    for target in 0..planes.batch * planes.places {
        let of_class = |class| planes.place(target, class);
        let classes = 0..planes.classes;
        let score = |class| scores.get(of_class(class)).copied().unwrap_or(f64::NAN);
        let highest = classes.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = classes
            .clone()
            .map(|class| (score(class) - highest).exp())
            .sum();
        let shift = highest + sum.ln();
        for class in classes {
            if let Some(score) = scores.get_mut(of_class(class)) {
                *score -= shift;
            }
        }
    }
    Ok(())
}
