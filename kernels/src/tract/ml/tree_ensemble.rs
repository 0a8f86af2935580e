//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: the ONNX side of [`crate::trees`].

use std::borrow::Cow;
use std::sync::OnceLock;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::labels::Labels;
use super::{Build, Operator, Port, dims_of, matrix_of, numeric, only, only_tensor, transform_of};
use crate::scores::{Decision, PostTransform, Reading};
use crate::trees::{Aggregate, Lists, Missing, Mode, NodeEntry, Trees, VoteEntry, plain::Plain};

mod v5;

pub(super) use v5::TreeEnsemble;

/// Classes by vote. `REFERENCE` evaluates by the plain walk.
#[derive(Debug)]
pub(super) struct Classifier<const REFERENCE: bool> {
    ensemble: Ensemble,
    labels: Labels,
    decision: Decision,
    base: Vec<f64>,
}

/// Numbers by vote. `REFERENCE` evaluates by the plain walk.
#[derive(Debug)]
pub(super) struct Regressor<const REFERENCE: bool> {
    ensemble: Ensemble,
    transform: PostTransform,
    aggregate: Aggregate,
    base: Vec<f64>,
}

impl<const REFERENCE: bool> Build for Classifier<REFERENCE> {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let labels = Labels::read(node, "classlabels_int64s")?;
        let (mut lists, wide) = read_lists(context, node, "class")?;
        let transform = transform_of(node)?;
        let base = floats(context, node, "base_values")?.unwrap_or_default().0;
        // Exporters of two-class models let every tree vote for class 0 and mean the second one.
        let one_score = labels.len() == 2 && lists.votes.iter().all(|vote| vote.target == 0);
        let reading = match one_score {
            false => Reading::PerClass,
            true if lists.votes.iter().all(|vote| vote.weight >= 0.0) => Reading::Probability,
            true => Reading::Margin,
        };
        ensure!(
            base.len() <= labels.len(),
            "TreeEnsembleClassifier has {} base_values for {} classes",
            base.len(),
            labels.len()
        );
        // Of two base values for one score, the second belongs to the class that it is the score of.
        let base = if one_score {
            base.last().copied().into_iter().collect()
        } else {
            base
        };
        lists.targets = if one_score { 1 } else { labels.len() };
        let ensemble = Ensemble::new(lists, wide, REFERENCE)?;
        Ok(Self {
            ensemble,
            labels,
            decision: Decision { transform, reading },
            base,
        })
    }
}

impl<const REFERENCE: bool> Operator for Classifier<REFERENCE> {
    const NAME: &'static str = "TreeEnsembleClassifier";
    const OUTPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        let (rows, _) = dims_of(Self::NAME, shape)?;
        let width = self.decision.width(self.ensemble.targets).to_dim();
        Ok(tvec![
            (self.labels.datum_type(), tvec![rows.clone()]),
            (DatumType::F32, tvec![rows, width])
        ])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (rows, _) = matrix_of(Self::NAME, input.shape())?;
        let targets = self.ensemble.targets;
        let mut raw = self.ensemble.aggregate(input, Aggregate::Sum)?;
        let width = self.decision.width(targets);
        let mut reported = Tensor::zero::<f32>(&[rows, width])?;
        let mut view = reported.try_as_plain_ram_mut()?;
        let mut classes = Vec::with_capacity(rows);
        for (raw, reported) in raw
            .chunks_exact_mut(targets)
            .zip(view.as_slice_mut::<f32>()?.chunks_exact_mut(width))
        {
            add(raw, &self.base);
            classes.push(self.decision.decide(raw, reported));
        }
        Ok(tvec![self.labels.tensor(&classes)?, reported])
    }
}

impl<const REFERENCE: bool> Build for Regressor<REFERENCE> {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let targets: usize = node.get_attr_opt("n_targets")?.unwrap_or(1);
        ensure!(targets > 0, "TreeEnsembleRegressor has no targets");
        let (mut lists, wide) = read_lists(context, node, "target")?;
        lists.targets = targets;
        let base = floats(context, node, "base_values")?.unwrap_or_default().0;
        ensure!(
            base.is_empty() || base.len() == targets,
            "TreeEnsembleRegressor has {} base_values for {targets} targets",
            base.len()
        );
        let name = node
            .get_attr_opt::<&str>("aggregate_function")?
            .unwrap_or("SUM");
        let aggregate = Aggregate::parse(name)
            .with_context(|| format!("aggregate_function {name:?} is unknown"))?;
        let ensemble = Ensemble::new(lists, wide, REFERENCE)?;
        Ok(Self {
            ensemble,
            transform: transform_of(node)?,
            aggregate,
            base,
        })
    }
}

