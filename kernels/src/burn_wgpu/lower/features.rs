//! Features of `ai.onnx.ml`: scaled, and what is missing filled in.

use burn_backend::DType;
use burn_backend::ops::FloatTensorOps as _;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::TractResult;

use super::super::fill::fill;
use super::{Lowered, Sight, of_all, of_one, take};
use crate::tract::{Features, features};

pub(super) fn lower(sight: &Sight<'_>) -> TractResult<Option<Lowered>> {
    let Some(features) = features(sight.op).filter(|_| sight.is_real()) else {
        return Ok(None);
    };
    let device = sight.store.device;
    let shape = sight.shape(0);
    let wide = shape.last().copied().unwrap_or(1);
    let row = |numbers: &[f32]| {
        let mut extents = vec![1; shape.len()];
        if let Some(last) = extents.last_mut() {
            *last = numbers.len();
        }
        device.numbers(numbers, &extents, DType::F32)
    };
    let step = match features {
        Features::Scaled { offset, scale } => {
            if offset.len() != 1 && offset.len() != wide {
                return Ok(None);
            }
            let (offset, scale) = (row(offset)?, row(scale)?);
            of_one(move |x| {
                let moved = CubeBackend::float_sub(x, offset.clone());
                CubeBackend::float_mul(moved, scale.clone())
            })
        }
        Features::Filled { missing, fill: by } => {
            if by.len() != 1 && by.len() != wide {
                return Ok(None);
            }
            let by = row(by)?;
            of_all(move |inputs| {
                let [x] = take(inputs)?;
                Ok(fill(x, missing, &by))
            })
        }
    };
    Ok(Some(Lowered::of([0], step)))
}
