//! How tensors are computed: engines behind one trait, and our own kernels.
//!
//! From the bottom: [`tensor`] (values), [`engine`] (the trait every engine implements), [`team`] (threads
//! that are lent to a call), the numeric cores that know neither ONNX nor an engine, the engines, each
//! behind a cargo feature of its own, and [`verify`], which lets no model serve before it has proved
//! itself.
//!
//! This crate never opens a socket, never spawns a thread, and never keeps state on disk.

pub mod adapter;
#[cfg(feature = "trees")]
pub mod boosted;
#[cfg(feature = "wgpu")]
pub mod burn_wgpu;
pub mod chain;
mod cpu;
pub mod engine;
pub mod float;
pub mod int8;
pub mod memory;
mod pages;
pub mod product;
pub mod scores;
pub mod standby;
pub mod team;
pub mod tensor;
pub mod text;
pub mod tolerance;
#[cfg(feature = "tract")]
pub mod tract;
pub mod trees;
pub mod verify;

use std::sync::Arc;

use engine::{Engine, LoadModelError, ModelFile, Session};

/// Loads a model with `engine`, and puts the chain around it that makes an encoder a model of texts,
/// where it has one.
///
/// # Errors
/// As [`Engine::load`], and [`LoadModelError::Chain`].
pub fn load(engine: &dyn Engine, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
    text::chained(model, engine.load(model)?)
}

/// The engines compiled into this build that need no device, in the order in which they are tried.
#[must_use]
pub fn engines() -> Vec<Arc<dyn Engine>> {
    vec![
        #[cfg(feature = "tract")]
        Arc::new(tract::TractEngine::new()),
        #[cfg(feature = "trees")]
        Arc::new(boosted::TreesEngine::new()),
    ]
}

/// Tests measure what the allocator of the binary does.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;
