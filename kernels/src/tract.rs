//! The CPU engine: tract, with our own `ai.onnx.ml` operators.
//!
//! `load` makes a typed graph with symbols for the free axes, `plan` makes runnable plans of
//! it, and a `TractSession` runs them. Only this engine knows tract; tensors are copied at its
//! edge.
//!
//! A graph that tract can type only when it knows the values of some inputs is typed by call: see
//! `by_value`.
//!
//! A panic inside tract is caught by a `guard`. The state it happened in is thrown away; the plan is
//! immutable and stays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_base::units::ByteCount;
use tract_onnx::prelude::{TValue, TVec, TractResult};

use crate::engine::{Engine, LoadModelError, ModelFile, ModelForm, Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

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
mod simplify;
mod standard;

use bind::Binding;
use guard::Guard;
use load::Graph;
use maps::Names;
use plan::Plans;

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

/// Loads a model. One that cannot be typed as it is may be typed by the values of its inputs.
fn open(
    model: &ModelFile,
    evaluation: operator::Evaluation,
) -> Result<Arc<dyn Session>, LoadModelError> {
    let read = guarded(|| load::read(model, evaluation))?;
    let session = guarded(|| {
        let graph = load::graph(&read)?;
        let plans = Plans::of(&graph, evaluation).map_err(|error| engine_failure(&error))?;
        Ok(Arc::new(TractSession::new(graph, plans)) as Arc<dyn Session>)
    });
    match session {
        Err(error @ (LoadModelError::Shape { .. } | LoadModelError::Engine { .. })) => {
            let by_value = guarded(|| by_value::session(read, evaluation))?;
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

/// A loaded model.
#[derive(Debug)]
struct TractSession {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    binding: Binding,
    plans: Plans,
    roundings: Vec<Rounding>,
    names: Names,
    file_bytes: u64,
    independent: AtomicBool,
    guard: Guard,
}

impl TractSession {
    fn new(graph: Graph, plans: Plans) -> Self {
        Self {
            binding: Binding::new(&graph),
            inputs: graph.inputs,
            outputs: graph.outputs,
            plans,
            roundings: graph.roundings,
            names: graph.names,
            file_bytes: graph.file_bytes,
            independent: AtomicBool::new(false),
            guard: Guard::default(),
        }
    }

    /// Outputs without rows, when the shapes of the outputs say what a row is.
    fn without_rows(&self) -> Option<Vec<Tensor>> {
        let empty = |spec: &TensorSpec| {
            let (batch, rest) = spec.shape.split_first()?;
            let mut shape = vec![0];
            shape.extend(rest.iter().copied().collect::<Option<Vec<_>>>()?);
            (batch.is_none()).then(|| Tensor::new(shape, TensorData::empty(spec.data_type)).ok())?
        };
        self.outputs.iter().map(empty).collect()
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn columns(&self) -> &[String] {
        &self.names.keys
    }

    fn has_sparse_columns(&self) -> bool {
        !self.names.keys.is_empty()
    }

    fn labels(&self) -> &[Vec<String>] {
        &self.names.labels
    }

    fn roundings(&self) -> &[Rounding] {
        &self.roundings
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        self.guard.alive()?;
        let mut extents = self.binding.bind(&self.inputs, inputs)?;
        let rows = self.binding.rows(&extents);
        if rows == Some(0)
            && let Some(outputs) = self.without_rows()
        {
            return Ok(outputs);
        }
        let bucket = rows
            .filter(|_| self.independent.load(Ordering::Relaxed))
            .and_then(|rows| self.plans.bucket(rows));
        if let Some(bucket) = bucket {
            self.binding.set_rows(&mut extents, bucket);
        }
        let values = inputs.iter().map(|input| match bucket {
            Some(bucket) => input
                .pad_rows(bucket)
                .as_ref()
                .map_or_else(|| convert::to_tract(input), convert::to_tract),
            None => convert::to_tract(input),
        });
        let failed = |error: tract_onnx::prelude::TractError| RunModelError::Engine {
            reason: format!("{error:#}"),
        };
        let values = values
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(failed)?;
        let run = || self.plans.get(&extents)?.run(values);
        let outputs = self.guard.run(run)?;
        let outputs = outputs.iter().map(|output| {
            let output = convert::from_tract(output)?;
            Ok(match (rows, bucket) {
                (Some(rows), Some(_)) => output.slice_rows(0..rows).unwrap_or(output),
                _ => output,
            })
        });
        outputs
            .collect::<TractResult<Vec<Tensor>>>()
            .map_err(failed)
    }

    fn permit_rows(&self, rows: Rows) {
        self.independent
            .store(rows == Rows::Independent, Ordering::Relaxed);
    }

    fn rows(&self) -> Rows {
        if self.independent.load(Ordering::Relaxed) {
            Rows::Independent
        } else {
            Rows::Together
        }
    }

    fn resident(&self) -> ByteCount {
        ByteCount(self.file_bytes + self.plans.resident())
    }
}

#[cfg(test)]
mod tests;
