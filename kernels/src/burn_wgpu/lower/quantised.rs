//! Whole numbers that stand for real ones: to them and back, and the products of both.
//!
//! Bytes and sums of 32 bits are `i32` on the device. Weights that never change stay packed
//! ([`super::super::packed`]).

use std::sync::Arc;

use burn_backend::ops::FloatTensorOps as _;
use burn_backend::{DType, Shape};
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult, tvec};

use super::super::packed::{self, Arrangement, Packed};
use super::image::flat;
use super::{Lowered, Port, Sight, image, of_all, product, take};
use crate::tract::{Affine, Along, Quantised, Taps, quantised};

pub(super) fn lower(sight: &Sight<'_>) -> TractResult<Option<Lowered>> {
    if let Some(lowered) = product::packed(sight)? {
        return Ok(Some(lowered));
    }
    if let Some(lowered) = product::in_parts(sight)? {
        return Ok(Some(lowered));
    }
    if let Some(lowered) = image::packed(sight)? {
        return Ok(Some(lowered));
    }
    let constants: TVec<Option<&Tensor>> = sight
        .inputs
        .iter()
        .map(|port| port.value.map(|value| &**value))
        .collect();
    let shapes: TVec<&[usize]> = sight.inputs.iter().map(|port| &*port.shape).collect();
    match quantised(sight.op, &constants, &shapes)? {
        None => Ok(None),
        Some(Quantised::Quantise(affine)) => quantise(sight, &affine),
        Some(Quantised::Dequantise(affine)) => dequantise(sight, &affine),
        Some(Quantised::QuantiseByRange) => Ok(Some(by_range())),
        Some(Quantised::Product { zeros }) => matrices(sight, zeros),
        Some(Quantised::Convolution { zeros, taps }) => windows(sight, zeros, taps),
    }
}

/// The scales of an affine on the device, and how many neighbours share one; `None` for blocks.
fn scales(sight: &Sight<'_>, affine: &Affine) -> TractResult<Option<([CubeTensor; 2], usize)>> {
    let shape = sight.shape(0);
    let count = affine.scales.len();
    let inner = match (count, affine.along.block) {
        (1, None) => shape.iter().product(),
        (_, None) => {
            let (before, behind) = shape.split_at(affine.along.place(shape)? + 1);
            if before.last() != Some(&count) {
                return Ok(None);
            }
            behind.iter().product()
        }
        _ => return Ok(None),
    };
    let device = sight.store.device;
    let scales = device.numbers(&affine.scales, &[count], DType::F32)?;
    let zeros = device.numbers(&affine.zeros, &[count], DType::I32)?;
    Ok(Some(([scales, zeros], inner)))
}

fn quantise(sight: &Sight<'_>, affine: &Affine) -> TractResult<Option<Lowered>> {
    let (from, to) = (sight.inputs.first().map(|port| port.of), sight.to());
    let (Some(DatumType::F32), Some(to @ (DatumType::I8 | DatumType::U8))) = (from, to) else {
        return Ok(None);
    };
    let Some(([scales, zeros], inner)) = scales(sight, affine)? else {
        return Ok(None);
    };
    let step = of_all(move |inputs| {
        let [numbers] = take(inputs)?;
        packed::quantise(numbers, [&scales, &zeros], inner, to)
    });
    Ok(Some(Lowered::of([0], step)))
}

fn dequantise(sight: &Sight<'_>, affine: &Affine) -> TractResult<Option<Lowered>> {
    let Some(port) = sight
        .inputs
        .first()
        .filter(|_| sight.to() == Some(DatumType::F32))
    else {
        return Ok(None);
    };
    if let Some(tensor) = port.value
        && matches!(port.of, DatumType::I8 | DatumType::U8)
    {
        return constant(sight, (tensor, affine));
    }
    if !matches!(port.of, DatumType::I8 | DatumType::U8 | DatumType::I32) {
        return Ok(None);
    }
    let Some(([scales, zeros], inner)) = scales(sight, affine)? else {
        return Ok(None);
    };
    let step = of_all(move |inputs| {
        let [numbers] = take(inputs)?;
        packed::dequantise(numbers, [&scales, &zeros], inner)
    });
    Ok(Some(Lowered::of([0], step)))
}

/// Weights for an operator that does not read them packed: they are real numbers while it runs.
fn constant(
    sight: &Sight<'_>,
    (tensor, affine): (&Arc<Tensor>, &Affine),
) -> TractResult<Option<Lowered>> {
    let rank = tensor.rank();
    let mut order: Vec<usize> = (0..rank).collect();
    let mut leading = rank.min(1);
    if affine.scales.len() > 1 || affine.along.block.is_some() {
        let axis = order.remove(affine.along.place(tensor.shape())?);
        // Blocks lie along the depth; else each place along the axis is a column.
        if affine.along.block.is_some() {
            leading = order.len();
            order.push(axis);
        } else {
            order.insert(0, axis);
        }
    }
    let arrangement = Arrangement {
        order: order.clone(),
        leading,
    };
    let store = sight.store;
    let packed = store
        .weights
        .packed(store.device, tensor, affine, &arrangement)?;
    let Some(packed) = packed else {
        return Ok(None);
    };
    let extents = order.iter().filter_map(|axis| tensor.shape().get(*axis));
    let extents: Vec<usize> = extents.copied().collect();
    let shape = Shape::from(super::there(&extents).to_vec());
    let back: Vec<usize> = (0..rank)
        .filter_map(|axis| order.iter().position(|of| *of == axis))
        .collect();
    let device = Arc::clone(store.device);
    let step = of_all(move |_| {
        let real = reshape(packed.real(&device)?, shape.clone());
        Ok(if back.is_sorted() {
            real
        } else {
            permute(real, &back)
        })
    });
    Ok(Some(Lowered::of([], step)))
}

