//! Quantised models: weights and activations of 8 bits.
//!
//! | folder | what is in it |
//! |---|---|
//! | `linear` | `QuantizeLinear`, `DequantizeLinear`, `DynamicQuantizeLinear` |
//! | `matrix`, `convolution` | products of bytes, with sums of 32 bits (`product`), and what leaves them (`finish`) |
//! | `binary`, `table`, `pool`, `concat`, `softmax` | operators that onnxruntime's quantiser writes beside those |
//! | `nibbles` | weights of 4 bits |
//! | `spelled`, `sight` | the same operators for the engine of a GPU |
//! | `steps` | how far an answer may lie from the expected one, because something was rounded to 8 bits |
//!
//! What lies between `DequantizeLinear` and `QuantizeLinear` is made operators on bytes by `fuse`.
//!
//! None of tract's own quantised operators is used. The reference evaluates a model as its file states
//! it, in real numbers wherever the file does; the kernel computes the same on bytes. Must never take
//! two scales for one.

use tract_onnx::model::OnnxOpRegister;

use super::fuse;
use super::operator::{Build, Evaluation, Operator, Port, as_f32, build, only, only_tensor};

mod binary;
mod concat;
mod convolution;
mod finish;
mod linear;
mod matrix;
pub(super) mod nibbles;
mod parameters;
mod pool;
mod product;
#[cfg(feature = "wgpu")]
mod sight;
mod signed;
mod softmax;
#[cfg(feature = "wgpu")]
pub(super) mod spelled;
pub(super) mod steps;
mod table;

#[cfg(feature = "wgpu")]
pub(crate) use linear::Along;
#[cfg(feature = "wgpu")]
pub(crate) use sight::{Affine, Quantised, Taps, quantised};
pub(super) use table::FUNCTION;

/// Puts the standard operators into `register`, in place of tract's.
pub(super) fn register(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    let plain = evaluation.is_plain();
    register.insert("QuantizeLinear", build::<linear::QuantizeLinear>);
    register.insert(
        "DequantizeLinear",
        evaluation.builder::<linear::DequantizeLinear>(),
    );
    register.insert(
        "DynamicQuantizeLinear",
        build::<linear::DynamicQuantizeLinear>,
    );
    let product = if plain {
        build::<matrix::Product<true>>
    } else {
        evaluation.builder::<matrix::Product<false>>()
    };
    register.insert("MatMulInteger", product);
    register.insert("QLinearMatMul", product);
    let convolution = if plain {
        build::<convolution::Convolution<true>>
    } else {
        evaluation.builder::<convolution::Convolution<false>>()
    };
    register.insert("ConvInteger", convolution);
    register.insert("QLinearConv", convolution);
}

/// Puts the operators of `com.microsoft` that onnxruntime's quantiser writes into `register`.
pub(super) fn register_contributed(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    register.insert("QLinearAdd", build::<binary::QLinearBinary>);
    register.insert("QLinearMul", build::<binary::QLinearBinary>);
    register.insert("QLinearAveragePool", build::<pool::Pool>);
    register.insert("QLinearGlobalAveragePool", build::<pool::Pool>);
    register.insert("QLinearConcat", build::<concat::QLinearConcat>);
    register.insert("QLinearSigmoid", build::<table::Table>);
    register.insert("QLinearLeakyRelu", build::<table::Table>);
    register.insert("QLinearSoftmax", build::<softmax::QLinearSoftmax>);
    if evaluation.is_plain() {
        register.insert("QGemm", build::<matrix::Product<true>>);
    } else {
        register.insert("QGemm", build::<matrix::Product<false>>);
    }
}

/// Puts the operators that `fuse` writes into `register`. No file may name them.
pub(super) fn register_fused(register: &mut OnnxOpRegister) {
    register.insert(fuse::CONVOLUTION, build::<convolution::Convolution<false>>);
    register.insert(fuse::PRODUCT, build::<matrix::Product<false>>);
    register.insert(fuse::ADD, build::<binary::QLinearBinary>);
    register.insert(fuse::MULTIPLY, build::<binary::QLinearBinary>);
    register.insert(fuse::TABLE, build::<table::Table>);
    register.insert(fuse::CONCAT, build::<concat::QLinearConcat>);
    for pool in fuse::POOLS {
        register.insert(pool, build::<pool::Pool>);
    }
}
