//! Tries every adapter: opens it and has it compute something whose answer is known.
//!
//! A driver may crash doing so. Whoever wants to go on calls this in a process that may end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_backend::ops::FloatTensorOps as _;
use burn_wgpu::CubeBackend;
use edgeward_base::error::chain;
use edgeward_base::units::ByteCount;
use tract_onnx::prelude::{DatumType, Tensor, TractResult};

use super::adapter;
use super::device::Device;
use crate::adapter::{Adapter, ProbeReport, Probed};

/// Tries every adapter.
#[must_use]
pub fn probe() -> ProbeReport {
    let adapters = adapter::adapters(&adapter::instance()).into_iter();
    let adapters = adapters.map(|(adapter, _)| Probed {
        fault: catch_unwind(AssertUnwindSafe(|| fault(&adapter)))
            .unwrap_or_else(|_| Some("it panicked".to_owned())),
        adapter,
    });
    ProbeReport {
        adapters: adapters.collect(),
    }
}

fn fault(adapter: &Adapter) -> Option<String> {
    let device = match Device::open(adapter, ByteCount(0)) {
        Ok(device) => device,
        Err(error) => return Some(chain(&error)),
    };
    match device.alone(|| computes(&device)) {
        Ok(true) => None,
        Ok(false) => Some("it answers wrong numbers".to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Whether a product of whole numbers comes out exactly.
fn computes(device: &Device) -> TractResult<bool> {
    const SIDE: usize = 48;
    let number = |place: usize| (place % 7) as f32 - 3.0;
    let values: Vec<f32> = (0..SIDE * SIDE).map(number).collect();
    let matrix = Tensor::from_shape(&[SIDE, SIDE], &values)?;
    let there = device.upload(&matrix)?;
    let product = CubeBackend::float_matmul(there.clone(), there);
    let got = device.download(product, (DatumType::F32, 2))?;
    let got = got.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let expected = (0..SIDE * SIDE).map(|place| {
        let (row, column) = (place / SIDE, place % SIDE);
        let terms = (0..SIDE).map(|at| number(row * SIDE + at) * number(at * SIDE + column));
        terms.sum::<f32>()
    });
    Ok(got.into_iter().eq(expected))
}
