//! The `models` document: the catalogue of model versions a device shall hold.

use std::collections::BTreeSet;

use edgeward_base::{
    digest::Digest,
    names::{ModelName, ModelRef, ModelVersion},
};
use serde::{Deserialize, Serialize};

use super::InvalidDocument;
use crate::{json, manifest::MAX_MANIFEST_BYTES};

/// The most model versions in one document.
pub const MAX_MODELS: usize = 500;

/// The catalogue of model versions, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsDocument {
    /// In any order; each (name, version) once.
    pub models: Vec<ModelEntry>,
}

/// One model version of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Registered model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Bytes of its manifest.
    pub manifest_size: u64,
}

impl ModelEntry {
    /// Which model version it is.
    #[must_use]
    pub fn model(&self) -> ModelRef {
        ModelRef {
            name: self.name.clone(),
            version: self.version,
        }
    }
}

impl ModelsDocument {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken, with its field.
    pub fn validate(&self) -> Result<(), InvalidDocument> {
        if self.models.len() > MAX_MODELS {
            return Err(InvalidDocument::new(
                "models",
                format!("{MAX_MODELS} versions at most"),
            ));
        }
        let mut seen = BTreeSet::new();
        for (index, entry) in self.models.iter().enumerate() {
            if !seen.insert((&entry.name, entry.version)) {
                let reason = format!("{} is listed twice", entry.model());
                return Err(InvalidDocument::new(format!("models[{index}]"), reason));
            }
            if !(1..=MAX_MANIFEST_BYTES).contains(&entry.manifest_size) {
                return Err(InvalidDocument::new(
                    format!("models[{index}].manifest_size"),
                    format!("1 to {MAX_MANIFEST_BYTES} bytes"),
                ));
            }
        }
        Ok(())
    }

    /// Whether the catalogue has this version with this manifest.
    #[must_use]
    pub fn holds(&self, name: &ModelName, version: ModelVersion, manifest: &Digest) -> bool {
        self.models.iter().any(|entry| {
            entry.name == *name && entry.version == version && entry.manifest == *manifest
        })
    }

    /// BLAKE3 of the canonical form: the same for every order of the entries.
    #[must_use]
    pub fn effective_hash(&self) -> Digest {
        let mut entries: Vec<_> = self.models.iter().collect();
        entries.sort();
        Digest::of(&json::bytes(&entries))
    }
}
