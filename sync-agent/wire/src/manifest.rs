//! The model manifest: which files, by digest, make up one model version.
//!
//! Owns: the canonical bytes of a manifest, whose digest names the version everywhere.
//! Must never: name a file outside the version's own folder.
//!
//! Canonical form: JSON without white space, fields in the order below, files in the order of their
//! paths. A manifest that is not in canonical form is refused, so one version has one digest.

use edgeward_base::{
    digest::Digest,
    names::{ModelName, ModelRef, ModelVersion},
};
use serde::{Deserialize, Serialize};

use crate::json::{self, ParseJsonError};

/// The most files in one manifest.
pub const MAX_FILES: usize = 1_000;
/// The largest manifest in bytes: one chunk.
pub const MAX_MANIFEST_BYTES: u64 = 256 * 1024;
/// The largest file of a model version: 64 GiB.
pub const MAX_FILE_BYTES: u64 = 64 << 30;

/// One model version, by the digests of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Registered model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// Its files, in the order of their paths.
    pub files: Vec<ManifestFile>,
}

/// One file of a model version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path within the version's folder: components of letters, digits and `._-` with `/` between.
    pub path: String,
    /// Bytes, at least 1.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub digest: Digest,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifestError {
    /// Not the JSON of a manifest.
    #[error("manifest cannot be read")]
    Json(#[source] ParseJsonError),
    /// Breaks a rule of its own.
    #[error("manifest field `{field}`: {reason}")]
    Invalid {
        /// Where.
        field: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// Equal to a manifest, but not in canonical form.
    #[error("manifest is not in canonical form")]
    NotCanonical,
}

impl Manifest {
    /// Reads a manifest and checks every rule.
    ///
    /// # Errors
    /// Every way in which the bytes can be no manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseManifestError> {
        let manifest: Self = json::parse(bytes).map_err(ParseManifestError::Json)?;
        manifest.validate()?;
        if manifest.bytes() == bytes {
            Ok(manifest)
        } else {
            Err(ParseManifestError::NotCanonical)
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken, with its field.
    pub fn validate(&self) -> Result<(), ParseManifestError> {
        let invalid = |field: String, reason| Err(ParseManifestError::Invalid { field, reason });
        if self.files.is_empty() || self.files.len() > MAX_FILES {
            return invalid("files".to_owned(), "1 to 1000 files");
        }
        let mut previous: Option<&str> = None;
        for (index, file) in self.files.iter().enumerate() {
            if !is_inner_path(&file.path) {
                return invalid(
                    format!("files[{index}].path"),
                    "relative, components of letters, digits and ._- that are not dots alone, 255 bytes at most",
                );
            }
            if !(1..=MAX_FILE_BYTES).contains(&file.size) {
                return invalid(format!("files[{index}].size"), "1 byte to 64 GiB");
            }
            if previous.is_some_and(|previous| previous >= file.path.as_str()) {
                return invalid(
                    format!("files[{index}].path"),
                    "ascending order, each path once",
                );
            }
            previous = Some(&file.path);
        }
        Ok(())
    }

    /// The canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        json::bytes(self)
    }

    /// The digest that names this version.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// Which model version it is.
    #[must_use]
    pub fn model(&self) -> ModelRef {
        ModelRef {
            name: self.name.clone(),
            version: self.version,
        }
    }
}

fn is_inner_path(path: &str) -> bool {
    path.len() <= 255
        && path.split('/').all(|part| {
            !part.is_empty()
                && part.bytes().any(|byte| byte != b'.')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        })
}

#[cfg(test)]
mod tests;
