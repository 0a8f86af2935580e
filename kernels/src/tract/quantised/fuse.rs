//! Makes operators on bytes of what stands between `DequantizeLinear` and `QuantizeLinear`.
//!
//! ```text
//! x, w  ->  DequantizeLinear  ->  Conv  [->  Relu or Clip]  [->  QuantizeLinear]      becomes one node
//! ```
//!
//! The rewriting is of the file's own graph, before tract has seen it, where the pattern is still as
//! onnxruntime's quantiser wrote it. What matches no rule stays as it is, and is computed in real
//! numbers. Only tensors whose scales are constants are rewritten, and only where the result is the
//! same but for the order of roundings. The reference never sees what is written here.

use tract_onnx::pb::{GraphProto, NodeProto};

use super::layout;

mod rules;
mod sight;

pub(super) use rules::whole;
use sight::Sight;

/// A convolution: the inputs of `QLinearConv`, of which those of the output may be missing.
pub(super) const CONVOLUTION: &str = "EdgewardConvolution";
/// A product of matrices: the inputs of `QGemm`.
pub(super) const PRODUCT: &str = "EdgewardProduct";
/// The inputs of `QLinearAdd`.
pub(super) const ADD: &str = "EdgewardAdd";
/// The inputs of `QLinearMul`.
pub(super) const MULTIPLY: &str = "EdgewardMul";
/// The inputs of `QLinearSigmoid`.
pub(super) const TABLE: &str = "EdgewardTable";
/// The inputs of `QLinearConcat`.
pub(super) const CONCAT: &str = "EdgewardConcat";
/// The inputs of `QLinearAveragePool`; of the largest, only the image.
pub(super) const POOLS: [&str; 3] = [
    "EdgewardMaxPool",
    "EdgewardAveragePool",
    "EdgewardGlobalAveragePool",
];

/// Rewrites `graph`.
pub(in crate::tract) fn fuse(graph: &mut GraphProto) {
    let mut nodes: Vec<Option<NodeProto>> = graph.node.iter().cloned().map(Some).collect();
    let sight = Sight::of(graph);
    let mut rewritten = 0_usize;
    for at in 0..graph.node.len() {
        let Some(fused) = rules::fused(&sight, at) else {
            continue;
        };
        rewritten += 1;
        for gone in &fused.gone {
            if let Some(node) = nodes.get_mut(*gone) {
                *node = None;
            }
        }
        if let Some(node) = nodes.get_mut(fused.at) {
            *node = Some(fused.node);
        }
    }
    if rewritten == 0 {
        return;
    }
    graph.node = nodes.into_iter().flatten().collect();
    layout::channels_last(graph);
    drop_unused(graph);
}

/// Takes out what was only there to be computed with.
fn drop_unused(graph: &mut GraphProto) {
    loop {
        let sight = Sight::of(graph);
        let unused = |node: &NodeProto| {
            matches!(
                node.op_type.as_str(),
                "DequantizeLinear" | layout::LAST | layout::FIRST
            ) && node.output.iter().all(|output| sight.is_unused(output))
        };
        let keep: Vec<bool> = graph.node.iter().map(|node| !unused(node)).collect();
        if keep.iter().all(|keep| *keep) {
            return;
        }
        let mut keep = keep.into_iter();
        graph.node.retain(|_| keep.next().unwrap_or(true));
    }
}

/// The value of a constant of one real number in `graph`.
pub(super) fn scale_of(graph: &GraphProto, name: &str) -> Option<f32> {
    Sight::of(graph).real(name)
}

#[cfg(test)]
mod tests;
