//! What never changes, once on the device however many plans use it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// What all of them take there.
    bytes: AtomicU64,
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
        let mut known = held(&self.known);
        let place = Arc::as_ptr(tensor).addr();
        if let Some((_, copy)) = known.get(&place) {
            return Ok(copy.clone());
        }
        device.make_room(bytes_there(tensor))?;
        let copy = device.upload(tensor)?;
        self.bytes.fetch_add(bytes_there(tensor), Ordering::Relaxed);
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
        let mut known = held(&self.slices);
        let key = (Arc::as_ptr(tensor).addr(), axis);
        if let Some((_, slices)) = known.get(&key) {
            return Ok(Arc::clone(slices));
        }
        device.make_room(bytes_there(tensor))?;
        let extent = tensor.shape().get(axis).copied().unwrap_or(1).max(1);
        let most = device.most_elements(tensor.datum_type().size_of());
        let together = (most / (tensor.volume() / extent).max(1)).max(1);
        let starts = (0..extent).step_by(together);
        let slices = starts.map(|start| {
            let slice = tensor.slice(axis, start, extent.min(start + together))?;
            device.upload(&slice)
        });
        let slices: Slices = slices.collect::<TractResult<Vec<_>>>()?.into();
        self.bytes.fetch_add(bytes_there(tensor), Ordering::Relaxed);
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
        let mut known = held(&self.packed);
        if let Some((_, packed)) = known.get(&key) {
            return Ok(packed.clone());
        }
        let codes = Codes::pack(tensor, affine, arrangement)?;
        let upload = |codes: Codes| {
            device.make_room(codes.bytes())?;
            self.bytes.fetch_add(codes.bytes(), Ordering::Relaxed);
            Packed::upload(device, &codes).map(Arc::new)
        };
        let packed = codes.map(upload).transpose()?;
        known.insert(key, (Arc::clone(tensor), packed.clone()));
        Ok(packed)
    }

    /// How many bytes all of them take on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lets go of all copies. Plans that still hold some must go too.
    pub(super) fn clear(&self) {
        held(&self.known).clear();
        held(&self.slices).clear();
        held(&self.packed).clear();
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// A map behind its lock. What panicked under it left it whole.
fn held<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many bytes a tensor takes on the device, where every element has four.
fn bytes_there(tensor: &Tensor) -> u64 {
    4 * tensor.volume() as u64
}