/// The scale and the zero point that fit the numbers, and these.
fn by_range() -> Lowered {
    let step: super::Step = Box::new(|inputs| {
        let [numbers] = take(inputs)?;
        let least = CubeBackend::float_min(numbers.clone());
        let most = CubeBackend::float_max(numbers.clone());
        let [scale, zero] = packed::range(least, most);
        let inner = numbers.meta.num_elements();
        let bytes = packed::quantise(numbers, [&scale, &zero], inner, DatumType::U8)?;
        Ok(tvec![bytes, scale, zero])
    });
    Lowered::of([0], step)
}

/// Weights of whole numbers that never change, with their zero points: `(whole - zero)` is what they stand for.
fn integers(
    sight: &Sight<'_>,
    zero: Option<usize>,
    (axis, arrangement): (i64, &Arrangement),
) -> TractResult<Option<Arc<Packed>>> {
    let Some(Port {
        value: Some(tensor),
        of: DatumType::I8 | DatumType::U8,
        ..
    }) = sight.inputs.get(1)
    else {
        return Ok(None);
    };
    let zeros = match zero.map(|place| sight.inputs.get(place).and_then(|port| port.value)) {
        None => vec![0],
        Some(None) => return Ok(None),
        Some(Some(zeros)) => {
            let zeros = zeros.cast_to::<i32>()?;
            zeros.try_as_plain_ram()?.as_slice::<i32>()?.to_vec()
        }
    };
    let affine = Affine {
        scales: vec![1.0; zeros.len()],
        zeros,
        along: Along { axis, block: None },
    };
    let store = sight.store;
    store
        .weights
        .packed(store.device, tensor, &affine, arrangement)
}

/// The input with the zero point of the left side, where it is one number.
fn zero_of(sight: &Sight<'_>, place: Option<usize>) -> Option<Vec<usize>> {
    let Some(place) = place else {
        return Some(vec![0]);
    };
    let is_one = sight.shape(place).iter().product::<usize>() == 1;
    is_one.then(|| vec![0, place])
}

/// The left side, and its zero point if it has one.
fn sides(inputs: TVec<CubeTensor>) -> TractResult<(CubeTensor, Option<CubeTensor>)> {
    let mut inputs = inputs.into_iter();
    let left = inputs.next();
    let left = left.ok_or_else(|| tract_onnx::tract_hir::internal::format_err!("no left side"))?;
    Ok((left, inputs.next()))
}

fn matrices(
    sight: &Sight<'_>,
    [left_zero, right_zero]: [Option<usize>; 2],
) -> TractResult<Option<Lowered>> {
    let (Some(takes), [_, _]) = (zero_of(sight, left_zero), sight.shape(1)) else {
        return Ok(None);
    };
    let columns = Arrangement {
        order: vec![1, 0],
        leading: 1,
    };
    let Some(packed) = integers(sight, right_zero, (1, &columns))? else {
        return Ok(None);
    };
    let device = Arc::clone(sight.store.device);
    let rows = sight.shape(0).iter().product::<usize>() / packed.depth;
    let matrix = Shape::from(vec![rows, packed.depth]);
    let shape = Shape::from(sight.output().to_vec());
    let step = of_all(move |inputs| {
        let (left, zero) = sides(inputs)?;
        let left = reshape(left, matrix.clone());
        let sums = packed.product(&device, &left, zero.as_ref())?;
        Ok(reshape(sums, shape.clone()))
    });
    Ok(Some(Lowered::of(takes, step)))
}

fn windows(
    sight: &Sight<'_>,
    [left_zero, right_zero]: [Option<usize>; 2],
    taps: Taps,
) -> TractResult<Option<Lowered>> {
    let Some(takes) = zero_of(sight, left_zero) else {
        return Ok(None);
    };
    let natural = Arrangement {
        order: (0..sight.shape(1).len()).collect(),
        leading: 1,
    };
    let Some(packed) = integers(sight, right_zero, (0, &natural))? else {
        return Ok(None);
    };
    let device = Arc::clone(sight.store.device);
    let shape = Shape::from(sight.output().to_vec());
    let step = of_all(move |inputs| {
        let (image, zero) = sides(inputs)?;
        let sums = packed.convolve(&device, &flat(image), zero.as_ref(), &taps)?;
        Ok(reshape(sums, shape.clone()))
    });
    Ok(Some(Lowered::of(takes, step)))
}
