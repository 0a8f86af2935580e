//! What becomes of convolutions of real numbers.

use super::REAL_CONVOLUTION;
use super::rules::{Fused, Tail};
use super::sight::Sight;

/// What the node at place `at` becomes part of, where it is a convolution of real numbers whose filters
/// and bias are constants.
pub(super) fn fused(sight: &Sight<'_>, at: usize) -> Option<Fused> {
    let node = sight.node(at)?;
    (node.op_type == "Conv").then_some(())?;
    let [image, filters, bias @ ..] = node.input.as_slice() else {
        return None;
    };
    let tensor = sight.constant_reals(filters)?;
    if !matches!(tensor.dims.len(), 3 | 4) || sight.constant(image).is_some() {
        return None;
    }
    let mut inputs = vec![image.as_str(), filters];
    if let Some(bias) = bias.first().filter(|bias| !bias.is_empty()) {
        sight.constant_reals(bias)?;
        inputs.push(bias);
    }
    let tail = Tail::of_reals(sight, at)?;
    Some(tail.fuse(node, REAL_CONVOLUTION, inputs, node.attribute.clone()))
}
