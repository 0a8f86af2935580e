//! One adapter, opened: transfers of tensors, its memory, and whether it still lives.
//!
//! A device that is lost answers nothing any more: what it computes afterwards may be anything. A step that
//! the driver refuses costs the run that it belongs to.
//! Must never let wgpu's own handler of errors end the process.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn_backend::ops::{BoolTensorOps as _, FloatTensorOps as _, IntTensorOps as _};
use burn_backend::{DType, DataError, DeviceOps as _, Shape, TensorData, TensorMetadata as _};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};
use cubecl::future::block_on;
use cubecl::prelude::CubeElement;
use edgeward_base::units::ByteCount;
use tract_onnx::prelude::{DatumType, TractError, TractResult};
use tract_onnx::tract_hir::internal::{Tensor, bail, format_err};

use super::adapter;
use super::lower::there;
use super::residency::{Residency, Tenant};
use crate::adapter::Adapter;

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDeviceError {
    /// It was there when it was tried.
    #[error("adapter {name:?} is not there any more")]
    Gone {
        /// Its name.
        name: String,
    },
    /// The driver refused.
    #[error("the driver of {name:?} refused a device")]
    Refused {
        /// The adapter's name.
        name: String,
        /// What it said.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// burn refused.
    #[error("burn cannot use {name:?}: {reason}")]
    Unfit {
        /// The adapter's name.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) adapter: Adapter,
    cube: cubecl::Device,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests take the device away by it")
    )]
    wgpu: wgpu::Device,
    /// Why it answers nothing any more.
    failed: OnceLock<String>,
    /// What the driver said of the steps of this turn.
    fault: Arc<Mutex<Option<String>>>,
    /// Held by the one call that computes: what several would put in at once, they would only take
    /// longer for, and hold the memory of all.
    turn: Mutex<()>,
    residency: Residency,
}

