//! The CPU engine: tract, with our own `ai.onnx.ml` operators.
//!
//! `load` makes a typed graph with symbols for the free axes, `plan` makes runnable plans of
//! it, and a `TractSession` runs them. Only this engine knows tract; tensors are copied at its
//! edge.
//!
//! A panic inside tract is caught. The state it happened in is thrown away; the plan is immutable
//! and stays. A session that panics `MOST_PANICS` times without one answer in between is dead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use edgeward_base::units::ByteCount;
use tract_onnx::prelude::{TValue, TVec, TractResult};

use crate::engine::{Engine, LoadModelError, ModelFile, Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

mod bind;
mod convert;
mod domains;
mod load;
mod ml;
mod operator;
mod plan;
mod quantised;
mod recurrent;
mod simplify;

use bind::Binding;
use load::Graph;
use plan::Plans;

/// After this many panics in a row a session answers nothing any more.
const MOST_PANICS: u32 = 8;

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

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        guarded(|| {
            let graph = load::graph(model, operator::Evaluation::Kernel)?;
            let plans = Plans::optimised(&graph).map_err(|error| engine_failure(&error))?;
            Ok(Arc::new(TractSession::new(graph, plans)) as Arc<dyn Session>)
        })
    }
}

/// The reference evaluation of a model: every node of the typed graph as the file states it, one
/// after the other, with no optimisation and with the plain form of our own operators.
///
/// # Errors
/// As [`Engine::load`].
pub(crate) fn reference(model: &ModelFile) -> Result<impl Session + use<>, LoadModelError> {
    guarded(|| {
        let graph = load::graph(model, operator::Evaluation::Reference)?;
        let plans = Plans::as_written(&graph).map_err(|error| engine_failure(&error))?;
        Ok(TractSession::new(graph, plans))
    })
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
    file_bytes: u64,
    independent: AtomicBool,
    panics: AtomicU32,
    dead: OnceLock<String>,
}

impl TractSession {
    fn new(graph: Graph, plans: Plans) -> Self {
        Self {
            binding: Binding::new(&graph),
            inputs: graph.inputs,
            outputs: graph.outputs,
            plans,
            roundings: graph.roundings,
            file_bytes: graph.file_bytes,
            independent: AtomicBool::new(false),
            panics: AtomicU32::new(0),
            dead: OnceLock::new(),
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

    /// Runs the plan for `extents`, guarded against panics.
    fn run_plan(
        &self,
        extents: &[usize],
        inputs: TVec<TValue>,
    ) -> Result<TVec<TValue>, RunModelError> {
        let run = || -> TractResult<TVec<TValue>> { self.plans.get(extents)?.run(inputs) };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outputs)) => {
                if self.panics.load(Ordering::Relaxed) != 0 {
                    self.panics.store(0, Ordering::Relaxed);
                }
                Ok(outputs)
            }
            Ok(Err(error)) => Err(RunModelError::Engine {
                reason: format!("{error:#}"),
            }),
            Err(panic) => {
                let reason = format!("panicked: {}", panic_message(&*panic));
                if self.panics.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_PANICS {
                    let reason = self
                        .dead
                        .get_or_init(|| format!("{reason}, {MOST_PANICS} times in a row"))
                        .clone();
                    return Err(RunModelError::Dead { reason });
                }
                Err(RunModelError::Engine { reason })
            }
        }
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn roundings(&self) -> &[Rounding] {
        &self.roundings
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        if let Some(reason) = self.dead.get() {
            return Err(RunModelError::Dead {
                reason: reason.clone(),
            });
        }
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
        let outputs = self.run_plan(&extents, values)?;
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
