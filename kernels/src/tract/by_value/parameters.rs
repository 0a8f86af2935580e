//! Which inputs of a model say how to compute rather than what: their values decide on shapes.
//!
//! An input that an operator takes for a parameter is one, and so is one from which such a parameter
//! is computed by arithmetic on a few numbers. Must never name an input that data flows from by any
//! other way: a plan would be made for each of its values.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, NodeProto};

/// Operators that parameters are computed with.
const ARITHMETIC: [&str; 35] = [
    "Abs",
    "Add",
    "And",
    "Cast",
    "CastLike",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Greater",
    "Identity",
    "Less",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Range",
    "ReduceProd",
    "Reshape",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tile",
    "Unsqueeze",
    "Where",
];

/// The names of the inputs of `graph` that are parameters, and of all that they are computed by.
pub(super) fn of(graph: &GraphProto) -> HashSet<&str> {
    let mut parameters = HashSet::new();
    loop {
        let before = parameters.len();
        gather(graph, &mut parameters);
        // A subgraph may want what the graph around it computes.
        if parameters.len() == before {
            return parameters;
        }
    }
}

fn gather<'a>(graph: &'a GraphProto, parameters: &mut HashSet<&'a str>) {
    // Nodes stand after those whose outputs they take, so that parameters are found before what they
    // are computed from.
    for node in graph.node.iter().rev() {
        let mut outputs = node.output.iter();
        let wanted = ARITHMETIC.contains(&node.op_type.as_str())
            && outputs.any(|output| parameters.contains(output.as_str()));
        for (position, input) in node.input.iter().enumerate() {
            if !input.is_empty() && (wanted || is_parameter(node, position)) {
                parameters.insert(input.as_str());
            }
        }
        let subgraphs = node.attribute.iter();
        for subgraph in subgraphs.filter_map(|attribute| attribute.g.as_ref()) {
            if node.op_type == "If" {
                let outputs = node.output.iter().zip(&subgraph.output);
                let wanted = outputs.filter(|(outer, _)| parameters.contains(outer.as_str()));
                let inner: Vec<&str> = wanted.map(|(_, inner)| inner.name.as_str()).collect();
                parameters.extend(inner);
            }
            gather(subgraph, parameters);
        }
    }
}

/// Whether this operator takes its input of this position for a parameter.
fn is_parameter(node: &NodeProto, position: usize) -> bool {
    match node.op_type.as_str() {
        "BlackmanWindow" | "ConstantOfShape" | "HammingWindow" | "HannWindow" | "If" => {
            position == 0
        }
        "Range" | "MelWeightMatrix" => true,
        "Expand" | "Reshape" | "Squeeze" | "Tile" | "TopK" | "Unsqueeze" | "Upsample"
        | "CumSum" | "Split" | "Trilu" | "AffineGrid" | "CenterCropPad" => position == 1,
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
        | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => {
            position == 1
        }
        "Slice" | "Pad" | "Resize" | "Col2Im" | "OneHot" | "DFT" | "Dropout" | "STFT" => {
            position >= 1
        }
        "BatchNormalization" => position >= 1,
        "MaxUnpool" | "NonMaxSuppression" => position >= 2,
        _ => false,
    }
}
