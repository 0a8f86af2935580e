//! What an engine that computes features itself has to know of an operator.

use tract_onnx::tract_hir::tract_core::ops::TypedOp;

use super::super::operator::seen;
use super::imputer::Imputer;
use super::scaler::Scaler;

/// An operator on features of real numbers; its lists have one number for each feature, or one for all.
#[derive(Debug)]
pub(crate) enum Features<'a> {
    /// `(x - offset) * scale`
    Scaled {
        /// As many as `scale`.
        offset: &'a [f32],
        /// The other.
        scale: &'a [f32],
    },
    /// What is `missing`, which may be NaN, is replaced.
    Filled {
        /// What is replaced.
        missing: f32,
        /// By what.
        fill: &'a [f32],
    },
}

/// What `op` is.
pub(crate) fn features(op: &dyn TypedOp) -> Option<Features<'_>> {
    if let Some(scaler) = seen::<Scaler>(op) {
        let (offset, scale) = scaler.rule();
        return Some(Features::Scaled { offset, scale });
    }
    match seen::<Imputer>(op)? {
        Imputer::Floats { missing, fill } => Some(Features::Filled {
            missing: *missing,
            fill,
        }),
        Imputer::Integers { .. } => None,
    }
}
