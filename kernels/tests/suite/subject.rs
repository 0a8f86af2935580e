//! What is under test: the engines, and the model files to load into them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_base::digest::Digest;
use edgeward_kernels::engine::{Engine, LoadModelError, ModelFile, ModelForm, Session};

/// The engines under test: those that take ONNX graphs.
pub(crate) fn engines() -> Vec<Arc<dyn Engine>> {
    engines_for(ModelForm::Onnx)
}

/// The engines that take models of a form.
pub(crate) fn engines_for(form: ModelForm) -> Vec<Arc<dyn Engine>> {
    let mut engines = edgeward_kernels::engines();
    #[cfg(feature = "wgpu")]
    engines.extend(gpu());
    engines.retain(|engine| engine.takes(form));
    assert!(!engines.is_empty(), "this build has no engine for {form:?}");
    engines
}

/// The GPU engine on the best adapter, one for all tests. Without one the cases on it are skipped.
#[cfg(feature = "wgpu")]
pub(crate) fn gpu() -> Option<Arc<dyn Engine>> {
    use edgeward_base::units::ByteCount;
    use edgeward_kernels::burn_wgpu::{BurnWgpuEngine, probe};
    static GPU: std::sync::OnceLock<Option<Arc<dyn Engine>>> = std::sync::OnceLock::new();
    let open = || {
        let mut adapters = probe().adapters.into_iter();
        let Some(usable) = adapters.find(|probed| probed.fault.is_none()) else {
            edgeward_harness::skip(
                "suite.gpu",
                "no Vulkan driver of this machine has an adapter to use",
            );
            return None;
        };
        Some(Arc::new(BurnWgpuEngine::new(
            Ok(usable.adapter),
            ByteCount::mib(1024),
        )) as Arc<dyn Engine>)
    };
    GPU.get_or_init(open).clone()
}

pub(crate) fn model_file(path: &Path) -> ModelFile {
    ModelFile {
        path: path.to_owned(),
        digest: Digest::of_file(path).unwrap(),
        form: ModelForm::Onnx,
        text: None,
    }
}

pub(crate) fn try_load(
    engine: &dyn Engine,
    path: &Path,
) -> Result<Arc<dyn Session>, LoadModelError> {
    engine.load(&model_file(path))
}

pub(crate) fn load(engine: &dyn Engine, path: &Path) -> Arc<dyn Session> {
    try_load(engine, path)
        .unwrap_or_else(|error| panic!("{} cannot load {}: {error}", engine.name(), path.display()))
}

/// The sample models of the product.
pub(crate) fn samples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/samples");
    let versions = [
        "diabetes/1",
        "digits/1",
        "digits/2",
        "fraud/3",
        "fraud/4",
        "tumour/1",
        "tumour/2",
        "tumour/3",
    ];
    versions.iter().map(|version| root.join(version)).collect()
}

/// The models in `tests/recorded` and `tests/quantised`, by name.
pub(crate) fn recordings() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = ["recorded", "quantised"].map(|folder| tests.join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    models.sort();
    models
}

/// One model in `tests/recorded`.
pub(crate) fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/{name}.onnx"))
}

/// One model in `tests/special`.
pub(crate) fn special(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/special/{name}.onnx"))
}
