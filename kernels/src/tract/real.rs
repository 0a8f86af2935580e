//! What `fuse` makes of operators on real numbers: products and convolutions with the activation behind
//! them, and pools, images with channels last; softmax, layer normalisation and gelu.
//!
//! The reference evaluates a model as its file states it, by tract's own operators. Must never round
//! to anything: that is `quantised`.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::TractResult;

use super::fuse;
use super::operator::{Build, Operator, Port, build};
use crate::float::Bounds;

mod add;
mod convolution;
mod gelu;
mod normal;
mod pool;
mod product;
mod softmax;

/// Puts the operators that `fuse` writes into `register`. No file may name them.
pub(super) fn register_fused(register: &mut OnnxOpRegister) {
    register.insert(fuse::REAL_CONVOLUTION, build::<convolution::Convolution>);
    register.insert(fuse::REAL_ADD, build::<add::Add>);
    register.insert(fuse::REAL_PRODUCT, build::<product::Product>);
    register.insert(fuse::REAL_GELU, build::<gelu::Gelu>);
    register.insert(fuse::REAL_NORMAL, build::<normal::Normal>);
    register.insert(fuse::REAL_SOFTMAX, build::<softmax::Softmax>);
    for pool in fuse::REAL_POOLS {
        register.insert(pool, build::<pool::Pool>);
    }
}

/// The range that the activation behind an operator holds its results in.
fn bounds(node: &NodeProto) -> TractResult<Bounds> {
    Ok(Bounds {
        least: node.get_attr_opt("least")?.unwrap_or(Bounds::NONE.least),
        most: node.get_attr_opt("most")?.unwrap_or(Bounds::NONE.most),
    })
}
