//! Which extent each symbol of the inputs' shapes has in a call, and whether the inputs agree.

use tract_onnx::prelude::{TVec, tvec};

use super::load::{Axis, Graph};
use crate::engine::RunModelError;
use crate::tensor::{Tensor, TensorSpec};

/// How inputs bind the symbols.
#[derive(Debug)]
pub(super) struct Binding {
    /// The axes of each input; a symbol by its position among the graph's.
    axes: Vec<Vec<Axis>>,
    symbols: usize,
    /// The symbol of axis 0 of every input and output, where they share one.
    batch: Option<usize>,
}

impl Binding {
    /// The binding of a graph's inputs.
    pub(super) fn new(graph: &Graph) -> Self {
        Self {
            axes: graph.axes.clone(),
            symbols: graph.symbols.len(),
            batch: graph.batch,
        }
    }

    /// The binding of inputs that have no symbols.
    pub(super) fn without_symbols() -> Self {
        Self {
            axes: Vec::new(),
            symbols: 0,
            batch: None,
        }
    }

    /// Checks the inputs, and gives the extent of each symbol.
    pub(super) fn bind(
        &self,
        specs: &[TensorSpec],
        inputs: &[Tensor],
    ) -> Result<TVec<usize>, RunModelError> {
        if specs.len() != inputs.len() {
            return Err(RunModelError::InputCount {
                expected: specs.len(),
                got: inputs.len(),
            });
        }
        let mut bound: TVec<Option<usize>> = tvec![None; self.symbols];
        let axes = self.axes.iter().map(Vec::as_slice);
        let axes = axes.chain(std::iter::repeat(&[][..]));
        for ((spec, input), axes) in specs.iter().zip(inputs).zip(axes) {
            if spec.data_type != input.data_type() {
                let (expected, got) = (spec.data_type, input.data_type());
                return Err(RunModelError::InputType {
                    name: spec.name.clone(),
                    expected,
                    got,
                });
            }
            let fits = spec.admits(input.shape())
                && axes
                    .iter()
                    .zip(input.shape())
                    .all(|(axis, extent)| match axis {
                        Axis::Symbol(symbol) => bound
                            .get_mut(*symbol)
                            .is_none_or(|bound| *bound.get_or_insert(*extent) == *extent),
                        Axis::Fixed | Axis::Derived => true,
                    });
            if !fits {
                return Err(shape_mistake(spec, axes, &bound, input));
            }
        }
        Ok(bound.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// How many rows the batch has; `None` when the model has no batch.
    pub(super) fn rows(&self, extents: &[usize]) -> Option<usize> {
        extents.get(self.batch?).copied()
    }

    /// Gives the batch another number of rows.
    pub(super) fn set_rows(&self, extents: &mut [usize], rows: usize) {
        if let Some(extent) = self.batch.and_then(|batch| extents.get_mut(batch)) {
            *extent = rows;
        }
    }
}

/// The error that shows what the input should have been, given the inputs before it.
fn shape_mistake(
    spec: &TensorSpec,
    axes: &[Axis],
    bound: &[Option<usize>],
    input: &Tensor,
) -> RunModelError {
    let extent = |(fixed, axis): (&Option<usize>, &Axis)| match axis {
        Axis::Symbol(symbol) => bound.get(*symbol).copied().flatten(),
        Axis::Fixed | Axis::Derived => *fixed,
    };
    let expected = if spec.admits(input.shape()) {
        spec.shape.iter().zip(axes).map(extent).collect()
    } else {
        spec.shape.clone()
    };
    RunModelError::InputShape {
        name: spec.name.clone(),
        expected,
        got: input.shape().to_vec(),
    }
}
