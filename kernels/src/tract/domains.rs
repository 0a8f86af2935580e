//! Which operators mean what we have: a name alone says nothing, its domain does.
//!
//! tract finds an operator by its name whatever its domain, so a `Pad` of `com.microsoft` would run
//! as the standard one and answer something else. Must never let an operator pass whose domain it
//! does not know.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Contributed operators that are as onnxruntime's under the name of a standard one, or that tract
/// implements as onnxruntime does.
const CONTRIBUTED: [&str; 13] = [
    "BiasGelu",
    "DequantizeLinear",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuantizeLinear",
    "QuickGelu",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// The operators there are, by domain.
#[derive(Default)]
pub(super) struct Domains {
    /// What tract knows, by name alone, and ours of the standard domain.
    pub(super) standard: OnnxOpRegister,
    /// Ours of `ai.onnx.ml`.
    pub(super) ml: OnnxOpRegister,
    /// Ours of `com.microsoft`.
    pub(super) contributed: OnnxOpRegister,
}

/// Every operator that is not known in its domain, with the first node that uses it, subgraphs
/// included.
pub(super) fn unsupported_operators(known: &Domains, graph: &GraphProto) -> Vec<String> {
    let mut missing: Vec<(String, &str)> = Vec::new();
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        for node in &graph.node {
            let named = qualified(node);
            let is_known = is_known(known, node);
            if !is_known && missing.iter().all(|(operator, _)| *operator != named) {
                missing.push((named, &node.name));
            }
            let attributes = node.attribute.iter();
            graphs.extend(attributes.filter_map(|attribute| attribute.g.as_ref()));
        }
    }
    let described = missing.into_iter();
    described
        .map(|(operator, node)| format!("{operator} (node \"{node}\")"))
        .collect()
}

fn is_known(known: &Domains, node: &NodeProto) -> bool {
    let name = node.op_type.as_str();
    let of_ml = known.ml.0.contains_key(name);
    match node.domain.as_str() {
        "" | "ai.onnx" => known.standard.0.contains_key(name) && !of_ml,
        "ai.onnx.ml" => of_ml,
        "com.microsoft" => CONTRIBUTED.contains(&name) || known.contributed.0.contains_key(name),
        _ => false,
    }
}

/// The name, with the domain where that is not the standard one.
fn qualified(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" | "ai.onnx.ml" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    }
}
