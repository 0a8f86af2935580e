//! What can be imported: a bare file of ONNX, XGBoost or LightGBM, or an MLflow model directory of one
//! of these flavours.
//!
//! Finds the files that make up the version and nothing else: what a directory holds beside them
//! (conda.yaml, requirements.txt) stays where it is. Nothing is loaded or run. A file that a
//! directory names must lie in it, also after its symbolic links are followed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use edgeward_kernels::engine::ModelForm;

use super::mlmodel::{self, ParseMlModelError};
use super::onnx_files::{ScanOnnxError, external_locations};
use super::version::{BARE, BARE_ONNX, GOLDEN, INPUT_EXAMPLE, MLMODEL, SERVING_EXAMPLE, beside};

/// Enough bytes to tell what a file is.
const START_BYTES: u64 = 256;

/// A file of the version to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceFile {
    /// Its path in the version.
    pub(super) path: String,
    /// Where it is now.
    pub(super) from: PathBuf,
}

/// Why a path cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ReadSourceError {
    /// A file operation failed.
    #[error("cannot read {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A file that would have to be unpickled or converted.
    #[error("{path} cannot be served: {advice}")]
    Convert {
        /// The file.
        path: PathBuf,
        /// What to convert it to, and how.
        advice: &'static str,
    },
    /// Neither a model file nor an MLflow directory.
    #[error(
        "{path} is neither an .onnx file, a model that XGBoost or LightGBM saved, nor an MLflow model \
         directory with an MLmodel file"
    )]
    NotAModel {
        /// What was given.
        path: PathBuf,
    },
    /// The MLmodel file cannot be used.
    #[error("cannot use {path}")]
    MlModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseMlModelError,
    },
    /// The graph is not ONNX.
    #[error("{path} is not an ONNX graph")]
    Scan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ScanOnnxError,
    },
    /// A file that the directory names lies outside it.
    #[error("{name:?} leaves the model's directory {directory}")]
    Outside {
        /// As it is named.
        name: String,
        /// The directory.
        directory: PathBuf,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReadSourceError {
    move |source| ReadSourceError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The files of the version that `path` holds, in the order of their paths.
pub(super) fn collect(path: &Path) -> Result<Vec<SourceFile>, ReadSourceError> {
    let metadata = std::fs::metadata(path).map_err(failed(path))?;
    let mut files = if metadata.is_dir() {
        directory(path)?
    } else {
        bare(path)?
    };
    files.sort();
    files.dedup();
    Ok(files)
}

fn bare(path: &Path) -> Result<Vec<SourceFile>, ReadSourceError> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    refuse_other_formats(path, &name, ModelForm::Onnx)?;
    if name == MLMODEL {
        return directory(edgeward_base::durable::parent(path));
    }
    if !name.to_ascii_lowercase().ends_with(".onnx") {
        return boosted(path, &name);
    }
    let folder = edgeward_base::durable::parent(path);
    let mut files = external_files(folder, path, BARE_ONNX)?;
    files.push(SourceFile {
        path: BARE_ONNX.to_owned(),
        from: path.to_owned(),
    });
    Ok(files)
}

/// A bare file that XGBoost or LightGBM saved: its first bytes say so, whatever its name.
fn boosted(path: &Path, name: &str) -> Result<Vec<SourceFile>, ReadSourceError> {
    let start = start_of(path)?;
    let Some(file) = BARE.iter().find(|bare| bare.begins(&start)) else {
        let path = path.to_owned();
        return Err(match mlmodel::advice_for_unread(name) {
            Some(advice) => ReadSourceError::Convert { path, advice },
            None => ReadSourceError::NotAModel { path },
        });
    };
    Ok(vec![SourceFile {
        path: file.path.to_owned(),
        from: path.to_owned(),
    }])
}

fn directory(path: &Path) -> Result<Vec<SourceFile>, ReadSourceError> {
    let described = path.join(MLMODEL);
    if !described.try_exists().map_err(failed(&described))? {
        return Err(not_a_model(path));
    }
    let bytes = std::fs::read(&described).map_err(failed(&described))?;
    let model = mlmodel::parse(&bytes).map_err(|source| ReadSourceError::MlModel {
        path: described,
        source,
    })?;
    let file = inside(path, &model.file)?;
    refuse_other_formats(&file, &model.file, model.form)?;
    let mut files = if model.form == ModelForm::Onnx {
        external_files(path, &file, &model.file)?
    } else {
        Vec::new()
    };
    files.push(SourceFile {
        path: model.file,
        from: file,
    });
    for name in [MLMODEL, GOLDEN, SERVING_EXAMPLE, INPUT_EXAMPLE] {
        let there = path.join(name).try_exists().map_err(failed(path))?;
        if there {
            files.push(SourceFile {
                path: name.to_owned(),
                from: inside(path, name)?,
            });
        }
    }
    Ok(files)
}

/// A directory without an MLmodel file may still say what is in it.
fn not_a_model(path: &Path) -> ReadSourceError {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    names.sort();
    let convertible = names.into_iter().find_map(|file| {
        let advice = mlmodel::advice_for_file(file.file_name()?.to_str()?)?;
        Some(ReadSourceError::Convert { path: file, advice })
    });
    convertible.unwrap_or_else(|| ReadSourceError::NotAModel {
        path: path.to_owned(),
    })
}

/// The files in which a graph keeps tensors.
fn external_files(
    folder: &Path,
    graph: &Path,
    graph_path: &str,
) -> Result<Vec<SourceFile>, ReadSourceError> {
    let bytes = std::fs::read(graph).map_err(failed(graph))?;
    let locations = external_locations(&bytes).map_err(|source| ReadSourceError::Scan {
        path: graph.to_owned(),
        source,
    })?;
    locations
        .iter()
        .map(|location| {
            let path = beside(graph_path, location);
            Ok(SourceFile {
                from: inside(folder, &path)?,
                path,
            })
        })
        .collect()
}

/// The file of that name in a directory, if it does not lead out of it.
fn inside(directory: &Path, name: &str) -> Result<PathBuf, ReadSourceError> {
    let outside = || ReadSourceError::Outside {
        name: name.to_owned(),
        directory: directory.to_owned(),
    };
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(outside());
    }
    let path = directory.join(name);
    let real = path.canonicalize().map_err(failed(&path))?;
    let root = directory.canonicalize().map_err(failed(directory))?;
    if real.starts_with(&root) {
        Ok(path)
    } else {
        Err(outside())
    }
}

