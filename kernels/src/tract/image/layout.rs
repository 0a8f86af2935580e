//! Lets the operators that `fuse` wrote pass images on with their channels last.
//!
//! A convolution computes with channels last. Where one follows another, or only operators lie
//! between that compute on each number alone, nothing has to be turned over in between. An image that
//! is made with its channels last is turned over once for all those who want it as ONNX has it, and
//! the other way round.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::super::fuse::{
    ADD, CONCAT, CONVOLUTION, MULTIPLY, POOLS, PREFIX, REAL_ADD, REAL_CONVOLUTION, REAL_POOLS,
    REAL_PREFIX, TABLE, whole, written_out,
};
use super::channels::CHANNELS_LAST;

/// Moves channels to the end.
pub(in crate::tract) const LAST: &str = "EdgewardChannelsLast";
/// Moves channels to the front.
pub(in crate::tract) const FIRST: &str = "EdgewardChannelsFirst";

/// Operators that compute on each number alone.
const SINGLE: [&str; 12] = [
    "Abs",
    "Clip",
    "Elu",
    "Erf",
    "Exp",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Neg",
    "Relu",
    "Sigmoid",
    "Tanh",
];
/// Operators that compute on two numbers in one place.
const PAIR: [&str; 4] = ["Add", "Div", "Mul", "Sub"];

/// Rewrites `graph`, whose nodes stand in an order in which they can be computed.
pub(in crate::tract) fn channels_last(graph: &mut GraphProto) {
    let given = graph.initializer.iter();
    let given = given.map(|tensor| (tensor.name.as_str(), tensor));
    let constants = given.chain(graph.node.iter().filter_map(written_out));
    let mut layout = Layout {
        ranks: constants
            .map(|(name, tensor)| (name.to_owned(), tensor.dims.len()))
            .collect(),
        ..Layout::default()
    };
    for node in std::mem::take(&mut graph.node) {
        layout.take(node);
    }
    for output in &graph.output {
        layout.provide_first(&output.name);
    }
    graph.node = layout.nodes;
}

#[derive(Debug, Default)]
struct Layout {
    nodes: Vec<NodeProto>,
    /// The tensors that exist with their channels last too, or only so, with the name for that.
    last: HashMap<String, String>,
    /// Those that exist only so.
    only_last: HashSet<String>,
    /// Those of them that are real numbers, and how many axes they have.
    reals: HashMap<String, usize>,
    /// How many axes each constant has.
    ranks: HashMap<String, usize>,
}

impl Layout {
    fn take(&mut self, node: NodeProto) {
        if !self.turned(&node) {
            let taken = node.input.iter().chain(named_inside(&node));
            for input in taken.cloned().collect::<Vec<_>>() {
                self.provide_first(&input);
            }
            self.nodes.push(node);
        }
    }

    /// Adds `node` with its images' channels last, where it gains by that.
    fn turned(&mut self, node: &NodeProto) -> bool {
        let Some(images) = self.images(node) else {
            return false;
        };
        let rank = self.rank_of_reals(node);
        let mut node = node.clone();
        for place in images {
            let Some(input) = node.input.get(place).cloned() else {
                return false;
            };
            let turned = self.provide_last(&input);
            if let (REAL_CONVOLUTION, Some(rank)) = (node.op_type.as_str(), rank) {
                self.reals.insert(input, rank);
            }
            if let Some(input) = node.input.get_mut(place) {
                *input = turned;
            }
        }
        for output in &mut node.output {
            let turned = turned_name(output);
            self.last.insert(output.clone(), turned.clone());
            self.only_last.insert(output.clone());
            if let Some(rank) = rank {
                self.reals.insert(output.clone(), rank);
            }
            *output = turned;
        }
        if matches!(node.op_type.as_str(), CONCAT | "Concat") {
            for attribute in &mut node.attribute {
                if attribute.name == "axis" {
                    attribute.i = -1;
                }
            }
        } else if node.op_type.starts_with(PREFIX) && node.op_type != REAL_ADD {
            node.attribute.push(whole(CHANNELS_LAST, 1));
        } else if node.op_type.ends_with("Pool") {
            node.op_type = format!("{REAL_PREFIX}{}", node.op_type);
            node.attribute.push(whole(CHANNELS_LAST, 1));
        }
        self.nodes.push(node);
        true
    }