impl Device {
    /// Opens the adapter that is like `wanted`, for weights of at most so many bytes.
    pub(super) fn open(wanted: &Adapter, weights: ByteCount) -> Result<Self, OpenDeviceError> {
        // Neither variables nor files of the folder that the process was started in decide on anything.
        CubeClRuntimeConfig::try_set(CubeClRuntimeConfig::default());
        let name = || wanted.name.clone();
        let instance = adapter::instance();
        let mut adapters = adapter::adapters(&instance).into_iter();
        let found = adapters.find(|(adapter, _)| adapter == wanted);
        let (_, adapter) = found.ok_or_else(|| OpenDeviceError::Gone { name: name() })?;
        // burn writes kernels for all that the adapter can do.
        let without =
            wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features().difference(without),
            required_limits: adapter.limits(),
            ..wgpu::DeviceDescriptor::default()
        };
        let opened = block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|source| OpenDeviceError::Refused {
            name: name(),
            source,
        })?;
        let setup = WgpuSetup {
            instance,
            backend: adapter.get_info().backend,
            adapter,
            device: device.clone(),
            queue,
        };
        // The number of tasks is given, so that no variable decides on it.
        let options = burn_wgpu::RuntimeOptions::with_tasks_max(Some(TASKS));
        let registered = options.and_then(|options| {
            burn_wgpu::try_init_device_with_api::<burn_wgpu::graphics::Vulkan>(setup, options)
        });
        let registered = registered.map_err(|error| OpenDeviceError::Unfit {
            name: name(),
            reason: error.to_string(),
        })?;
        let fault = Arc::new(Mutex::new(None));
        watch(&device, &fault);
        Ok(Self {
            adapter: wanted.clone(),
            cube: cubecl::Device::Wgpu(registered),
            wgpu: device,
            failed: OnceLock::new(),
            fault,
            turn: Mutex::new(()),
            residency: Residency::new(weights),
        })
    }

    /// Fails with what happened to a device that is not usable any more.
    pub(super) fn alive(&self) -> Result<(), String> {
        self.failed
            .get()
            .map_or(Ok(()), |reason| Err(format!("the device failed: {reason}")))
    }

    /// As [`Self::alone`], for a model that has weights there.
    pub(super) fn alone_for<T>(
        &self,
        tenant: &Arc<dyn Tenant>,
        compute: impl FnOnce() -> TractResult<T>,
    ) -> TractResult<T> {
        self.alone(|| {
            self.residency.ask(tenant);
            compute()
        })
    }

    /// Runs `compute` alone, and trusts what it answers only if the device lives behind it.
    pub(super) fn alone<T>(&self, compute: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = || self.alive().map_err(|reason| format_err!("{reason}"));
        alive()?;
        self.take_fault();
        let answer = compute();
        alive()?;
        match self.take_fault() {
            Some(fault) => Err(format_err!("the device refused a step: {fault}")),
            None => answer,
        }
    }

    fn take_fault(&self) -> Option<String> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.take()
    }

    /// Makes room for `bytes` of weights of the model whose turn it is.
    pub(super) fn make_room(&self, bytes: u64) -> TractResult<()> {
        if self.residency.make_room(bytes)? {
            // What nobody holds any more goes back to the driver, whatever its size was good for.
            let cleaned = self.cube.client().memory_cleanup();
            cleaned.map_err(|error| format_err!("the device kept its memory: {error}"))?;
        }
        Ok(())
    }

    /// How many bytes the tensors on it take, and how many it has reserved for them.
    #[cfg(test)]
    pub(super) fn memory(&self) -> (u64, u64) {
        let usage = self
            .cube
            .client()
            .memory_report(cubecl::MemoryScope::Device)
            .usage();
        (usage.bytes_in_use, usage.bytes_reserved)
    }

    /// Puts numbers of the element type `of` onto the device.
    pub(super) fn numbers<N: CubeElement>(
        &self,
        numbers: &[N],
        shape: &[usize],
        of: DType,
    ) -> TractResult<CubeTensor> {
        self.binds(size_of_val(numbers))?;
        let client = self.cube.client();
        let handle = client.create_from_slice(N::as_bytes(numbers));
        let shape = Shape::from(shape.to_vec());
        let cube = self.cube.clone();
        Ok(CubeTensor::new_contiguous(client, cube, shape, handle, of))
    }

    /// The numbers that a kernel is told.
    pub(super) fn extents(&self, extents: &[u32]) -> TractResult<CubeTensor> {
        self.numbers(extents, &[extents.len()], DType::U32)
    }

    /// How many numbers of so many bytes each a tensor may have.
    pub(super) fn most_elements(&self, bytes: usize) -> usize {
        let most = usize::try_from(self.adapter.max_binding_bytes).unwrap_or(usize::MAX);
        most / bytes.max(1)
    }

    fn binds(&self, bytes: usize) -> TractResult<()> {
        let most = self.adapter.max_binding_bytes;
        if bytes as u64 > most {
            bail!("a tensor of {bytes} bytes is larger than the {most} that the device binds");
        }
        Ok(())
    }

    /// Puts a tensor of a type that lives there onto the device.
    pub(super) fn upload(&self, tensor: &Tensor) -> TractResult<CubeTensor> {
        let shape = Shape::from(there(tensor.shape()).to_vec());
        self.binds(tensor.volume() * tensor.datum_type().size_of())?;
        Ok(match tensor.datum_type() {
            DatumType::F32 => {
                let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
                CubeBackend::float_from_data(TensorData::new(values, shape), &self.cube)
            }
            DatumType::Bool => {
                let values = tensor.try_as_plain_ram()?.as_slice::<bool>()?.to_vec();
                let store = self.cube.defaults().bool_dtype.into();
                let data = TensorData::new(values, shape).convert_dtype(store);
                CubeBackend::bool_from_data(data, &self.cube)
            }
            DatumType::I64 => {
                let values = tensor.try_as_plain_ram()?.as_slice::<i64>()?.iter();
                let values = values.map(|value| i32::try_from(*value));
                let values = values.collect::<Result<Vec<i32>, _>>()?;
                CubeBackend::int_from_data(TensorData::new(values, shape), &self.cube)
            }
            DatumType::I8 | DatumType::U8 | DatumType::I32 => {
                let values = tensor.cast_to::<i32>()?;
                let values = values.try_as_plain_ram()?.as_slice::<i32>()?.to_vec();
                CubeBackend::int_from_data(TensorData::new(values, shape), &self.cube)
            }
            other => bail!("{other:?} does not live on the device"),
        })
    }

    /// Brings a tensor back, as the element type and the number of axes that the graph says it has.
    pub(super) fn download(
        &self,
        tensor: CubeTensor,
        (to, rank): (DatumType, usize),
    ) -> TractResult<Tensor> {
        let shape: Vec<usize> = tensor.shape().to_vec();
        let shape = if rank == 0 { Vec::new() } else { shape };
        let read = match to {
            DatumType::F32 => block_on(CubeBackend::float_into_data(tensor)),
            DatumType::Bool => block_on(CubeBackend::bool_into_data(tensor)),
            _ => block_on(CubeBackend::int_into_data(tensor)),
        };
        let data = read.map_err(|error| {
            if error.is_device_poisoned() {
                return self.fail(&error);
            }
            // A step that did not fit into its memory says nothing of the next one.
            format_err!("the device did not compute it: {}", brief(&error))
        })?;
        // The bytes are read only now.
        let elements = |error: DataError| self.fail(&error);
        Ok(match to {
            DatumType::F32 => {
                Tensor::from_shape(&shape, &data.try_into_vec::<f32>().map_err(elements)?)?
            }
            DatumType::Bool => {
                let values = data
                    .convert::<bool>()
                    .try_into_vec::<bool>()
                    .map_err(elements)?;
                Tensor::from_shape(&shape, &values)?
            }
            DatumType::I64 => {
                let values = data
                    .convert::<i64>()
                    .try_into_vec::<i64>()
                    .map_err(elements)?;
                Tensor::from_shape(&shape, &values)?
            }
            DatumType::I8 | DatumType::U8 | DatumType::I32 => {
                let values = data
                    .convert::<i32>()
                    .try_into_vec::<i32>()
                    .map_err(elements)?;
                let wide = Tensor::from_shape(&shape, &values)?;
                wide.cast_to_dt(to)?.into_owned()
            }
            other => bail!("{other:?} does not live on the device"),
        })
    }

    /// What the device could not tell once, it is not asked again.
    fn fail(&self, reason: &dyn fmt::Display) -> TractError {
        let reason = brief(reason);
        // The first thing that went wrong says most.
        let reason = self.failed.get_or_init(|| reason);
        format_err!("the device failed: {reason}")
    }

    /// Takes the device away, as a driver's reset does.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.wgpu.destroy();
    }
}

/// How many characters of what burn says are passed on.
const MOST_SAID: usize = 300;

/// What burn says, in one line. The cause stands last.
fn brief(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let told = lines.filter(|line| {
        !line.is_empty() && *line != "Caused by:" && !line.starts_with("No backtrace")
    });
    let told = told.collect::<Vec<_>>().join(": ");
    let start = told.chars().count().saturating_sub(MOST_SAID);
    told.chars().skip(start).collect()
}

/// So many tasks go to the driver as one command.
const TASKS: usize = 32;

/// Takes the place of burn's handler, which panics.
fn watch(device: &wgpu::Device, fault: &Arc<Mutex<Option<String>>>) {
    let fault = Arc::clone(fault);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert_with(|| brief(&error));
    }));
}
