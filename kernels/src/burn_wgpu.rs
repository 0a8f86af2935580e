//! The GPU engine: the graph that [`crate::tract`] typed, computed by burn on wgpu.
//!
//! ```text
//! adapter   what the machine's Vulkan loader offers
//! device    one of them, opened: memory, transfers, and whether it still lives
//! fill      missing numbers
//! lower     a node of the graph -> a step on the device, or nothing
//! packed    weights of 8 and 4 bits, and our own kernels over them
//! sequence  recurrent operators: one kernel for all steps
//! plan      the steps of a graph for one set of extents; what is not lowered runs on the CPU
//! residency whose weights are on the device, and who gives way
//! ```
//!
//! Only this engine knows burn, cubecl and wgpu. Nothing outside it sees their types. It uses WGSL
//! shaders alone: Mesa's compiler crashes on the others. Opening a device loads drivers of strangers,
//! which may take the process with them, so nothing here does it before somebody has tried it in
//! another process: see [`probe()`].

use std::sync::{Arc, OnceLock};

use edgeward_base::error::chain;
use edgeward_base::units::ByteCount;

use crate::adapter::{Adapter, AdapterKind};
use crate::engine::{Engine, LoadModelError, ModelFile, ModelForm, Session};
use crate::tract;

mod adapter;
mod device;
mod fill;
mod lower;
mod packed;
mod plan;
mod probe;
mod residency;
mod sequence;
mod weights;

pub use device::OpenDeviceError;
pub use probe::probe;

use device::Device;
use plan::DevicePlans;

/// The engine's name.
const NAME: &str = crate::adapter::ENGINE;

/// Computes models on one adapter.
#[derive(Debug)]
pub struct BurnWgpuEngine {
    adapter: Result<Adapter, String>,
    /// What the weights of all models may take of its memory.
    weights: ByteCount,
    device: OnceLock<Result<Arc<Device>, String>>,
}

impl BurnWgpuEngine {
    /// The engine on `adapter`, which a process of its own has tried; or, where there is none to use,
    /// why. The weights of all its models take at most `weights` there: the one asked longest ago
    /// gives way. The device is opened with the first model.
    #[must_use]
    pub fn new(adapter: Result<Adapter, String>, weights: ByteCount) -> Self {
        Self {
            adapter,
            weights,
            device: OnceLock::new(),
        }
    }

    fn device(&self) -> Result<Arc<Device>, LoadModelError> {
        let adapter = self.adapter.as_ref().map_err(|reason| unusable(reason))?;
        let open = || {
            let opened = Device::open(adapter, self.weights);
            opened.map(Arc::new).map_err(|error| chain(&error))
        };
        let device = self.device.get_or_init(open);
        let device = device.as_ref().map_err(|reason| unusable(reason))?;
        device.alive().map_err(|reason| unusable(&reason))?;
        Ok(Arc::clone(device))
    }
}

impl Engine for BurnWgpuEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn takes(&self, form: ModelForm) -> bool {
        form == ModelForm::Onnx
    }

    fn hardware(&self) -> Option<String> {
        let adapter = self.adapter.as_ref().ok()?;
        Some(format!("{adapter:?}"))
    }

    fn is_for_device(&self) -> bool {
        true
    }

    fn is_software(&self) -> bool {
        let kind = self.adapter.as_ref().map(|adapter| adapter.kind);
        kind == Ok(AdapterKind::Cpu)
    }

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        let device = self.device()?;
        tract::open_on(model, move |graph| {
            DevicePlans::new(graph, Arc::clone(&device))
        })
    }
}

fn unusable(reason: &str) -> LoadModelError {
    LoadModelError::Engine {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