    /// The places of the images among the inputs of a node that is turned; `None` of one that is not.
    fn images(&self, node: &NodeProto) -> Option<Vec<usize>> {
        let has = |input: Option<&String>| input.is_some_and(|input| self.last.contains_key(input));
        let real = |input: Option<&String>| self.reals.get(input?).copied();
        let alone = || node.output.len() == 1;
        let images = match node.op_type.as_str() {
            CONVOLUTION | REAL_CONVOLUTION => vec![0],
            kind if POOLS.contains(&kind) && has(node.input.first()) => vec![0],
            TABLE if has(node.input.first()) => vec![0],
            ADD | MULTIPLY if has(node.input.first()) && has(node.input.get(3)) => vec![0, 3],
            CONCAT => {
                let parts: Vec<usize> = (2..node.input.len()).step_by(3).collect();
                let all = parts.iter().all(|part| has(node.input.get(*part)));
                (all && axis(node) == Some(1)).then_some(parts)?
            }
            _ if !node.domain.is_empty() && node.domain != "ai.onnx" => return None,
            kind if SINGLE.contains(&kind) => {
                real(node.input.first())?;
                vec![0]
            }
            kind if PAIR.contains(&kind) || kind == REAL_ADD => {
                let ranks = (real(node.input.first())?, real(node.input.get(1))?);
                (ranks.0 == ranks.1).then_some(vec![0, 1])?
            }
            "Concat" => {
                let all = node.input.iter().all(|part| real(Some(part)).is_some());
                (all && axis(node) == Some(1)).then(|| (0..node.input.len()).collect())?
            }
            kind if alone()
                && REAL_POOLS
                    .iter()
                    .any(|pool| pool.strip_prefix(REAL_PREFIX) == Some(kind)) =>
            {
                real(node.input.first())?;
                is_plain(node).then_some(vec![0])?
            }
            _ => return None,
        };
        Some(images)
    }

    /// How many axes the outputs of a node that is turned have, where they are real numbers.
    fn rank_of_reals(&self, node: &NodeProto) -> Option<usize> {
        let filters = match node.op_type.as_str() {
            REAL_CONVOLUTION => node.input.get(1),
            // Without a scale of the output.
            CONVOLUTION if node.input.get(6).is_none_or(String::is_empty) => node.input.get(3),
            kind if kind.starts_with(PREFIX) && kind != REAL_ADD => return None,
            _ => return self.reals.get(node.input.first()?).copied(),
        };
        self.ranks.get(filters?).copied()
    }

    /// The name of `tensor` with its channels last.
    fn provide_last(&mut self, tensor: &str) -> String {
        if let Some(turned) = self.last.get(tensor) {
            return turned.clone();
        }
        let turned = turned_name(tensor);
        self.nodes.push(turning(LAST, tensor, &turned));
        self.last.insert(tensor.to_owned(), turned.clone());
        turned
    }

    /// Makes sure that `tensor` exists as ONNX has it.
    fn provide_first(&mut self, tensor: &str) {
        if self.only_last.remove(tensor)
            && let Some(turned) = self.last.get(tensor)
        {
            self.nodes.push(turning(FIRST, turned, tensor));
        }
    }
}

/// Whether a pool is one that there is an operator of our own for.
fn is_plain(node: &NodeProto) -> bool {
    let flag = |name: &str| {
        let mut attributes = node.attribute.iter();
        attributes.any(|attribute| attribute.name == name && attribute.i != 0)
    };
    let uncounted = flag("ceil_mode") && flag("count_include_pad");
    !flag("storage_order") && !uncounted
}

fn axis(node: &NodeProto) -> Option<i64> {
    let mut attributes = node.attribute.iter();
    attributes
        .find(|attribute| attribute.name == "axis")
        .map(|attribute| attribute.i)
}

/// What the subgraphs of a node take from around them.
fn named_inside(node: &NodeProto) -> impl Iterator<Item = &String> {
    let graphs = node.attribute.iter();
    let graphs = graphs.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let mut waiting: Vec<&GraphProto> = graphs.collect();
    let mut names = Vec::new();
    while let Some(graph) = waiting.pop() {
        for node in &graph.node {
            names.extend(&node.input);
            for attribute in &node.attribute {
                waiting.extend(attribute.g.iter().chain(&attribute.graphs));
            }
        }
        names.extend(graph.output.iter().map(|output| &output.name));
    }
    names.into_iter()
}

fn turned_name(tensor: &str) -> String {
    format!("{tensor} (channels last)")
}

fn turning(kind: &str, from: &str, to: &str) -> NodeProto {
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: format!("{to} from {from}"),
        op_type: kind.to_owned(),
        ..NodeProto::default()
    }
}
