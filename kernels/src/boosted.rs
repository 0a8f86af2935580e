//! The engine for boosted trees: the files of `XGBoost` and `LightGBM`, served as they are.
//!
//! ```text
//! xgboost (JSON, or ubjson) --.
//!                              >-- model: lists of trees, margins, link, features --> session
//! lightgbm (text) ------------'
//! ```
//!
//! A reader turns a file into a `model` or says what in it is not served; from there on nobody
//! knows which framework it came from. The trees are those of [`crate::trees`], which ONNX files
//! become as well. Sums are made in the type and the order in which the framework makes them: `f32`
//! for `XGBoost`, `f64` for `LightGBM`.
//!
//! Never unpickles anything, and reads no format that the frameworks gave up.

use std::sync::Arc;

use crate::engine::{Engine, LoadModelError, ModelFile, ModelForm, Session};

mod categories;
mod lightgbm;
mod link;
mod machine;
mod model;
mod session;
mod ubjson;
mod xgboost;

use machine::Evaluation;
use session::BoostedSession;

/// The engine's name.
const NAME: &str = "trees";

/// Loads models of `XGBoost` and `LightGBM`.
#[derive(Debug, Default)]
pub struct TreesEngine;

impl TreesEngine {
    /// The engine; it has no state.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Engine for TreesEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn takes(&self, form: ModelForm) -> bool {
        matches!(form, ModelForm::XgBoost(_) | ModelForm::LightGbm(_))
    }

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        let session = BoostedSession::new(read(model)?, Evaluation::Kernel, model.form)?;
        Ok(Arc::new(session))
    }
}

/// The reference evaluation of a model: row by row and tree by tree, as the frameworks state it.
///
/// # Errors
/// As [`Engine::load`].
pub(crate) fn reference(model: &ModelFile) -> Result<impl Session + use<>, LoadModelError> {
    BoostedSession::new(read(model)?, Evaluation::Reference, model.form)
}

fn read(file: &ModelFile) -> Result<model::Model, LoadModelError> {
    let bytes = std::fs::read(&file.path).map_err(|source| LoadModelError::Read {
        path: file.path.clone(),
        source,
    })?;
    match file.form {
        ModelForm::XgBoost(predictor) => xgboost::read(&bytes, predictor),
        ModelForm::LightGbm(predictor) => lightgbm::read(&bytes, predictor),
        ModelForm::Onnx => Err(LoadModelError::NotServed {
            what: "an ONNX graph is not what this engine takes".to_owned(),
        }),
    }
}
