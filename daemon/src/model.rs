//! Model versions on this box: imported, proved, catalogued, loaded and scored.
//!
//! - [`signature`], [`mlmodel`]: what a model takes and gives, as its directory says
//! - [`scoring`]: from the JSON of an invocation to tensors and back
//! - [`catalog`]: what the state store keeps of models
//!
//! Must never serve a version that has not proved itself, never change a version once it is
//! catalogued, and never run code that came with a model.

pub mod catalog;
pub mod mlmodel;
pub mod scoring;
pub mod signature;

pub use catalog::{ModelOrigin, ModelRecord, VerdictRecord};
pub use scoring::{
    BindModelError, InputForm, Mistake, Predictions, ScoreError, Scorer, ScoringInput,
    ScoringRequest, parse_scoring_body,
};
pub use signature::{Column, ColumnType, Schema, Signature, TensorField};