/// A pickle or an archive is refused by its name, and by its first bytes whatever its name. The
/// advice is that of the form which the file should have.
fn refuse_other_formats(path: &Path, name: &str, form: ModelForm) -> Result<(), ReadSourceError> {
    let start = start_of(path)?;
    let disguised = match start.as_slice() {
        // A pickle of protocol 2 to 5: never a protobuf message, whose first byte is a small tag.
        [0x80, 2..=5, ..] => Some("model.pkl"),
        [b'P', b'K', 3, 4, ..] => Some("model.pth"),
        _ => None,
    };
    let disguised = disguised.and_then(mlmodel::advice_for_file);
    match mlmodel::advice_for_file(name).or(disguised) {
        Some(advice) => Err(ReadSourceError::Convert {
            path: path.to_owned(),
            advice: mlmodel::advice_for_form(form).unwrap_or(advice),
        }),
        None => Ok(()),
    }
}

/// The first bytes of a file.
fn start_of(path: &Path) -> Result<Vec<u8>, ReadSourceError> {
    let file = std::fs::File::open(path).map_err(failed(path))?;
    let mut start = Vec::new();
    file.take(START_BYTES)
        .read_to_end(&mut start)
        .map_err(failed(path))?;
    Ok(start)
}

#[cfg(test)]
mod tests;
