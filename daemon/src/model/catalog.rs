//! What the state store keeps of models: the catalogue of versions, and the verdicts on them.

use edgeward_base::digest::Digest;
use edgeward_base::names::ModelRef;
use edgeward_kernels::verify::Verdict;
use serde::{Deserialize, Serialize};

use crate::store::{Durability, Record};

/// Who brought a model version to this box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelOrigin {
    /// Somebody on the box: the command line or a sample.
    Local,
    /// The fleet's registry.
    Registry,
}

/// A model version in the catalogue. Once it is there it never changes: a version is immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The model version.
    pub model: ModelRef,
    /// The digest of its manifest, which names every file of it by digest.
    pub manifest: Digest,
    /// The size of the manifest in bytes, for whoever fetches it.
    pub manifest_size: u64,
    /// The size of all its files in bytes.
    pub size: u64,
    /// Who brought it.
    pub origin: ModelOrigin,
    /// When it was catalogued, in microseconds since 1970 UTC.
    pub imported_at: i64,
}

impl Record for ModelRecord {
    const TABLE: &'static str = "model";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.model.to_string()
    }
}

/// That an engine of this build, on this processor, has proved itself on a model version.
///
/// Recomputable: lost, it costs one verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The manifest of the model version: its files and its golden outputs.
    pub manifest: Digest,
    /// The engine.
    pub engine: String,
    /// The build and the processor: see `Fingerprint`.
    pub fingerprint: String,
    /// What it was held against, and whether its rows are independent.
    pub verdict: Verdict,
    /// How long one run over the known inputs took, in microseconds; measured only where several
    /// engines have proved themselves.
    pub run_micros: Option<u64>,
}

impl VerdictRecord {
    /// The key of a verdict.
    #[must_use]
    pub fn key_of(manifest: &Digest, engine: &str, fingerprint: &str) -> String {
        format!("{manifest}/{engine}/{fingerprint}")
    }
}

impl Record for VerdictRecord {
    const TABLE: &'static str = "verdict";
    const SCHEMA: u16 = 1;
    const DURABILITY: Durability = Durability::Progress;

    fn key(&self) -> String {
        Self::key_of(&self.manifest, &self.engine, &self.fingerprint)
    }
}
