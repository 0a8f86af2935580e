//! What `fuse` makes of operators on images of real numbers: convolutions with the activation behind
//! them, and pools, with channels last.
//!
//! The reference evaluates a model as its file states it, by tract's own operators. Must never round
//! to anything: that is `quantised`.

use tract_onnx::model::OnnxOpRegister;

use super::fuse;
use super::operator::{Build, Operator, Port, build};

mod convolution;
mod pool;

/// Puts the operators that `fuse` writes into `register`. No file may name them.
pub(super) fn register_fused(register: &mut OnnxOpRegister) {
    register.insert(fuse::REAL_CONVOLUTION, build::<convolution::Convolution>);
    for pool in fuse::REAL_POOLS {
        register.insert(pool, build::<pool::Pool>);
    }
}
