//! The files of one model version, by the names that mean something.
//!
//! | file | what it is |
//! |---|---|
//! | `MLmodel` | flavour and signature; absent in a version imported from a bare file |
//! | `model.onnx`, `model.xgboost`, `model.lightgbm`, or what `MLmodel` names | the model |
//! | `golden.json` | inputs with the training framework's outputs |
//! | `serving_input_example.json`, `input_example.json` | inputs alone |
//! | any other | external data of the graph's tensors |
//!
//! An engine wants external data beside the graph, under the names that the graph uses, and the
//! artifacts lie under their digests. For such a version `{models}/index/{manifest}/` holds one
//! hard link per file (an engine refuses a symbolic one, which leads out of the model's folder); it
//! is made anew whenever it is missing.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use edgeward_base::names::ModelRef;
use edgeward_kernels::engine::{ModelFile, ModelForm, Predictor};
use edgeward_wire::manifest::{Manifest, ManifestFile};

use super::artifacts::{ArtifactError, Artifacts};
use super::mlmodel::{self, ParseMlModelError};
use super::onnx_files::{ScanOnnxError, external_locations};
use super::signature::Signature;

/// The file that makes a directory an MLflow model.
pub(super) const MLMODEL: &str = "MLmodel";
/// What a bare graph is called in its version.
pub(super) const BARE_ONNX: &str = "model.onnx";

/// A bare file of boosted trees: what it is called in its version, and what its first bytes are.
#[derive(Debug)]
pub(super) struct BareFile {
    pub(super) path: &'static str,
    form: ModelForm,
    start: &'static [u8],
    /// Stands within the first bytes.
    word: &'static [u8],
}

/// A bare file does not say by what it was trained: the booster's own answers are given.
pub(super) const BARE: [BareFile; 2] = [
    BareFile {
        path: "model.xgboost",
        form: ModelForm::XgBoost(Predictor::Booster),
        start: b"{",
        word: b"learner",
    },
    BareFile {
        path: "model.lightgbm",
        form: ModelForm::LightGbm(Predictor::Booster),
        start: b"tree",
        word: b"version=",
    },
];

impl BareFile {
    /// Whether a file with these first bytes is one.
    pub(super) fn begins(&self, start: &[u8]) -> bool {
        let mut windows = start.windows(self.word.len());
        start.starts_with(self.start) && windows.any(|window| window == self.word)
    }
}
/// Inputs with the training framework's outputs.
pub(super) const GOLDEN: &str = "golden.json";
/// A ready invocation body.
pub(super) const SERVING_EXAMPLE: &str = "serving_input_example.json";
/// Inputs alone, as MLflow saves them.
pub(super) const INPUT_EXAMPLE: &str = "input_example.json";

/// A version whose files are all there and sound.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) model: ModelRef,
    pub(super) manifest: edgeward_base::digest::Digest,
    pub(super) file: ModelFile,
    pub(super) signature: Option<Signature>,
    pub(super) golden: Option<Vec<u8>>,
    pub(super) serving_example: Option<Vec<u8>>,
    pub(super) input_example: Option<Vec<u8>>,
}

/// Whether a version was opened before it came into the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is on its way in: its graph is searched for external data.
    New,
    /// It is in the catalogue, so its graph was searched, and names no file that it does not have.
    /// One whose files are all known by name has no external data, and its graph, which may be
    /// large, needs not be read twice at each start.
    Catalogued,
}

