//! Which adapters the machine has.
//!
//! Only Vulkan is asked: it is what a headless box has. Must never open a device.

use burn::tensor::wgpu::wgpu;
use cubecl::future::block_on;

use crate::adapter::{Adapter, AdapterKind};

/// An instance of the Vulkan loader alone; it has no adapters where there is no loader or no driver.
pub(super) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// What `instance` has, the best kind first.
pub(super) fn adapters(instance: &wgpu::Instance) -> Vec<(Adapter, wgpu::Adapter)> {
    let found = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let mut adapters: Vec<(Adapter, wgpu::Adapter)> = found
        .into_iter()
        .map(|adapter| (describe(&adapter), adapter))
        .collect();
    adapters.sort_by_key(|(adapter, _)| adapter.kind);
    adapters
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    Adapter {
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Cpu,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        pci: info.device_pci_bus_id,
        vendor: info.vendor,
        device: info.device,
        driver: info.driver,
        driver_info: info.driver_info,
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_shared_bytes: limits.max_compute_workgroup_storage_size,
    }
}
