//! How far an output may lie from the expected one, because something on its way was rounded to 8 bits.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::tolerance::Rounding;

use super::super::fuse::scale_of;

/// Operators through which two numbers come no further apart than they were.
const STEADY: [&str; 20] = [
    "Clip",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "Identity",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Squeeze",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Operators on bytes through which two numbers come no further apart than they were.
const STEADY_ON_BYTES: [&str; 5] = [
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearSigmoid",
    "QLinearSoftmax",
];

/// The rounding that each output of `graph` went through, in their order.
pub(in crate::tract) fn roundings(graph: &GraphProto) -> Vec<Rounding> {
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &graph.node {
        makers.extend(node.output.iter().map(|output| (output.as_str(), node)));
    }
    let trail = Trail { graph, makers };
    let outputs = graph.output.iter().map(|output| {
        let rounding = trail.real(&output.name).map(Rounding::Steps);
        let rounding =
            rounding.or_else(|| trail.is_bytes(&output.name).then_some(Rounding::Steps(1.0)));
        rounding.unwrap_or_else(|| {
            if trail.is_behind_bytes(&output.name) {
                Rounding::Range
            } else {
                Rounding::None
            }
        })
    });
    outputs.collect()
}

/// A graph, to be followed backwards.
struct Trail<'a> {
    graph: &'a GraphProto,
    makers: HashMap<&'a str, &'a NodeProto>,
}

impl Trail<'_> {
    /// How far real numbers may be off: a step of the `DequantizeLinear` that they come out of, where
    /// nothing but steady operators lies between, and what their bytes may be off.
    fn real(&self, tensor: &str) -> Option<f64> {
        let node = self.makers.get(tensor)?;
        match node.op_type.as_str() {
            "DequantizeLinear" => Some(self.scale(node, 1)? + self.bytes(node.input.first()?)),
            "Concat" => {
                let mut parts = node.input.iter().map(|input| self.real(input));
                parts.try_fold(0.0, |most, part| part.map(|part| f64::max(most, part)))
            }
            kind if STEADY.contains(&kind) => self.real(node.input.first()?),
            _ => None,
        }
    }

    /// How far bytes may be off, as real numbers, because what they were made of was. An operator
    /// that adds up weighs what goes in by its weights, of which nothing is known: it counts as exact.
    fn bytes(&self, tensor: &str) -> f64 {
        let behind = |tensor: &str| {
            let node = self.makers.get(tensor)?;
            match node.op_type.as_str() {
                "QuantizeLinear" => self.real(node.input.first()?),
                kind if STEADY_ON_BYTES.contains(&kind) => {
                    Some(self.scale(node, 1)? + self.bytes(node.input.first()?))
                }
                kind if STEADY.contains(&kind) => Some(self.bytes(node.input.first()?)),
                _ => None,
            }
        };
        behind(tensor).unwrap_or(0.0)
    }

    /// The scale that is input `place` of `node`.
    fn scale(&self, node: &NodeProto, place: usize) -> Option<f64> {
        scale_of(self.graph, node.input.get(place)?).map(f64::from)
    }

    /// Whether `tensor` is bytes that a quantised operator made.
    fn is_bytes(&self, tensor: &str) -> bool {
        let node = self.makers.get(tensor);
        node.is_some_and(|node| {
            makes_bytes(&node.op_type)
                || (STEADY.contains(&node.op_type.as_str())
                    && node.input.first().is_some_and(|input| self.is_bytes(input)))
        })
    }

    /// Whether anything that `tensor` is made of was rounded to bytes.
    fn is_behind_bytes(&self, tensor: &str) -> bool {
        let mut waiting = vec![tensor];
        let mut seen = HashSet::new();
        while let Some(tensor) = waiting.pop() {
            let Some(node) = self.makers.get(tensor).filter(|_| seen.insert(tensor)) else {
                continue;
            };
            if makes_bytes(&node.op_type) {
                return true;
            }
            waiting.extend(node.input.iter().map(String::as_str));
        }
        false
    }
}

/// Whether operators of this kind round to bytes.
fn makes_bytes(kind: &str) -> bool {
    kind.starts_with("QLinear")
        || matches!(kind, "QuantizeLinear" | "DynamicQuantizeLinear" | "QGemm")
}

#[cfg(test)]
mod tests;
