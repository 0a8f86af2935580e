//! One tensor, element by element.

use burn_backend::ops::{
    ActivationOps as _, BoolTensorOps as _, FloatTensorOps as _, IntTensorOps as _,
};
use burn_backend::{FloatDType, Scalar};
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::DatumType;
use tract_onnx::tract_hir::tract_core::ops::cast::Cast;
use tract_onnx::tract_hir::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_hir::tract_core::ops::math::PowConst;
use tract_onnx::tract_hir::tract_core::ops::nn::LeakyRelu;

use super::{Form, Sight, Step, of_one};

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    let input = sight.inputs.first()?;
    if sight.op.is::<Cast>() {
        return match (input.of, sight.to()?) {
            (DatumType::Bool, DatumType::F32) => Some(of_one(|tensor| {
                CubeBackend::bool_into_float(tensor, FloatDType::F32)
            })),
            (DatumType::I32 | DatumType::U8 | DatumType::I8, DatumType::F32) => {
                Some(of_one(|tensor| {
                    CubeBackend::int_into_float(tensor, FloatDType::F32)
                }))
            }
            // They are the same there.
            (DatumType::I8 | DatumType::U8, DatumType::I32) => Some(of_one(|tensor| tensor)),
            (from, to) if from == to => Some(of_one(|tensor| tensor)),
            _ => None,
        };
    }
    let operator = sight.op.downcast_ref::<ElementWiseOp>()?;
    if operator.0.name() == "Not" && input.of == DatumType::Bool {
        return Some(of_one(CubeBackend::bool_not));
    }
    (sight.is_real() && operator.1.is_none()).then(|| function(&*operator.0))?
}

/// A cast to real numbers of what is not computed with on the device: it goes over as real numbers.
pub(super) fn entered(sight: &Sight<'_>) -> Option<Form> {
    let from = sight.inputs.first()?.of;
    let is_cast = sight.op.is::<Cast>() && sight.to() == Some(DatumType::F32);
    let elsewhere = matches!(
        from,
        DatumType::I16
            | DatumType::I64
            | DatumType::U16
            | DatumType::U32
            | DatumType::U64
            | DatumType::F64
    );
    (is_cast && elsewhere).then_some(Form::Enter(DatumType::F32))
}

fn function(operator: &dyn ElementWiseMiniOp) -> Option<Step> {
    if let Some(power) = operator.downcast_ref::<PowConst>() {
        let exponent = Scalar::Float(f64::from(power.exponent));
        return Some(of_one(move |x| CubeBackend::float_powf_scalar(x, exponent)));
    }
    if let Some(leaky) = operator.downcast_ref::<LeakyRelu>() {
        let slope = Scalar::Float(f64::from(leaky.alpha));
        return Some(of_one(move |x| CubeBackend::leaky_relu(x, slope)));
    }
    Some(match operator.name().as_str() {
        "Abs" => of_one(CubeBackend::float_abs),
        "Acos" => of_one(CubeBackend::float_acos),
        "Asin" => of_one(CubeBackend::float_asin),
        "Atan" => of_one(CubeBackend::float_atan),
        "Ceil" => of_one(CubeBackend::float_ceil),
        "Cos" => of_one(CubeBackend::float_cos),
        "Cosh" => of_one(CubeBackend::float_cosh),
        "Erf" => of_one(CubeBackend::float_erf),
        "Exp" => of_one(CubeBackend::float_exp),
        "Floor" => of_one(CubeBackend::float_floor),
        "GeluExact" => of_one(CubeBackend::gelu),
        "HardSwish" => of_one(|x| {
            let gate = CubeBackend::float_add_scalar(x.clone(), Scalar::Float(3.0));
            let gate = CubeBackend::float_clamp(gate, Scalar::Float(0.0), Scalar::Float(6.0));
            let gate = CubeBackend::float_div_scalar(gate, Scalar::Float(6.0));
            CubeBackend::float_mul(x, gate)
        }),
        "Ln" => of_one(CubeBackend::float_log),
        "Neg" => of_one(CubeBackend::float_neg),
        "Recip" => of_one(CubeBackend::float_recip),
        "Rsqrt" => of_one(|x| CubeBackend::float_recip(CubeBackend::float_sqrt(x))),
        "Sigmoid" => of_one(CubeBackend::sigmoid),
        "Silu" => of_one(|x| CubeBackend::float_mul(x.clone(), CubeBackend::sigmoid(x))),
        "Sin" => of_one(CubeBackend::float_sin),
        "Sinh" => of_one(CubeBackend::float_sinh),
        "Sqrt" => of_one(CubeBackend::float_sqrt),
        "Square" => of_one(|x| CubeBackend::float_mul(x.clone(), x)),
        "Tan" => of_one(CubeBackend::float_tan),
        "Tanh" => of_one(CubeBackend::float_tanh),
        _ => return None,
    })
}
