//! What never changes, once on the device however many plans use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::tensor::CubeTensor;
use tract_onnx::prelude::{Tensor, TractResult};

use super::device::Device;
use super::packed::{Arrangement, Codes, Packed};
use crate::tract::Affine;

/// Constants of one model, by where they lie in the processor's memory.
#[derive(Debug, Default)]
pub(super) struct Weights {
    known: Mutex<Known<usize, CubeTensor>>,
    /// Some neighbours along an axis each, of tensors that are larger than what the device binds.
    slices: Mutex<Known<(usize, usize), Slices>>,
    /// `None` where they cannot be packed so.
    packed: Mutex<Known<Key, Option<Arc<Packed>>>>,
}

/// What was made of a tensor. It is kept beside: another must not take its place in memory.
type Known<K, V> = HashMap<K, (Arc<Tensor>, V)>;

/// Parts of a tensor, in order.
type Slices = Arc<[CubeTensor]>;

/// Packed weights: where their bytes lie, how these are read, and as which matrix.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    place: usize,
    scales: Vec<u32>,
    zeros: Vec<i32>,
    axis: i64,
    block: Option<usize>,
    arrangement: Arrangement,
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

    /// `tensor` in parts along `axis`, each no larger than what the device binds.
    pub(super) fn slices(
        &self,
        device: &Device,
        tensor: &Arc<Tensor>,
        axis: usize,
    ) -> TractResult<Slices> {
        let mut known = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::as_ptr(tensor).addr(), axis);
        if let Some((_, slices)) = known.get(&key) {
            return Ok(Arc::clone(slices));
        }
        let extent = tensor.shape().get(axis).copied().unwrap_or(1).max(1);
        let most = device.most_elements(tensor.datum_type().size_of());
        let together = (most / (tensor.volume() / extent).max(1)).max(1);
        let starts = (0..extent).step_by(together);
        let slices = starts.map(|start| {
            let slice = tensor.slice(axis, start, extent.min(start + together))?;
            device.upload(&slice)
        });
        let slices: Slices = slices.collect::<TractResult<Vec<_>>>()?.into();
        known.insert(key, (Arc::clone(tensor), Arc::clone(&slices)));
        Ok(slices)
    }

    /// The bytes of `tensor` as a matrix of packed weights on the device; `None` where they are none.
    pub(super) fn packed(
        &self,
        device: &Device,
        tensor: &Arc<Tensor>,
        affine: &Affine,
        arrangement: &Arrangement,
    ) -> TractResult<Option<Arc<Packed>>> {
        let key = Key {
            place: Arc::as_ptr(tensor).addr(),
            scales: affine.scales.iter().map(|scale| scale.to_bits()).collect(),
            zeros: affine.zeros.clone(),
            axis: affine.along.axis,
            block: affine.along.block,
            arrangement: arrangement.clone(),
        };
        let mut known = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packed)) = known.get(&key) {
            return Ok(packed.clone());
        }
        let codes = Codes::pack(tensor, affine, arrangement)?;
        let upload = |codes| Packed::upload(device, &codes).map(Arc::new);
        let packed = codes.map(upload).transpose()?;
        known.insert(key, (Arc::clone(tensor), packed.clone()));
        Ok(packed)
    }

    /// How many bytes all of them hold.
    pub(super) fn bytes(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |tensor: &Tensor| (tensor.volume() * tensor.datum_type().size_of()) as u64;
        let plain: u64 = known.values().map(|(tensor, _)| bytes(tensor)).sum();
        let slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let sliced: u64 = slices.values().map(|(tensor, _)| bytes(tensor)).sum();
        let packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = packed.values().filter_map(|(_, packed)| packed.as_ref());
        plain + sliced + packed.map(|packed| packed.bytes()).sum::<u64>()
    }
}