impl<const REFERENCE: bool> Operator for Regressor<REFERENCE> {
    const NAME: &'static str = "TreeEnsembleRegressor";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        let (rows, _) = dims_of(Self::NAME, shape)?;
        Ok(tvec![(
            DatumType::F32,
            tvec![rows, self.ensemble.targets.to_dim()]
        )])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (rows, _) = matrix_of(Self::NAME, input.shape())?;
        let targets = self.ensemble.targets;
        let mut raw = self.ensemble.aggregate(input, self.aggregate)?;
        for row in raw.chunks_exact_mut(targets) {
            add(row, &self.base);
            self.transform.apply(row);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the output is f32, as ONNX says"
        )]
        let output: Vec<f32> = raw.into_iter().map(|score| score as f32).collect();
        Ok(tvec![Tensor::from_shape(&[rows, targets], &output)?])
    }
}

fn add(scores: &mut [f64], base: &[f64]) {
    for (score, base) in scores.iter_mut().zip(base) {
        *score += base;
    }
}

/// The trees in the form that the evaluation and the input need.
#[derive(Debug)]
struct Ensemble {
    form: Form,
    targets: usize,
}

#[derive(Debug)]
enum Form {
    /// `f32` thresholds, and the same widened once an `f64` input has been seen.
    Narrow(Trees<f32>, OnceLock<Trees<f64>>),
    /// The model's thresholds or weights are `f64`.
    Wide(Trees<f64>),
    /// For the plain walk; whether the model's numbers are `f64`.
    Reference(Plain, bool),
}

impl Ensemble {
    /// `wide`: thresholds or weights were given as `f64`.
    fn new(lists: Lists, wide: bool, reference: bool) -> TractResult<Self> {
        let targets = lists.targets;
        // Built in any case: the plain walk relies on the checks.
        let narrow = Trees::<f32>::build(&lists)?;
        let form = if reference {
            Form::Reference(Plain::new(lists), wide)
        } else if wide {
            Form::Wide(Trees::build(&lists)?)
        } else {
            Form::Narrow(narrow, OnceLock::new())
        };
        Ok(Self { form, targets })
    }

    /// The aggregated votes, one number per row and target.
    fn aggregate(&self, input: &Tensor, aggregate: Aggregate) -> TractResult<Vec<f64>> {
        let (rows, width) = matrix_of("a tree ensemble", input.shape())?;
        let mut scores = vec![0.0; rows * self.targets];
        match &self.form {
            Form::Narrow(trees, _) if input.datum_type() != DatumType::F64 => {
                let features = input.cast_to::<f32>()?;
                trees.aggregate(
                    features.try_as_plain_ram()?.as_slice()?,
                    width,
                    aggregate,
                    &mut scores,
                )?;
            }
            Form::Narrow(trees, wide) => {
                let trees = wide.get_or_init(|| trees.widen());
                trees.aggregate(
                    input.try_as_plain_ram()?.as_slice()?,
                    width,
                    aggregate,
                    &mut scores,
                )?;
            }
            Form::Wide(trees) => {
                let features = input.cast_to::<f64>()?;
                trees.aggregate(
                    features.try_as_plain_ram()?.as_slice()?,
                    width,
                    aggregate,
                    &mut scores,
                )?;
            }
            Form::Reference(trees, wide) => {
                let features = reference_features(input, *wide)?;
                let rows = features.chunks_exact(width.max(1));
                for (row, scores) in rows.zip(scores.chunks_exact_mut(self.targets)) {
                    let plain = trees.aggregate(aggregate, row);
                    scores.copy_from_slice(&plain.context("the trees look at more features")?);
                }
            }
        }
        Ok(scores)
    }
}

/// The features as the kernel sees them, widened: through `f32` unless the model or the input is
/// `f64`.
fn reference_features(input: &Tensor, wide: bool) -> TractResult<Vec<f64>> {
    let through: Cow<'_, Tensor> = if wide || input.datum_type() == DatumType::F64 {
        Cow::Borrowed(input)
    } else {
        input.cast_to::<f32>()?
    };
    let wide = through.cast_to::<f64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// Node and vote lists as the attributes give them, and whether thresholds or weights were given as
