//! Quantised models: weights and activations of 8 bits.
//!
//! | folder | what is in it |
//! |---|---|
//! | `linear` | `QuantizeLinear`, `DequantizeLinear`, `DynamicQuantizeLinear` |
//! | `matrix`, `convolution` | products of bytes, with sums of 32 bits (`product`), and what leaves them (`finish`) |
//! | `binary`, `table`, `pool`, `concat`, `softmax` | operators that onnxruntime's quantiser writes beside those |
//! //! | `steps` | how far an answer may lie from the expected one, because something was rounded to 8 bits |
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
mod parameters;
mod pool;
mod product;
mod signed;
mod softmax;
pub(super) mod steps;
mod table;

pub(super) use table::FUNCTION;

/// Puts the standard operators into `register`, in place of tract's.
pub(super) fn register(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    register.insert("QuantizeLinear", build::<linear::QuantizeLinear>);
    register.insert("DequantizeLinear", build::<linear::DequantizeLinear>);
    register.insert(
        "DynamicQuantizeLinear",
        build::<linear::DynamicQuantizeLinear>,
    );
    for name in ["MatMulInteger", "QLinearMatMul"] {
        match evaluation {
            Evaluation::Kernel => register.insert(name, build::<matrix::Product<false>>),
            Evaluation::Reference => register.insert(name, build::<matrix::Product<true>>),
        }
    }
    for name in ["ConvInteger", "QLinearConv"] {
        match evaluation {
            Evaluation::Kernel => register.insert(name, build::<convolution::Convolution<false>>),
            Evaluation::Reference => {
                register.insert(name, build::<convolution::Convolution<true>>);
            }
        }
    }
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
    match evaluation {
        Evaluation::Kernel => register.insert("QGemm", build::<matrix::Product<false>>),
        Evaluation::Reference => register.insert("QGemm", build::<matrix::Product<true>>),
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
