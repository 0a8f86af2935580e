//! What an engine that computes quantised operators itself has to know of one.

use tract_onnx::prelude::{Tensor, TractResult};
use tract_onnx::tract_hir::tract_core::ops::TypedOp;

use super::super::operator::seen;
use super::convolution::Convolution;
use super::linear::{Along, DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear};
use super::matrix::Product;

/// A quantised operator.
#[derive(Debug)]
pub(crate) enum Quantised {
    /// Real numbers, the one input that changes, to whole ones.
    Quantise(Affine),
    /// Whole numbers, input 0, to real ones.
    Dequantise(Affine),
    /// Real numbers to `u8`, with the scale and the zero point that fit them: three outputs.
    QuantiseByRange,
    /// Whole numbers, inputs 0 and 1, to the sums of 32 bits of their products. `zeros` are the inputs
    /// with their zero points.
    Product {
        /// Of inputs 0 and 1.
        zeros: [Option<usize>; 2],
    },
    /// The same over the windows of images with channels first.
    Convolution {
        /// Of inputs 0 and 1.
        zeros: [Option<usize>; 2],
        /// How the window moves.
        taps: Taps,
    },
}

/// How whole numbers are read as real ones: `(whole - zero) * scale`.
#[derive(Debug)]
pub(crate) struct Affine {
    /// One; or one for each place along an axis; or one for each block.
    pub(crate) scales: Vec<f32>,
    /// As many.
    pub(crate) zeros: Vec<i32>,
    /// The axis.
    pub(crate) along: Along,
}

/// How a window of two axes moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps {
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Rows and columns of the window.
    pub(crate) kernel: [usize; 2],
    /// From one window to the next.
    pub(crate) strides: [usize; 2],
    /// From one pixel of a window to the next.
    pub(crate) dilations: [usize; 2],
    /// Padding above and to the left.
    pub(crate) before: [usize; 2],
    /// Rows and columns of the image.
    pub(crate) image: [usize; 2],
    /// Rows and columns of the output.
    pub(crate) output: [usize; 2],
}

/// What `op` is, if its scales are known: `constants` has the inputs that never change, `shapes` the
/// extents of all.
pub(crate) fn quantised(
    op: &dyn TypedOp,
    constants: &[Option<&Tensor>],
    shapes: &[&[usize]],
) -> TractResult<Option<Quantised>> {
    if let Some(linear) = seen::<QuantizeLinear>(op) {
        return Ok(linear.affine(constants)?.map(Quantised::Quantise));
    }
    if let Some(linear) = seen::<DequantizeLinear>(op) {
        return Ok(linear.affine(constants)?.map(Quantised::Dequantise));
    }
    if seen::<DynamicQuantizeLinear>(op).is_some() {
        return Ok(Some(Quantised::QuantiseByRange));
    }
    if let Some(product) = seen::<Product<false>>(op) {
        return Ok(product.integer().map(|zeros| Quantised::Product { zeros }));
    }
    match seen::<Convolution<false>>(op) {
        Some(convolution) => convolution.integer(shapes),
        None => Ok(None),
    }
}
