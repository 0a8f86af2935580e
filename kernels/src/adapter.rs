//! The adapters that a machine's Vulkan driver offers, as they are described, wanted and reported.
//!
//! Nothing here looks at the machine: the GPU engine does, where it is compiled in.

use serde::{Deserialize, Serialize};

/// The name of the engine that computes on an adapter.
pub const ENGINE: &str = "burn-wgpu";

/// One adapter, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// What it is called, for example `NVIDIA H200`.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// Its place on the PCI bus, as `0000:01:00.0`; empty where it is on none.
    pub pci: String,
    /// The vendor's number.
    pub vendor: u32,
    /// The vendor's number of the model.
    pub device: u32,
    /// The driver.
    pub driver: String,
    /// The driver's version.
    pub driver_info: String,
    /// How many bytes one buffer may have.
    pub max_buffer_bytes: u64,
    /// How many bytes of a buffer a kernel may see.
    pub max_binding_bytes: u64,
    /// How many bytes the threads of a group may share.
    pub max_shared_bytes: u32,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card with memory of its own.
    Discrete,
    /// One that shares the processor's memory.
    Integrated,
    /// One of a virtual machine.
    Virtual,
    /// Something else.
    Other,
    /// The processor itself: a software rasteriser.
    Cpu,
}

/// Which adapter is wanted. What is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The kind.
    pub kind: Option<AdapterKind>,
    /// A part of the name, in any case.
    pub name: Option<String>,
    /// The place on the PCI bus.
    pub pci: Option<String>,
}

impl Wanted {
    /// Whether `adapter` is one.
    #[must_use]
    pub fn admits(&self, adapter: &Adapter) -> bool {
        let name = adapter.name.to_lowercase();
        self.kind.is_none_or(|kind| kind == adapter.kind)
            && self.pci.as_ref().is_none_or(|pci| *pci == adapter.pci)
            && (self.name.as_ref()).is_none_or(|part| name.contains(&part.to_lowercase()))
    }
}

/// What the machine's adapters are good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Each of them, the best kind first.
    pub adapters: Vec<Probed>,
}

/// One adapter that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The adapter.
    #[serde(flatten)]
    pub adapter: Adapter,
    /// Why it cannot be used; `None` where it can.
    pub fault: Option<String>,
}
