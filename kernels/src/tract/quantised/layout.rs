//! Lets the operators that `fuse` wrote pass images on with their channels last.
//!
//! A convolution computes with channels last. Where one follows another, or only operators lie
//! between that compute on each number alone, nothing has to be turned over in between. An image that
//! is made with its channels last is turned over once for all those who want it as ONNX has it, and
//! the other way round.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::channels::CHANNELS_LAST;
use super::fuse::{ADD, CONCAT, CONVOLUTION, MULTIPLY, POOLS, TABLE, whole};

/// Moves channels to the end.
pub(super) const LAST: &str = "EdgewardChannelsLast";
/// Moves channels to the front.
pub(super) const FIRST: &str = "EdgewardChannelsFirst";

/// Rewrites `graph`, whose nodes stand in an order in which they can be computed.
pub(super) fn channels_last(graph: &mut GraphProto) {
    let mut layout = Layout::default();
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
        let has = |input: Option<&String>| input.is_some_and(|input| self.last.contains_key(input));
        let images: Vec<usize> = match node.op_type.as_str() {
            CONVOLUTION => vec![0],
            kind if POOLS.contains(&kind) && has(node.input.first()) => vec![0],
            TABLE if has(node.input.first()) => vec![0],
            ADD | MULTIPLY if has(node.input.first()) && has(node.input.get(3)) => vec![0, 3],
            CONCAT => {
                let parts: Vec<usize> = (2..node.input.len()).step_by(3).collect();
                let all = parts.iter().all(|part| has(node.input.get(*part)));
                if !all || axis(node) != Some(1) {
                    return false;
                }
                parts
            }
            _ => return false,
        };
        let mut node = node.clone();
        for place in images {
            let Some(input) = node.input.get(place).cloned() else {
                return false;
            };
            let turned = self.provide_last(&input);
            if let Some(input) = node.input.get_mut(place) {
                *input = turned;
            }
        }
        for output in &mut node.output {
            let turned = turned_name(output);
            self.last.insert(output.clone(), turned.clone());
            self.only_last.insert(output.clone());
            *output = turned;
        }
        if node.op_type == CONCAT {
            for attribute in &mut node.attribute {
                if attribute.name == "axis" {
                    attribute.i = -1;
                }
            }
        } else {
            node.attribute.push(whole(CHANNELS_LAST, 1));
        }
        self.nodes.push(node);
        true
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
