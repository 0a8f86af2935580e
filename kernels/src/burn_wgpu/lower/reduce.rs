//! Axes that become one element: sums, extremes, products, and the softmax along one.

use burn_backend::Scalar;
use burn_backend::ops::{ActivationOps as _, FloatTensorOps as _};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::tract_hir::tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind};

use super::{Sight, Step, of_one};

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    if !sight.is_real() {
        return None;
    }
    if let Some(softmax) = sight.op.downcast_ref::<Softmax>() {
        let [axis] = softmax.axes.as_slice() else {
            return None;
        };
        let axis = *axis;
        return match softmax.kind {
            SoftmaxKind::Softmax => Some(of_one(move |x| CubeBackend::softmax(x, axis))),
            SoftmaxKind::LogSoftmax => Some(of_one(move |x| CubeBackend::log_softmax(x, axis))),
        };
    }
    if let Some(norm) = sight.op.downcast_ref::<RmsNorm>() {
        return normalised(sight, norm);
    }
    let reduce = sight.op.downcast_ref::<Reduce>()?;
    let axes = reduce.axes.to_vec();
    let over = move |along: fn(CubeTensor, usize) -> CubeTensor| {
        Some(of_one(move |x| {
            axes.iter().fold(x, |x, axis| along(x, *axis))
        }))
    };
    match reduce.reducer {
        Reducer::Sum => over(CubeBackend::float_sum_dim),
        Reducer::Max => over(CubeBackend::float_max_dim),
        Reducer::Min => over(CubeBackend::float_min_dim),
        Reducer::Prod => over(CubeBackend::float_prod_dim),
        Reducer::MeanOfSquares => {
            let axes = reduce.axes.to_vec();
            Some(of_one(move |x| {
                let squares = CubeBackend::float_mul(x.clone(), x);
                let mean = CubeBackend::float_mean_dim;
                axes.iter().fold(squares, |x, axis| mean(x, *axis))
            }))
        }
        Reducer::ArgMax(_) | Reducer::ArgMin(_) | Reducer::All | Reducer::Any => None,
    }
}

/// Each element over the root of the mean of squares along an axis.
fn normalised(sight: &Sight<'_>, norm: &RmsNorm) -> Option<Step> {
    let axis = norm.axis;
    let epsilon = Scalar::Float(f64::from(norm.eps.cast_to_scalar::<f32>().ok()?));
    (axis < sight.shape(0).len()).then(|| {
        Some(of_one(move |x| {
            let squares = CubeBackend::float_mul(x.clone(), x.clone());
            let mean = CubeBackend::float_mean_dim(squares, axis);
            let root = CubeBackend::float_sqrt(CubeBackend::float_add_scalar(mean, epsilon));
            CubeBackend::float_div(x, root)
        }))
    })?
}
