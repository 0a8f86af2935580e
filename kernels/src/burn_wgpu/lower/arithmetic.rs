//! Two tensors, element by element, of equal rank: arithmetic, comparison, logic; and the choice of one of two.

use burn_backend::ops::{BoolTensorOps as _, FloatTensorOps as _};
use burn_backend::{BoolDType, DeviceOps as _, Scalar, Shape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::DatumType;
use tract_onnx::tract_hir::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_hir::tract_core::ops::logic::Iff;

use super::{Port, Sight, Step, of_all, of_two, take};

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    if sight.op.is::<Iff>() {
        return choice(sight);
    }
    let operator = sight.op.downcast_ref::<TypedBinOp>()?;
    let name = operator.0.name();
    match (sight.inputs.first()?.of, sight.inputs.get(1)?.of) {
        (DatumType::F32, DatumType::F32) if sight.to() == Some(DatumType::F32) => {
            bounded(sight, name).or_else(|| arithmetic(name))
        }
        (DatumType::F32, DatumType::F32) if sight.to() == Some(DatumType::Bool) => comparison(name),
        (DatumType::Bool, DatumType::Bool) if sight.to() == Some(DatumType::Bool) => logic(name),
        _ => None,
    }
}

/// The larger or the smaller of each element and one number.
fn bounded(sight: &Sight<'_>, name: &str) -> Option<Step> {
    let number = |port: &Port<'_>| port.value?.cast_to_scalar::<f32>().ok();
    let [left, right] = sight.inputs.as_slice() else {
        return None;
    };
    let (number, place) = match (number(left), number(right)) {
        (None, Some(number)) => (number, 0),
        (Some(number), None) => (number, 1),
        _ => return None,
    };
    // What is broadcast against the number keeps its extents only where the output has them.
    if sight.shape(place) != sight.output() || number.is_nan() {
        return None;
    }
    let bound = Scalar::Float(f64::from(number));
    let clamp: fn(CubeTensor, Scalar) -> CubeTensor = match name {
        "Max" => CubeBackend::float_clamp_min,
        "Min" => CubeBackend::float_clamp_max,
        _ => return None,
    };
    Some(of_two(move |left, right| {
        clamp(if place == 0 { left } else { right }, bound)
    }))
}

fn arithmetic(name: &str) -> Option<Step> {
    match name {
        "Add" => Some(of_two(CubeBackend::float_add)),
        "Sub" => Some(of_two(CubeBackend::float_sub)),
        "SubF" => Some(of_two(|left, right| CubeBackend::float_sub(right, left))),
        "Mul" => Some(of_two(CubeBackend::float_mul)),
        "Div" => Some(of_two(CubeBackend::float_div)),
        "Max" => Some(of_two(|left, right| {
            let less = CubeBackend::float_lower(left.clone(), right.clone(), bools(&left));
            choose(less, right, left)
        })),
        "Min" => Some(of_two(|left, right| {
            let less = CubeBackend::float_lower(right.clone(), left.clone(), bools(&left));
            choose(less, right, left)
        })),
        _ => None,
    }
}

fn comparison(name: &str) -> Option<Step> {
    type Compare = fn(CubeTensor, CubeTensor, BoolDType) -> CubeTensor;
    let compare: Compare = match name {
        "Eq" => CubeBackend::float_equal,
        "NE" => CubeBackend::float_not_equal,
        "LT" => CubeBackend::float_lower,
        "LTE" => CubeBackend::float_lower_equal,
        "GT" => CubeBackend::float_greater,
        "GTE" => CubeBackend::float_greater_equal,
        _ => return None,
    };
    Some(of_two(move |left, right| {
        let of = bools(&left);
        compare(left, right, of)
    }))
}

fn logic(name: &str) -> Option<Step> {
    match name {
        "And" => Some(of_two(CubeBackend::bool_and)),
        "Or" => Some(of_two(CubeBackend::bool_or)),
        "Xor" => Some(of_two(CubeBackend::bool_not_equal)),
        _ => None,
    }
}

/// `condition`, `then`, `otherwise`.
fn choice(sight: &Sight<'_>) -> Option<Step> {
    let [condition, then, otherwise] = sight.inputs.as_slice() else {
        return None;
    };
    let fits = condition.of == DatumType::Bool
        && then.of == DatumType::F32
        && otherwise.of == DatumType::F32;
    let shape = Shape::from(sight.output().to_vec());
    fits.then(|| -> Step {
        of_all(move |inputs| {
            let [condition, then, otherwise] = take(inputs)?;
            Ok(CubeBackend::float_mask_where(
                CubeBackend::float_expand(otherwise, shape.clone()),
                CubeBackend::bool_expand(condition, shape.clone()),
                CubeBackend::float_expand(then, shape.clone()),
            ))
        })
    })
}

/// `then` where `condition` holds, else `otherwise`; the condition has the extents of the result.
fn choose(condition: CubeTensor, then: CubeTensor, otherwise: CubeTensor) -> CubeTensor {
    let shape = burn_backend::TensorMetadata::shape(&condition);
    CubeBackend::float_mask_where(
        CubeBackend::float_expand(otherwise, shape.clone()),
        condition,
        CubeBackend::float_expand(then, shape),
    )
}

/// How the tensor's device keeps truths.
pub(super) fn bools(tensor: &CubeTensor) -> BoolDType {
    tensor.device.defaults().bool_dtype
}
