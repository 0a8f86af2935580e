//! `TreeEnsemble`: version 5 of `ai.onnx.ml`, which replaces the classifier and the regressor by one
//! operator over tensors.
//!
//! ```text
//! tree_roots[t] ---> node: nodes_featureids, nodes_splits, nodes_modes
//!                     |-- nodes_trueleafs = 1 --> leaf nodes_truenodeids: leaf_targetids, leaf_weights
//!                     '-- nodes_falseleafs = 0 --> node nodes_falsenodeids
//! ```
//!
//! Trees may share leaves there; here every reference has a leaf of its own.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::super::{Build, Operator, Port, dims_of, matrix_of, numeric, only, only_tensor};
use super::{Ensemble, of_length};
use crate::scores::PostTransform;
use crate::trees::{Aggregate, Fractions, Lists, Members, Missing, Mode, NodeEntry, VoteEntry};

/// Numbers by vote, of the element type of the input. `REFERENCE` evaluates by the plain walk.
#[derive(Debug)]
pub(in super::super) struct TreeEnsemble<const REFERENCE: bool> {
    ensemble: Ensemble,
    transform: PostTransform,
    aggregate: Aggregate,
}

impl<const REFERENCE: bool> Build for TreeEnsemble<REFERENCE> {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let targets: usize = node.get_attr_opt("n_targets")?.unwrap_or(1);
        ensure!(targets > 0, "TreeEnsemble has no targets");
        let aggregate = match node.get_attr_opt::<i64>("aggregate_function")?.unwrap_or(1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => bail!("aggregate_function is {other}, not 0 to 3"),
        };
        let transform = match node.get_attr_opt::<i64>("post_transform")?.unwrap_or(0) {
            0 => PostTransform::None,
            1 => PostTransform::Softmax,
            2 => PostTransform::Logistic,
            3 => PostTransform::SoftmaxZero,
            4 => PostTransform::Probit,
            other => bail!("post_transform is {other}, not 0 to 4"),
        };
        let attributes = Attributes::read(context, node)?;
        let lists = attributes.lists(node, targets)?;
        Ok(Self {
            ensemble: Ensemble::new(lists, attributes.wide, REFERENCE)?,
            transform,
            aggregate,
        })
    }
}

