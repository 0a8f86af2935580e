//! The engines that this box computes with.
//!
//! A graphics driver may crash the process that loads it, so a process of its own tries every adapter
//! first: this program, told to `edgeward device probe`. What it finds out is for this run. Must never
//! load a driver itself; the engine does, with the first model.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use edgeward_base::units::ByteCount;
use edgeward_kernels::adapter::{Adapter, ProbeReport, Wanted};
use edgeward_kernels::engine::Engine;

use crate::profile::Profile;

/// The words that make this program the process that tries adapters.
pub(crate) const PROBE: [&str; 4] = ["device", "probe", "--output", "json"];

/// What a probe says at most; it is a few adapters.
const MOST_BYTES: u64 = 1 << 20;

/// Every engine compiled in, none of them ready for a model that needs a device.
pub(crate) fn compiled_in() -> Vec<Arc<dyn Engine>> {
    let reason = "its adapters were not tried".to_owned();
    all(Err(reason), ByteCount(0))
}

/// The engines for a box of this profile. Blocking, for as long as its drivers take to load, where the
/// profile wants the GPU.
pub(super) fn of(profile: &Profile) -> Vec<Arc<dyn Engine>> {
    if !profile.has_gpu() {
        return compiled_in();
    }
    let adapter = probe().and_then(|report| choose(report, &profile.gpu.wanted()));
    match &adapter {
        Ok(adapter) => tracing::info!(
            adapter = adapter.name,
            pci = adapter.pci,
            driver = adapter.driver_info,
            "the GPU engine has an adapter"
        ),
        Err(reason) => tracing::warn!(reason, "the GPU engine cannot be used"),
    }
    all(adapter, profile.gpu_bytes())
}

/// All of them; `weights` is what models may take of the adapter's memory.
fn all(adapter: Result<Adapter, String>, weights: ByteCount) -> Vec<Arc<dyn Engine>> {
    let engines = edgeward_kernels::engines().into_iter();
    #[cfg(feature = "wgpu")]
    let engines = engines.chain([Arc::new(edgeward_kernels::burn_wgpu::BurnWgpuEngine::new(
        adapter, weights,
    )) as Arc<dyn Engine>]);
    #[cfg(not(feature = "wgpu"))]
    drop((adapter, weights));
    engines.collect()
}

/// What a process of its own found out.
fn probe() -> Result<ProbeReport, String> {
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(PROBE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    });
    let mut child = started.map_err(|error| format!("its adapters cannot be tried: {error}"))?;
    let mut said = Vec::new();
    let read = match child.stdout.take() {
        Some(output) => output.take(MOST_BYTES).read_to_end(&mut said),
        None => Ok(0),
    };
    let ended = child.wait();
    let failed = |error: std::io::Error| format!("its adapters cannot be tried: {error}");
    read.map_err(failed)?;
    let status = ended.map_err(failed)?;
    if !status.success() {
        return Err(format!("its driver crashed when it was tried: {status}"));
    }
    serde_json::from_slice(&said)
        .map_err(|error| format!("what tried its adapters said no report: {error}"))
}

/// The first adapter that works and is wanted.
fn choose(report: ProbeReport, wanted: &Wanted) -> Result<Adapter, String> {
    let mut faults = Vec::new();
    for probed in report.adapters {
        let name = &probed.adapter.name;
        if !wanted.admits(&probed.adapter) {
            faults.push(format!("{name} is not what the profile wants"));
        } else if let Some(fault) = probed.fault {
            faults.push(format!("{name}: {fault}"));
        } else {
            return Ok(probed.adapter);
        }
    }
    Err(if faults.is_empty() {
        "this machine has no Vulkan driver with an adapter".to_owned()
    } else {
        format!("no adapter can be used: {}", faults.join("; "))
    })
}

#[cfg(test)]
mod tests;
