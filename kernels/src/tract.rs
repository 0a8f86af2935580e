//! The CPU engine: tract, with our own `ai.onnx.ml` operators.
//!
//! `load` makes a typed graph with symbols for the free axes, `plan` makes runnable plans of
//! it, and a `session` runs them. Only this engine knows tract; tensors are copied at its
//! edge.
//!
//! A graph that tract can type only when it knows the values of some inputs is typed by call: see
//! `by_value`.
//!
//! A panic inside tract is caught by a `guard`. The state it happened in is thrown away; the plan is
//! immutable and stays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::TractResult;

use crate::engine::{Engine, LoadModelError, ModelFile, ModelForm, Session};

mod bind;
mod bounded;
mod branch;
mod by_value;
mod contributed;
mod convert;
mod domains;
mod doubles;
mod fuse;
mod guard;
mod image;
mod load;
mod maps;
mod ml;
mod operator;
mod plan;
mod quantised;
mod real;
mod recent;
mod recurrent;
mod session;
mod simplify;
mod standard;

pub(crate) use load::Graph;
#[cfg(feature = "wgpu")]
pub(crate) use ml::{Features, features};
use plan::Plans;
#[cfg(feature = "wgpu")]
pub(crate) use plan::{Plan as HostPlan, bounds as plan_bounds, bucket, concrete};
#[cfg(feature = "wgpu")]
pub(crate) use quantised::{Affine, Along, Quantised, Taps, quantised};
#[cfg(feature = "wgpu")]
pub(crate) use recent::{Entry, Recent};
#[cfg(feature = "wgpu")]
pub(crate) use recurrent::{Function, RecurrentForm, RecurrentKind, RecurrentOutput, recurrent};
pub(crate) use session::Compute;
use session::GraphSession;
#[cfg(feature = "wgpu")]
pub(crate) use session::TooLarge;

/// The engine's name.
const NAME: &str = "tract";

/// Loads models with tract.
#[derive(Debug, Default)]
pub struct TractEngine;

impl TractEngine {
    /// The engine; it has no state.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn takes(&self, form: ModelForm) -> bool {
        form == ModelForm::Onnx
    }

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        open(model, operator::Evaluation::Kernel)
    }
}

/// The reference evaluation of a model: every node of the typed graph as the file states it, one
/// after the other, with no optimisation and with the plain form of our own operators.
///
/// # Errors
/// As [`Engine::load`].
pub(crate) fn reference(model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
    open(model, operator::Evaluation::Reference)
}

/// Loads a model for another engine, which computes its graph as the file states it.
///
/// # Errors
/// As [`Engine::load`].
#[cfg(feature = "wgpu")]
pub(crate) fn open_on<C: Compute + 'static>(
    model: &ModelFile,
    compute: impl Fn(&Graph) -> TractResult<C> + Send + Sync + 'static,
) -> Result<Arc<dyn Session>, LoadModelError> {
    open_with(model, operator::Evaluation::Device, compute)
}

/// Loads a model.
fn open(
    model: &ModelFile,
    evaluation: operator::Evaluation,
) -> Result<Arc<dyn Session>, LoadModelError> {
    open_with(model, evaluation, move |graph| Plans::of(graph, evaluation))
}

/// Loads a model. One that cannot be typed as it is may be typed by the values of its inputs.
fn open_with<C: Compute + 'static>(
    model: &ModelFile,
    evaluation: operator::Evaluation,
    compute: impl Fn(&Graph) -> TractResult<C> + Send + Sync + 'static,
) -> Result<Arc<dyn Session>, LoadModelError> {
    let read = guarded(|| load::read(model, evaluation))?;
    let session = guarded(|| {
        let graph = load::graph(&read)?;
        let compute = compute(&graph).map_err(|error| engine_failure(&error))?;
        Ok(Arc::new(GraphSession::new(graph, compute)) as Arc<dyn Session>)
    });
    match session {
        Err(error @ (LoadModelError::Shape { .. } | LoadModelError::Engine { .. })) => {
            let by_value = guarded(|| by_value::session(read, by_value::Maker::new(compute)))?;
            by_value.map_or(Err(error), |session| Ok(Arc::new(session) as _))
        }
        session => session,
    }
}

/// Runs `load` and turns a panic into an error.
fn guarded<T>(load: impl FnOnce() -> Result<T, LoadModelError>) -> Result<T, LoadModelError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        Err(LoadModelError::Engine {
            reason: format!("panicked: {}", panic_message(&*panic)),
        })
    })
}

fn engine_failure(error: &tract_onnx::prelude::TractError) -> LoadModelError {
    LoadModelError::Engine {
        reason: format!("{error:#}"),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
