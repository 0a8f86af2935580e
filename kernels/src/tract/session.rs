//! The session of a graph: what it takes and gives, which extents a call binds, whether a batch is
//! padded, and what a panic does. How the graph is computed is a [`Compute`]'s own.
//!
//! Tensors are copied at its edge.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_base::units::ByteCount;
use tract_onnx::prelude::{TValue, TVec, TractError, TractResult};

use super::bind::Binding;
use super::convert;
use super::guard::Guard;
use super::load::Graph;
use super::maps::Names;
use crate::engine::{Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

/// How the graph of a session is computed.
pub(crate) trait Compute: Debug + Send + Sync {
    /// To how many rows a batch of `rows` is padded, where the session may; `None` when there is
    /// nothing to gain.
    fn bucket(&self, rows: usize) -> Option<usize>;

    /// The graph's outputs for these inputs, which give its symbols these extents.
    fn run(&self, extents: &[usize], inputs: TVec<TValue>) -> TractResult<TVec<TValue>>;

    /// How many bytes of the processor's memory it holds besides what came in the model file.
    fn resident(&self) -> u64;

    /// As [`Session::on_device`].
    fn on_device(&self) -> Option<u64> {
        None
    }

    /// As [`Session::host_nodes`].
    fn host_nodes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A tensor of a run is larger than what computes it can have: fewer rows may fit.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a tensor of {elements} numbers is larger than the {most} that the device binds")]
pub(crate) struct TooLarge {
    pub(crate) elements: usize,
    pub(crate) most: usize,
}

/// A loaded model.
#[derive(Debug)]
pub(super) struct GraphSession<C> {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    binding: Binding,
    pub(super) compute: C,
    roundings: Vec<Rounding>,
    names: Names,
    pub(super) file_bytes: u64,
    independent: AtomicBool,
    guard: Guard,
}

impl<C: Compute> GraphSession<C> {
    pub(super) fn new(graph: Graph, compute: C) -> Self {
        Self {
            binding: Binding::new(&graph),
            inputs: graph.inputs,
            outputs: graph.outputs,
            compute,
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

    /// Computes all rows together; `rows` of them where they are independent, which may then be more.
    fn run_whole(
        &self,
        inputs: &[Tensor],
        mut extents: TVec<usize>,
        rows: Option<usize>,
    ) -> Result<Vec<Tensor>, RunModelError> {
        let bucket = rows.and_then(|rows| self.compute.bucket(rows));
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
        let failed = |error: TractError| RunModelError::Engine {
            reason: format!("{error:#}"),
        };
        let values = values
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(failed)?;
        let run = || self.compute.run(&extents, values);
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

    /// Computes the first half of independent rows, then the others.
    fn run_halves(&self, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>, RunModelError> {
        // The halves of a batch that was made for the device are made for it.
        let half = rows.next_power_of_two() / 2;
        let part = |range: Range<usize>| {
            let part = inputs.iter().map(|input| input.slice_rows(range.clone()));
            let part = part.collect::<Option<Vec<Tensor>>>();
            self.run(&part.ok_or_else(|| undivided("inputs"))?)
        };
        let (first, rest) = (part(0..half)?, part(half..rows)?);
        let pairs = first.iter().zip(&rest);
        let whole = pairs.map(|(first, rest)| Tensor::concat_rows(&[first, rest]));
        let whole = whole.collect::<Option<Vec<Tensor>>>();
        whole.ok_or_else(|| undivided("outputs"))
    }
}

/// Rows that are independent have tensors with rows.
fn undivided(tensors: &str) -> RunModelError {
    RunModelError::Engine {
        reason: format!("the {tensors} of a batch that is too large cannot be divided"),
    }
}

impl<C: Compute> Session for GraphSession<C> {
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
        let extents = self.binding.bind(&self.inputs, inputs)?;
        let rows = self.binding.rows(&extents);
        if rows == Some(0)
            && let Some(outputs) = self.without_rows()
        {
            return Ok(outputs);
        }
        let independent = rows.filter(|_| self.independent.load(Ordering::Relaxed));
        match (self.run_whole(inputs, extents, independent), independent) {
            (Err(RunModelError::TooLarge { .. }), Some(rows)) if rows > 1 => {
                self.run_halves(inputs, rows)
            }
            (answered, _) => answered,
        }
    }

    fn host_nodes(&self) -> Vec<String> {
        self.compute.host_nodes()
    }

    fn on_device(&self) -> Option<ByteCount> {
        self.compute.on_device().map(ByteCount)
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
        ByteCount(self.file_bytes + self.compute.resident())
    }
}
