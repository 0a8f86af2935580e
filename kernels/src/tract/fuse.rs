//! Makes one operator of several: on bytes of what stands between `DequantizeLinear` and
//! `QuantizeLinear`, and on real numbers of a convolution and the activation behind it.
//!
//! ```text
//! x, w  ->  DequantizeLinear  ->  Conv  [->  Relu or Clip]  [->  QuantizeLinear]      becomes one node
//! x  ->  Conv  [->  Relu or Clip]                                                     becomes one node
//! ```
//!
//! The rewriting is of the file's own graph, before tract has seen it, where the pattern is still as
//! onnxruntime's quantiser wrote it. What matches no rule stays as it is, and is computed in real
//! numbers. Only tensors whose scales are constants are rewritten, or found by a `DynamicQuantizeLinear`,
//! and only where the result is the same but for the order of roundings. The reference never sees what
//! is written here.

use tract_onnx::pb::{GraphProto, NodeProto};

use super::image::layout;

mod dynamic;
mod real;
mod rules;
mod sight;

pub(in crate::tract) use rules::whole;
use sight::Sight;
pub(super) use sight::written_out;

/// How all of them are named: no file may name one.
pub(super) const PREFIX: &str = "Edgeward";
/// How those on real numbers are.
pub(super) const REAL_PREFIX: &str = "EdgewardReal";

/// A convolution: the inputs of `QLinearConv`, of which those of the output may be missing.
pub(in crate::tract) const CONVOLUTION: &str = "EdgewardConvolution";
/// A product of matrices: the inputs of `QGemm`.
pub(in crate::tract) const PRODUCT: &str = "EdgewardProduct";
/// The inputs of `QLinearAdd`.
pub(in crate::tract) const ADD: &str = "EdgewardAdd";
/// The inputs of `QLinearMul`.
pub(in crate::tract) const MULTIPLY: &str = "EdgewardMul";
/// The inputs of `QLinearSigmoid`.
pub(in crate::tract) const TABLE: &str = "EdgewardTable";
/// The inputs of `QLinearConcat`.
pub(in crate::tract) const CONCAT: &str = "EdgewardConcat";
/// The inputs of `QLinearAveragePool`; of the largest, only the image.
pub(in crate::tract) const POOLS: [&str; 3] = [
    "EdgewardMaxPool",
    "EdgewardAveragePool",
    "EdgewardGlobalAveragePool",
];

/// A convolution of real numbers: the inputs of `Conv`, with constant filters.
pub(super) const REAL_CONVOLUTION: &str = "EdgewardRealConvolution";
/// A sum of two tensors of real numbers: the inputs of `Add`.
pub(super) const REAL_ADD: &str = "EdgewardRealAdd";
/// A product of real numbers with constant weights: the inputs of `Gemm`.
pub(super) const REAL_PRODUCT: &str = "EdgewardRealProduct";
/// The Gaussian error linear unit of one tensor.
pub(super) const REAL_GELU: &str = "EdgewardRealGelu";
/// A layer normalisation along the last axis: the inputs of `LayerNormalization`, with constant scale and bias.
pub(super) const REAL_NORMAL: &str = "EdgewardRealNormal";
/// A softmax along the last axis.
pub(super) const REAL_SOFTMAX: &str = "EdgewardRealSoftmax";
/// Pools over images of real numbers, of which a convolution hands on the channels last.
pub(super) const REAL_POOLS: [&str; 3] = [
    "EdgewardRealMaxPool",
    "EdgewardRealAveragePool",
    "EdgewardRealGlobalAveragePool",
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
pub(in crate::tract) fn scale_of(graph: &GraphProto, name: &str) -> Option<f32> {
    Sight::of(graph).real(name)
}

#[cfg(test)]
mod tests;
