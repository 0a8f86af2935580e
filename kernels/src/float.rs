//! Arithmetic on real numbers of 32 bits: the loops that networks spend their time in.
//!
//! Knows neither ONNX nor an engine, allocates nothing in a loop, and must never read outside its
//! slices. Loops are written once over vectors of any width (`lanes`), and run
//! with the widest that the processor has; functions are plain Rust, compiled once for each width
//! (`cpu`). Images lie with their channels last.
//!
//! Each row of a product and each pixel of a convolution is summed up in one order, whatever stands
//! beside it: a batch answers each row as it does alone, to the bit. From processor to processor sums
//! differ in their last bits, because some round once where others round twice.

pub mod cell;
pub mod depthwise;
pub mod function;
mod lanes;
pub mod normal;
pub mod pool;
pub mod product;
pub mod softmax;
pub mod sum;

/// The range that results are held in. NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The smallest number that may leave.
    pub least: f32,
    /// The largest.
    pub most: f32,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self {
        least: f32::NEG_INFINITY,
        most: f32::INFINITY,
    };
}

#[cfg(test)]
mod tests;
