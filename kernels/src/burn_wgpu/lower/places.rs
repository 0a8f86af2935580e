//! Where elements lie: axes, extents, parts, and tensors side by side.

use burn_backend::ops::{FloatTensorOps as _, IntTensorOps as _, PadMode as BurnPad};
use burn_backend::{Shape, Slice as BurnSlice};
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::DatumType;
use tract_onnx::tract_hir::tract_core::ops::array::{
    Gather, MultiBroadcastTo, Pad, PadMode, Slice, TypedConcat,
};
use tract_onnx::tract_hir::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_hir::tract_core::ops::identity::Identity;

use super::{Form, Indices, Lowered, Sight, Step, of_all, of_one, take};

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    let real = match sight.to()? {
        DatumType::F32 => true,
        DatumType::I8 | DatumType::U8 | DatumType::I32 => false,
        _ => return None,
    };
    if let Some(axes) = sight.op.downcast_ref::<AxisOp>() {
        return Some(moved(sight, axes));
    }
    if sight.op.is::<Identity>() {
        return Some(of_one(|tensor| tensor));
    }
    if sight.op.is::<MultiBroadcastTo>() {
        let shape = Shape::from(sight.output().to_vec());
        let rank = sight.output().len();
        let lacking = rank.checked_sub(sight.shape(0).len())?;
        let mut full = vec![1; lacking];
        full.extend(sight.shape(0));
        let full = Shape::from(full);
        let expand = if real {
            CubeBackend::float_expand
        } else {
            CubeBackend::int_expand
        };
        return Some(of_one(move |tensor| {
            expand(reshape(tensor, full.clone()), shape.clone())
        }));
    }
    if let Some(concat) = sight.op.downcast_ref::<TypedConcat>() {
        let axis = concat.axis;
        let cat = if real {
            CubeBackend::float_cat
        } else {
            CubeBackend::int_cat
        };
        return Some(of_all(move |inputs| Ok(cat(inputs.into_vec(), axis))));
    }
    if let Some(slice) = sight.op.downcast_ref::<Slice>() {
        return part(sight, slice, real);
    }
    if let Some(sample) = sight.op.downcast_ref::<Downsample>() {
        return sampled(sight, sample, real);
    }
    if let Some(pad) = sight.op.downcast_ref::<Pad>() {
        return real.then(|| padded(pad))?;
    }
    None
}

fn moved(sight: &Sight<'_>, axes: &AxisOp) -> Step {
    if let AxisOp::Move(from, to) = axes {
        let mut order: Vec<usize> = (0..sight.shape(0).len()).collect();
        let axis = order.remove(*from);
        order.insert(*to, axis);
        return of_one(move |tensor| permute(tensor, &order));
    }
    let shape = Shape::from(sight.output().to_vec());
    of_one(move |tensor| reshape(tensor, shape.clone()))
}

/// Every so many elements of an axis; those of a negative step from the end.
fn sampled(sight: &Sight<'_>, sample: &Downsample, real: bool) -> Option<Step> {
    // The first `modulo` elements are left out.
    let start = isize::try_from(sample.modulo).ok()?;
    let step = sample.stride;
    if step <= 0 {
        return None;
    }
    let whole = |extent: &usize| BurnSlice::new(0, isize::try_from(*extent).ok(), 1);
    let mut slices: Vec<BurnSlice> = sight.shape(0).iter().map(whole).collect();
    let end = isize::try_from(*sight.shape(0).get(sample.axis)?).ok()?;
    *slices.get_mut(sample.axis)? = BurnSlice::new(start, Some(end), step);
    let cut = if real {
        CubeBackend::float_slice
    } else {
        CubeBackend::int_slice
    };
    Some(of_one(move |tensor| cut(tensor, &slices)))
}

fn part(sight: &Sight<'_>, slice: &Slice, real: bool) -> Option<Step> {
    let start = isize::try_from(slice.start.to_i64().ok()?).ok()?;
    let end = isize::try_from(slice.end.to_i64().ok()?).ok()?;
    let whole = |extent: &usize| BurnSlice::new(0, isize::try_from(*extent).ok(), 1);
    let mut slices: Vec<BurnSlice> = sight.shape(0).iter().map(whole).collect();
    *slices.get_mut(slice.axis)? = BurnSlice::new(start, Some(end), 1);
    let cut = if real {
        CubeBackend::float_slice
    } else {
        CubeBackend::int_slice
    };
    Some(of_one(move |tensor| cut(tensor, &slices)))
}

fn padded(pad: &Pad) -> Option<Step> {
    let PadMode::Constant(value) = &pad.mode else {
        return None;
    };
    let value = value.cast_to_scalar::<f32>().ok()?;
    let pads = pad.pads.clone();
    Some(of_one(move |tensor| fill(tensor, &pads, value)))
}

/// `tensor` with so many elements of `value` before and behind on each axis.
pub(super) fn fill(tensor: CubeTensor, pads: &[(usize, usize)], value: f32) -> CubeTensor {
    if pads.iter().all(|pad| *pad == (0, 0)) {
        return tensor;
    }
    CubeBackend::float_pad(tensor, pads, BurnPad::Constant(value))
}

/// The same elements in the same order, of a type that is not computed with on the device.
pub(super) fn viewed(sight: &Sight<'_>) -> Option<Form> {
    let is_real = sight.inputs.first()?.of == DatumType::F32;
    if let Some(axes) = sight.op.downcast_ref::<AxisOp>() {
        let is_moved = matches!(axes, AxisOp::Move(..));
        return (!is_real && !is_moved).then_some(Form::View);
    }
    // The one place of an axis that has one.
    let gather = sight.op.downcast_ref::<Gather>()?;
    let [data, indices] = sight.inputs.as_slice() else {
        return None;
    };
    let known = indices.value?.cast_to::<i64>().ok()?;
    let known = known.try_as_plain_ram().ok()?;
    let is_first = known.as_slice::<i64>().ok()? == [0];
    let is_whole = data.shape.get(gather.axis) == Some(&1);
    (is_first && is_whole && gather.output_type.is_none()).then_some(Form::View)
}

/// Rows of an axis by their indices.
pub(super) fn gathered(sight: &Sight<'_>) -> Option<Lowered> {
    let gather = sight.op.downcast_ref::<Gather>()?;
    let [data, indices] = sight.inputs.as_slice() else {
        return None;
    };
    if gather.output_type.is_some() || indices.of != DatumType::I64 {
        return None;
    }
    let select = match data.of {
        DatumType::F32 => CubeBackend::float_select,
        DatumType::I8 | DatumType::U8 | DatumType::I32 => CubeBackend::int_select,
        _ => return None,
    };
    let extent = *data.shape.get(gather.axis)?;
    let count: usize = indices.shape.iter().product();
    let (axis, shape) = (gather.axis, Shape::from(sight.output().to_vec()));
    let step = of_all(move |inputs| {
        let [data, indices] = take(inputs)?;
        let flat = reshape(indices, Shape::from(vec![count]));
        Ok(reshape(select(data, axis, flat), shape.clone()))
    });
    Some(Lowered {
        form: Form::Indexed(step, Indices { place: 1, extent }),
        takes: vec![0, 1],
    })
}
