//! What never changes, once on the device however many plans use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::tensor::CubeTensor;
use tract_onnx::prelude::{Tensor, TractResult};

use super::device::Device;

/// Constants of one model, by where they lie in the processor's memory.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// The tensor is kept with its copy: another must not take its place in memory.
    known: Mutex<HashMap<usize, (Arc<Tensor>, CubeTensor)>>,
}

impl Weights {
    /// The copy of `tensor` on the device, made if there is none.
    pub(super) fn get(&self, device: &Device, tensor: &Arc<Tensor>) -> TractResult<CubeTensor> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Arc::as_ptr(tensor).addr();
        if let Some((_, copy)) = known.get(&place) {
            return Ok(copy.clone());
        }
        let copy = device.upload(tensor)?;
        known.insert(place, (Arc::clone(tensor), copy.clone()));
        Ok(copy)
    }

    /// How many bytes all of them hold.
    pub(super) fn bytes(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |tensor: &Tensor| (tensor.volume() * tensor.datum_type().size_of()) as u64;
        known.values().map(|(tensor, _)| bytes(tensor)).sum()
    }
}