/// Why a model version's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenVersionError {
    /// A file is missing, damaged or cannot be read.
    #[error("cannot read a file of the model version")]
    Artifact(#[source] ArtifactError),
    /// A file has another size than the manifest says.
    #[error("{path} has {found} bytes, the manifest says {expected}")]
    Size {
        /// The file, in the version.
        path: String,
        /// As the manifest says.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// The MLmodel file cannot be used.
    #[error("cannot use MLmodel")]
    MlModel(#[source] ParseMlModelError),
    /// The model is not among the files.
    #[error("the model version has no file {path}, which should be the model")]
    NoModel {
        /// The file looked for.
        path: String,
    },
    /// The graph is not ONNX.
    #[error("{path} is not an ONNX graph")]
    Scan {
        /// The file, in the version.
        path: String,
        /// What is wrong with it.
        #[source]
        source: ScanOnnxError,
    },
    /// The graph keeps tensors in a file that is not part of the version.
    #[error("the graph keeps tensors in {location:?}, which is not a file of the model version")]
    ExternalData {
        /// As the graph writes it.
        location: String,
    },
    /// The directory of links could not be made.
    #[error("cannot link {path}")]
    Link {
        /// The link.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl OpenVersionError {
    /// Whether fetching the version's files again would help.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Artifact(error) => error.is_lost(),
            Self::Size { .. }
            | Self::MlModel(_)
            | Self::NoModel { .. }
            | Self::Scan { .. }
            | Self::ExternalData { .. }
            | Self::Link { .. } => false,
        }
    }
}

/// Verifies every file of a version and reads the small ones.
pub(super) fn open(
    manifest: &Manifest,
    known: Known,
    artifacts: &Artifacts,
    index: &Path,
) -> Result<Version, OpenVersionError> {
    for file in &manifest.files {
        check(file, artifacts)?;
    }
    let small = |path: &str| {
        find(manifest, path)
            .map(|file| {
                artifacts
                    .read_whole(&file.digest)
                    .map_err(OpenVersionError::Artifact)
            })
            .transpose()
    };
    let described = small(MLMODEL)?
        .map(|bytes| mlmodel::parse(&bytes).map_err(OpenVersionError::MlModel))
        .transpose()?;
    let (path, form, signature) = match described {
        Some(described) => (described.file, described.form, described.signature),
        None => {
            let (path, form) = bare(manifest);
            (path.to_owned(), form, None)
        }
    };
    let model = find(manifest, &path).ok_or(OpenVersionError::NoModel { path })?;
    let alone = manifest
        .files
        .iter()
        .all(|file| file.path == model.path || has_meaning(&file.path));
    let file = if form != ModelForm::Onnx || alone && known == Known::Catalogued {
        ModelFile {
            path: artifacts.path(&model.digest),
            digest: model.digest,
            form,
        }
    } else {
        graph_file(manifest, model, artifacts, index)?
    };
    Ok(Version {
        model: manifest.model(),
        manifest: manifest.digest(),
        file,
        signature,
        golden: small(GOLDEN)?,
        serving_example: small(SERVING_EXAMPLE)?,
        input_example: small(INPUT_EXAMPLE)?,
    })
}

/// The model of a version that was imported from a bare file.
fn bare(manifest: &Manifest) -> (&'static str, ModelForm) {
    let found = BARE.iter().find(|bare| find(manifest, bare.path).is_some());
    found.map_or((BARE_ONNX, ModelForm::Onnx), |bare| (bare.path, bare.form))
}

fn find<'m>(manifest: &'m Manifest, path: &str) -> Option<&'m ManifestFile> {
    manifest.files.iter().find(|file| file.path == path)
}

fn check(file: &ManifestFile, artifacts: &Artifacts) -> Result<(), OpenVersionError> {
    artifacts
        .verify(&file.digest)
        .map_err(OpenVersionError::Artifact)?;
    let found = artifacts
        .size(&file.digest)
        .map_err(OpenVersionError::Artifact)?;
    match found {
        Some(found) if found != file.size => Err(OpenVersionError::Size {
            path: file.path.clone(),
            expected: file.size,
            found,
        }),
        _ => Ok(()),
    }
}

/// Whether a file of that name is no external data.
fn has_meaning(path: &str) -> bool {
    [MLMODEL, GOLDEN, SERVING_EXAMPLE, INPUT_EXAMPLE].contains(&path)
}

/// The graph, where an engine finds it and its external data.
fn graph_file(
    manifest: &Manifest,
    graph: &ManifestFile,
    artifacts: &Artifacts,
    index: &Path,
) -> Result<ModelFile, OpenVersionError> {
    let stored = artifacts.path(&graph.digest);
    let bytes = artifacts
        .read_whole(&graph.digest)
        .map_err(OpenVersionError::Artifact)?;
    let locations = external_locations(&bytes).map_err(|source| OpenVersionError::Scan {
        path: graph.path.clone(),
        source,
    })?;
    if locations.is_empty() {
        return Ok(ModelFile {
            path: stored,
            digest: graph.digest,
            form: ModelForm::Onnx,
        });
    }
    let view = index.join(manifest.digest().to_string());
    link(&stored, &view.join(&graph.path))?;
    for location in locations {
        let file = find(manifest, &beside(&graph.path, &location))
            .ok_or(OpenVersionError::ExternalData { location })?;
        link(&artifacts.path(&file.digest), &view.join(&file.path))?;
    }
    Ok(ModelFile {
        path: view.join(&graph.path),
        digest: graph.digest,
        form: ModelForm::Onnx,
    })
}

/// The path in the version of a file that a graph names relative to itself. One that leaves the
/// version's folder is never found, because a manifest names none such.
pub(super) fn beside(graph: &str, location: &str) -> String {
    let location = location.strip_prefix("./").unwrap_or(location);
    match graph.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{location}"),
        None => location.to_owned(),
    }
}

/// Makes a link unless it is there already.
fn link(target: &Path, path: &Path) -> Result<(), OpenVersionError> {
    let failed = |source| OpenVersionError::Link {
        path: path.to_owned(),
        source,
    };
    let same = |there: &std::fs::Metadata, target: &std::fs::Metadata| {
        (there.dev(), there.ino()) == (target.dev(), target.ino())
    };
    let wanted = std::fs::metadata(target).map_err(failed)?;
    if std::fs::symlink_metadata(path).is_ok_and(|there| same(&there, &wanted)) {
        return Ok(());
    }
    std::fs::create_dir_all(edgeward_base::durable::parent(path)).map_err(failed)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    match std::fs::hard_link(target, path) {
        // Another load of the same version was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed),
    }
}