/// `f64`; votes are in attributes that begin with `votes`. How many targets there are is for the
/// caller to say.
fn read_lists(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    votes: &str,
) -> TractResult<(Lists, bool)> {
    let (nodes, wide_nodes) = read_nodes(context, node)?;
    let (votes, wide_votes) = read_votes(context, node, votes)?;
    let lists = Lists {
        nodes,
        votes,
        ..Lists::default()
    };
    Ok((lists, wide_nodes || wide_votes))
}

fn read_nodes(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Vec<NodeEntry>, bool)> {
    let trees = node.get_attr_vec::<i64>("nodes_treeids")?;
    let count = trees.len();
    let integers = |name: &str| -> TractResult<Vec<i64>> {
        of_length(name, node.get_attr_vec::<i64>(name)?, count)
    };
    let (ids, features) = (integers("nodes_nodeids")?, integers("nodes_featureids")?);
    let (on_true, on_false) = (
        integers("nodes_truenodeids")?,
        integers("nodes_falsenodeids")?,
    );
    let modes = of_length(
        "nodes_modes",
        node.get_attr_vec::<&str>("nodes_modes")?,
        count,
    )?;
    let missing = match node.get_attr_opt_vec::<i64>("nodes_missing_value_tracks_true")? {
        Some(list) if !list.is_empty() => {
            of_length("nodes_missing_value_tracks_true", list, count)?
        }
        _ => vec![0; count],
    };
    let (thresholds, wide) =
        floats(context, node, "nodes_values")?.context("nodes_values is missing")?;
    let thresholds = of_length("nodes_values", thresholds, count)?;
    let mut entries = Vec::with_capacity(count);
    let columns = trees
        .iter()
        .zip(&ids)
        .zip(&features)
        .zip(&modes)
        .zip(&thresholds);
    for (((((tree, id), feature), mode), threshold), ((on_true, on_false), missing)) in
        columns.zip(on_true.iter().zip(&on_false).zip(&missing))
    {
        let mode = Mode::parse(mode).with_context(|| format!("nodes_modes has {mode:?}"))?;
        // A leaf compares nothing: some exporters leave -2 there.
        let feature = if mode == Mode::Leaf {
            0
        } else {
            u32::try_from(*feature)?
        };
        entries.push(NodeEntry {
            tree: *tree,
            node: *id,
            feature,
            mode,
            threshold: *threshold,
            set: 0,
            on_true: *on_true,
            on_false: *on_false,
            missing: Missing {
                is_true: *missing != 0,
                zero: false,
            },
        });
    }
    Ok((entries, wide))
}

fn read_votes(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    prefix: &str,
) -> TractResult<(Vec<VoteEntry>, bool)> {
    let name = |part: &str| format!("{prefix}_{part}");
    let trees = node.get_attr_vec::<i64>(&name("treeids"))?;
    let count = trees.len();
    let integers = |part: &str| -> TractResult<Vec<i64>> {
        of_length(&name(part), node.get_attr_vec::<i64>(&name(part))?, count)
    };
    let (nodes, targets) = (integers("nodeids")?, integers("ids")?);
    let weights = floats(context, node, &name("weights"))?;
    let (weights, wide) = weights.with_context(|| format!("{prefix}_weights is missing"))?;
    let weights = of_length(&name("weights"), weights, count)?;
    let mut entries = Vec::with_capacity(count);
    for (((tree, node), target), weight) in trees.iter().zip(&nodes).zip(&targets).zip(&weights) {
        entries.push(VoteEntry {
            tree: *tree,
            node: *node,
            target: u32::try_from(*target)?,
            weight: *weight,
        });
    }
    Ok((entries, wide))
}

fn of_length<T>(name: &str, list: Vec<T>, count: usize) -> TractResult<Vec<T>> {
    if list.len() == count {
        Ok(list)
    } else {
        bail!("{name} has {} entries, expected {count}", list.len())
    }
}

/// Attribute `name` as a list of `f32`, or `name_as_tensor`; and whether it was `f64`.
fn floats(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    name: &str,
) -> TractResult<Option<(Vec<f64>, bool)>> {
    if let Some(list) = node
        .get_attr_opt_vec::<f32>(name)?
        .filter(|list| !list.is_empty())
    {
        return Ok(Some((list.into_iter().map(f64::from).collect(), false)));
    }
    let Some(proto) = node.get_attr_opt::<&TensorProto>(&format!("{name}_as_tensor"))? else {
        return Ok(None);
    };
    let tensor = context.load_tensor(proto)?;
    let wide = tensor.datum_type() == DatumType::F64;
    Ok(Some((
        tensor
            .cast_to::<f64>()?
            .try_as_plain_ram()?
            .as_slice::<f64>()?
            .to_vec(),
        wide,
    )))
}