impl<const REFERENCE: bool> Operator for TreeEnsemble<REFERENCE> {
    const NAME: &'static str = "TreeEnsemble";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        ensure!(
            datum_type.is_float(),
            "TreeEnsemble takes floats, got {datum_type:?}"
        );
        let (rows, _) = dims_of(Self::NAME, shape)?;
        let targets = self.ensemble.targets.to_dim();
        Ok(tvec![(*datum_type, tvec![rows, targets])])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (rows, _) = matrix_of(Self::NAME, input.shape())?;
        let targets = self.ensemble.targets;
        let mut scores = self.ensemble.aggregate(input, self.aggregate)?;
        for row in scores.chunks_exact_mut(targets) {
            self.transform.apply(row);
        }
        let scores = Tensor::from_shape(&[rows, targets], &scores)?;
        Ok(tvec![scores.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// One branch of a node: a leaf or another node, by its position.
#[derive(Debug, Clone, Copy)]
struct Branch {
    is_leaf: bool,
    at: usize,
}

#[derive(Debug)]
struct Node {
    feature: u32,
    mode: Mode,
    split: f64,
    /// Which set a member node asks.
    set: u32,
    missing_is_true: bool,
    on_true: Branch,
    on_false: Branch,
}

/// The attributes, checked against each other.
#[derive(Debug)]
struct Attributes {
    nodes: Vec<Node>,
    /// Target and weight of each leaf.
    leaves: Vec<(u32, f64)>,
    /// The sets of the member nodes, in their order.
    sets: Vec<Members>,
    wide: bool,
}

impl Attributes {
    fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let (splits, wide_splits) = numbers(context, node, "nodes_splits")?;
        let (weights, wide_weights) = numbers(context, node, "leaf_weights")?;
        let (modes, _) = numbers(context, node, "nodes_modes")?;
        let count = splits.len();
        let integers = |name: &str| of_length(name, node.get_attr_vec::<i64>(name)?, count);
        let missing = "nodes_missing_value_tracks_true";
        let missing = match node.get_attr_opt_vec::<i64>(missing)? {
            Some(list) if !list.is_empty() => of_length(missing, list, count)?,
            _ => vec![0; count],
        };
        let on_true = branches(
            &integers("nodes_trueleafs")?,
            &integers("nodes_truenodeids")?,
        )?;
        let on_false = branches(
            &integers("nodes_falseleafs")?,
            &integers("nodes_falsenodeids")?,
        )?;
        let modes = of_length("nodes_modes", modes, count)?;
        let sets = sets(context, node)?;
        let mut asked = 0..;
        let tests = integers("nodes_featureids")?;
        let tests = tests.into_iter().zip(modes).zip(splits).zip(missing);
        let mut nodes = Vec::with_capacity(count);
        for ((((feature, mode), split), missing), (on_true, on_false)) in
            tests.zip(on_true.into_iter().zip(on_false))
        {
            let mode = mode_of(mode)?;
            let set = if mode == Mode::Member {
                asked.next()
            } else {
                None
            };
            nodes.push(Node {
                feature: u32::try_from(feature)?,
                mode,
                split,
                set: set.unwrap_or_default(),
                missing_is_true: missing != 0,
                on_true,
                on_false,
            });
        }
        let targets = node.get_attr_vec::<i64>("leaf_targetids")?;
        let targets = of_length("leaf_targetids", targets, weights.len())?;
        let targets = targets.into_iter().map(u32::try_from);
        let targets = targets.collect::<Result<Vec<u32>, _>>()?;
        Ok(Self {
            nodes,
            leaves: targets.into_iter().zip(weights).collect(),
            sets,
            wide: wide_splits || wide_weights,
        })
    }

    /// The same as lists of nodes by tree, walked from each root.
    fn lists(&self, node: &NodeProto, targets: usize) -> TractResult<Lists> {
        let roots = node.get_attr_vec::<usize>("tree_roots")?;
        let mut lists = Lists {
            sets: self.sets.clone(),
            targets,
            ..Lists::default()
        };
        for (tree, root) in (0..).zip(roots) {
            self.add_tree(tree, root, &mut lists)?;
        }
        Ok(lists)
    }

    fn add_tree(&self, tree: i64, root: usize, lists: &mut Lists) -> TractResult<()> {
        let mut next = 1;
        let mut open = vec![(
            0,
            Branch {
                is_leaf: false,
                at: root,
            },
        )];
        while let Some((number, branch)) = open.pop() {
            // A tree with more entries than the model has goes round in circles, or shares nodes.
            ensure!(
                usize::try_from(next)? <= 2 * self.nodes.len() + 1,
                "tree {tree} is no tree"
            );
            if branch.is_leaf {
                let leaf = self.leaves.get(branch.at);
                let (target, weight) = *leaf.with_context(|| format!("no leaf {}", branch.at))?;
                lists.nodes.push(NodeEntry::leaf(tree, number));
                lists.votes.push(VoteEntry {
                    tree,
                    node: number,
                    target,
                    weight,
                });
                continue;
            }
            let node = self.nodes.get(branch.at);
            let node = node.with_context(|| format!("no node {}", branch.at))?;
            let children = (next, next + 1);
            next += 2;
            lists.nodes.push(entry(tree, number, node, children));
            open.extend([(children.1, node.on_false), (children.0, node.on_true)]);
        }
        Ok(())
    }
}

fn entry(tree: i64, number: i64, node: &Node, children: (i64, i64)) -> NodeEntry {
    NodeEntry {
        tree,
        node: number,
        feature: node.feature,
        mode: node.mode,
        threshold: node.split,
        set: node.set,
        on_true: children.0,
        on_false: children.1,
        missing: Missing {
            is_true: node.missing_is_true,
            zero: false,
        },
    }
}

/// The sets of the member nodes: one list of values, with a NaN between two sets.
fn sets(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Vec<Members>> {
    if node
        .get_attr_opt::<&TensorProto>("membership_values")?
        .is_none()
    {
        return Ok(Vec::new());
    }
    let (values, _) = numbers(context, node, "membership_values")?;
    let mut sets: Vec<Members> = values
        .split(|value| value.is_nan())
        .map(|set| Members::new(Fractions::Outside, set.iter().copied()))
        .collect();
    // A NaN may end the last set too.
    if values.last().is_none_or(|last| last.is_nan()) {
        sets.pop();
    }
    Ok(sets)
}

fn branches(leaves: &[i64], places: &[i64]) -> TractResult<Vec<Branch>> {
    let branch = |(is_leaf, at): (&i64, &i64)| {
        Ok(Branch {
            is_leaf: *is_leaf != 0,
            at: usize::try_from(*at)?,
        })
    };
    leaves.iter().zip(places).map(branch).collect()
}

fn mode_of(number: f64) -> TractResult<Mode> {
    const MODES: [Mode; 7] = [
        Mode::LessOrEqual,
        Mode::Less,
        Mode::GreaterOrEqual,
        Mode::Greater,
        Mode::Equal,
        Mode::NotEqual,
        Mode::Member,
    ];
    let mut numbered = (0_u8..).zip(MODES);
    let found = numbered.find(|(of_mode, _)| f64::from(*of_mode) == number);
    match found {
        Some((_, mode)) => Ok(mode),
        None => bail!("nodes_modes has {number}, not 0 to 6"),
    }
}

/// A tensor attribute as `f64`, and whether it was that.
fn numbers(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    name: &str,
) -> TractResult<(Vec<f64>, bool)> {
    let proto = node.get_attr_opt::<&TensorProto>(name)?;
    let tensor = context.load_tensor(proto.with_context(|| format!("{name} is missing"))?)?;
    let numbers = tensor.cast_to::<f64>()?;
    let numbers = numbers.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
    Ok((numbers, tensor.datum_type() == DatumType::F64))
}
