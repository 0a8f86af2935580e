//! The engines under test, in each process anew.

use std::sync::Arc;

use edgeward_kernels::engine::{Engine, ModelForm};

/// Those that take ONNX graphs; the GPU engine on the best adapter, where there is one.
pub(crate) fn all() -> Vec<Arc<dyn Engine>> {
    let mut engines = edgeward_kernels::engines();
    #[cfg(feature = "wgpu")]
    engines.extend(gpu());
    engines.retain(|engine| engine.takes(ModelForm::Onnx));
    engines
}

#[cfg(feature = "wgpu")]
fn gpu() -> Option<Arc<dyn Engine>> {
    use edgeward_base::units::ByteCount;
    use edgeward_kernels::burn_wgpu::{BurnWgpuEngine, probe};
    let mut adapters = probe().adapters.into_iter();
    let usable = adapters.find(|probed| probed.fault.is_none())?;
    Some(Arc::new(BurnWgpuEngine::new(
        Ok(usable.adapter),
        ByteCount::mib(1024),
    )))
}
