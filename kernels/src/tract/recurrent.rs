//! `RNN`, `GRU` and `LSTM`: a state that goes from step to step of a sequence.
//!
//! One operator computes the whole sequence, each row of the batch for itself, so that a batch of any
//! size answers each row as alone, bit for bit. tract's own need the batch to be known, and begin
//! where the call before ended. Must never keep anything from one call to the next.
//!
//! ```text
//! inputs   X [steps, batch, features]   W [directions, gates x hidden, features]
//!          R [directions, gates x hidden, hidden]   B [directions, 2 x gates x hidden]
//!          sequence_lens [batch]   initial_h, initial_c [directions, batch, hidden]
//!          P [directions, 3 x hidden]
//! outputs  Y [steps, directions, batch, hidden]   Y_h, Y_c [directions, batch, hidden]
//! ```
//!
//! With `layout = 1` the batch comes first everywhere. All but X, W and R may be absent.

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TDim, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::operator::{Build, Evaluation, Operator, Port, build};

mod activation;
mod cell;
mod sequence;
#[cfg(feature = "wgpu")]
mod sight;
mod together;

use activation::Activation;
use cell::Cell;
#[cfg(feature = "wgpu")]
pub(crate) use sight::{Function, RecurrentForm, RecurrentKind, RecurrentOutput, recurrent};

use sequence::{Given, Lengths, Places, Real, Sequence};
use together::Packed;

/// Puts these operators into `register`, in place of tract's.
pub(super) fn register(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    let build = if evaluation.is_plain() {
        build::<Recurrent<true>>
    } else {
        evaluation.builder::<Recurrent<false>>()
    };
    for name in ["RNN", "GRU", "LSTM"] {
        register.insert(name, build);
    }
}

/// Where each input is among those that are given.
#[derive(Debug, Clone, Copy)]
struct Inputs {
    count: usize,
    bias: Option<usize>,
    lengths: Option<usize>,
    first_state: Option<usize>,
    first_cell: Option<usize>,
    peepholes: Option<usize>,
}

/// An output that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// The state after each step.
    Every,
    /// The state after the last step.
    Last,
    /// The cell after the last step.
    LastCell,
}

/// A recurrent operator. The `REFERENCE` is computed in `f64`.
#[derive(Debug)]
struct Recurrent<const REFERENCE: bool> {
    inputs: Inputs,
    outputs: Vec<Output>,
    batch_first: bool,
    /// One for each direction; true where the sequence is read from its end.
    directions: Vec<Direction>,
    hidden: usize,
    clip: Option<f32>,
    /// The weights of each direction, where they never change and all rows can be computed together.
    packed: Option<Arc<[Packed]>>,
}

#[derive(Debug, Clone)]
struct Direction {
    cell: Cell,
    backwards: bool,
}

impl<const REFERENCE: bool> Build for Recurrent<REFERENCE> {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let hidden: usize = node.get_attr("hidden_size")?;
        ensure!(hidden > 0, "{} has a hidden_size of 0", node.op_type);
        let backwards: &[bool] = match node.get_attr_opt::<&str>("direction")? {
            None | Some("forward") => &[false],
            Some("reverse") => &[true],
            Some("bidirectional") => &[false, true],
            Some(other) => bail!("direction is {other:?}, not forward, reverse or bidirectional"),
        };
        let mut activations = Activation::read(node)?.into_iter();
        let mut directions = Vec::with_capacity(backwards.len());
        for backwards in backwards {
            directions.push(Direction {
                cell: Cell::read(node, &mut activations)?,
                backwards: *backwards,
            });
        }
        ensure!(
            activations.next().is_none(),
            "{} has more activations than gates",
            node.op_type
        );
        let mut given = optional_inputs(node).skip(3);
        let mut next = || given.next().flatten();
        let inputs = Inputs {
            count: node.input.iter().filter(|name| !name.is_empty()).count(),
            bias: next(),
            lengths: next(),
            first_state: next(),
            first_cell: next(),
            peepholes: next(),
        };
        let wanted = [Output::Every, Output::Last, Output::LastCell].into_iter();
        let wanted = wanted.zip(optional_outputs(node));
        Ok(Self {
            inputs,
            outputs: wanted
                .filter_map(|(output, at)| at.map(|_| output))
                .collect(),
            batch_first: node.get_attr_opt::<i64>("layout")?.unwrap_or(0) == 1,
            directions,
            hidden,
            clip: node.get_attr_opt("clip")?,
            packed: None,
        })
    }
}

impl<const REFERENCE: bool> Recurrent<REFERENCE> {
    fn gates(&self) -> usize {
        self.directions
            .first()
            .map_or(0, |first| first.cell.gates())
    }

    /// `[directions, batch, hidden]`, or with the batch first.
    fn state_shape<D>(&self, batch: D, number: impl Fn(usize) -> D) -> TVec<D> {
        let (directions, hidden) = (number(self.directions.len()), number(self.hidden));
        if self.batch_first {
            tvec![batch, directions, hidden]
        } else {
            tvec![directions, batch, hidden]
        }
    }

    fn every_shape<D>(&self, steps: D, batch: D, number: impl Fn(usize) -> D) -> TVec<D> {
        let (directions, hidden) = (number(self.directions.len()), number(self.hidden));
        if self.batch_first {
            tvec![batch, steps, directions, hidden]
        } else {
            tvec![steps, directions, batch, hidden]
        }
    }

    /// Computes in numbers of type `T`.
    fn run<T: Real>(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [x, w, r, ..] = inputs else {
            bail!("a recurrent operator takes three inputs at least")
        };
        let (steps, batch, features) = match (x.shape(), self.batch_first) {
            ([steps, batch, features], false) | ([batch, steps, features], true) => {
                (*steps, *batch, *features)
            }
            (other, _) => bail!("X has shape {other:?}, not three axes"),
        };
        let (count, gates, hidden) = (self.directions.len(), self.gates(), self.hidden);
        let given = |at: Option<usize>, name: &str, shape: &[usize]| match at {
            None => Ok(None),
            Some(at) => numbers::<T>(inputs, at, name, shape).map(Some),
        };
        let states = self.state_shape(batch, |number| number);
        let (w, r) = (
            read::<T>(w, "W", &[count, gates * hidden, features])?,
            read::<T>(r, "R", &[count, gates * hidden, hidden])?,
        );
        let bias = given(self.inputs.bias, "B", &[count, 2 * gates * hidden])?;
        let first_state = given(self.inputs.first_state, "initial_h", &states)?;
        let first_cell = given(self.inputs.first_cell, "initial_c", &states)?;
        let peepholes = given(self.inputs.peepholes, "P", &[count, 3 * hidden])?;
        let x = read::<T>(x, "X", x.shape())?;
        let lengths = match self.inputs.lengths {
            None => None,
            Some(at) => Some(Lengths::read(inputs, at, batch, steps)?),
        };
        let mut sequence = Sequence::new(self.places(steps, batch));
        for (number, direction) in self.directions.iter().enumerate() {
            let given = Given {
                x: &x,
                features,
                w: part(&w, number, count),
                r: part(&r, number, count),
                bias: bias.as_deref().map(|bias| part(bias, number, count)),
                peepholes: peepholes.as_deref().map(|all| part(all, number, count)),
                first_state: first_state.as_deref(),
                first_cell: first_cell.as_deref(),
                lengths: lengths.as_ref(),
                clip: self.clip.map(T::of),
            };
            sequence.run(number, &direction.cell, direction.backwards, &given);
        }
        self.given_out(&sequence, (steps, batch))
    }

    /// Computes with packed weights.
    fn run_together(&self, packed: &[Packed], inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let x = inputs.first().context("X is missing")?;
        let (steps, batch) = match (x.shape(), self.batch_first) {
            ([steps, batch, _], false) | ([batch, steps, _], true) => (*steps, *batch),
            (other, _) => bail!("X has shape {other:?}, not three axes"),
        };
        let states = self.state_shape(batch, |number| number);
        let given = |at: Option<usize>, name: &str| {
            let read = |at| numbers::<f32>(inputs, at, name, &states);
            at.map(read).transpose()
        };
        let first_state = given(self.inputs.first_state, "initial_h")?;
        let first_cell = given(self.inputs.first_cell, "initial_c")?;
        let x = x.try_as_plain_ram()?;
        let places = self.places(steps, batch);
        let mut sequence = Sequence::new(places);
        for (number, (direction, packed)) in self.directions.iter().zip(packed).enumerate() {
            let direction = together::Direction {
                cell: direction.cell,
                packed,
                backwards: direction.backwards,
                clip: self.clip,
                places: &places,
                number,
            };
            let mut outputs = together::Outputs {
                every: &mut sequence.every,
                last: &mut sequence.last,
                last_cell: &mut sequence.last_cell,
            };
            let x = x.as_slice::<f32>()?;
            direction.run(
                x,
                [first_state.as_deref(), first_cell.as_deref()],
                &mut outputs,
            );
        }
        self.given_out(&sequence, (steps, batch))
    }

    fn places(&self, steps: usize, batch: usize) -> Places {
        Places {
            steps,
            batch,
            units: self.hidden,
            directions: self.directions.len(),
            batch_first: self.batch_first,
        }
    }

    /// The outputs that are wanted.
    fn given_out<T: Real>(
        &self,
        sequence: &Sequence<T>,
        (steps, batch): (usize, usize),
    ) -> TractResult<TVec<Tensor>> {
        let states = self.state_shape(batch, |number| number);
        let mut outputs = TVec::new();
        for output in &self.outputs {
            outputs.push(match output {
                Output::Every => {
                    let shape = self.every_shape(steps, batch, |number| number);
                    Tensor::from_shape(&shape, &T::narrow(&sequence.every))?
                }
                Output::Last => Tensor::from_shape(&states, &T::narrow(&sequence.last))?,
                Output::LastCell => Tensor::from_shape(&states, &T::narrow(&sequence.last_cell))?,
            });
        }
        Ok(outputs)
    }
}

/// The share of one direction.
fn part<T>(all: &[T], number: usize, count: usize) -> &[T] {
    let length = all.len() / count.max(1);
    let end = (number + 1) * length;
    all.get(number * length..end).unwrap_or_default()
}

fn numbers<T: Real>(
    inputs: &[&Tensor],
    at: usize,
    name: &str,
    shape: &[usize],
) -> TractResult<Vec<T>> {
    let input = inputs
        .get(at)
        .with_context(|| format!("{name} is missing"))?;
    read(input, name, shape)
}

fn read<T: Real>(tensor: &Tensor, name: &str, shape: &[usize]) -> TractResult<Vec<T>> {
    ensure!(
        tensor.shape() == shape,
        "{name} has shape {:?}, not {shape:?}",
        tensor.shape()
    );
    let view = tensor.try_as_plain_ram()?;
    Ok(view.as_slice::<f32>()?.iter().copied().map(T::of).collect())
}

impl<const REFERENCE: bool> Operator for Recurrent<REFERENCE> {
    const NAME: &'static str = "Recurrent";

    fn inputs(&self) -> usize {
        self.inputs.count
    }

    fn output_count(&self) -> usize {
        self.outputs.len()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let Some((datum_type, shape)) = inputs.first() else {
            bail!("a recurrent operator has no input")
        };
        ensure!(
            *datum_type == DatumType::F32,
            "recurrent operators take f32, got {datum_type:?}"
        );
        let (steps, batch): (&TDim, &TDim) = match (&**shape, self.batch_first) {
            ([steps, batch, _], false) | ([batch, steps, _], true) => (steps, batch),
            (other, _) => bail!("X has shape {other:?}, not three axes"),
        };
        let number = |number: usize| number.to_dim();
        let of_output = |output: &Output| match output {
            Output::Every => self.every_shape(steps.clone(), batch.clone(), number),
            Output::Last | Output::LastCell => self.state_shape(batch.clone(), number),
        };
        let outputs = self.outputs.iter();
        Ok(outputs
            .map(|output| (DatumType::F32, of_output(output)))
            .collect())
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let constant = |at: usize| constants.get(at).and_then(Option::as_deref);
        let bias = self.inputs.bias.map(constant);
        let plain = self.inputs.lengths.is_none()
            && self.inputs.peepholes.is_none()
            && bias.is_none_or(|bias| bias.is_some());
        let together = self
            .directions
            .iter()
            .all(|direction| together::takes(direction.cell));
        let (Some(w), Some(r), false) =
            (constant(1), constant(2), REFERENCE || !plain || !together)
        else {
            return Ok(None);
        };
        let pack = |(number, direction): (usize, &Direction)| {
            Packed::new(
                (number, self.hidden),
                direction.cell,
                [w, r],
                bias.flatten(),
            )
        };
        let packed: Vec<Packed> = self
            .directions
            .iter()
            .enumerate()
            .map(pack)
            .collect::<TractResult<_>>()?;
        // What is left: X and the first states.
        let kept: TVec<usize> = (0..constants.len())
            .filter(|at| !matches!(at, 1 | 2) && self.inputs.bias != Some(*at))
            .collect();
        let moved = |at: Option<usize>| kept.iter().position(|kept| Some(*kept) == at);
        let prepared = Self {
            inputs: Inputs {
                count: kept.len(),
                bias: None,
                lengths: None,
                first_state: moved(self.inputs.first_state),
                first_cell: moved(self.inputs.first_cell),
                peepholes: None,
            },
            outputs: self.outputs.clone(),
            batch_first: self.batch_first,
            directions: self.directions.clone(),
            hidden: self.hidden,
            clip: self.clip,
            packed: Some(packed.into()),
        };
        Ok(Some((prepared, kept)))
    }

    fn held(&self) -> u64 {
        self.packed
            .iter()
            .flat_map(|packed| packed.iter())
            .map(Packed::bytes)
            .sum()
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        match &self.packed {
            Some(packed) => self.run_together(packed, inputs),
            None if REFERENCE => self.run::<f64>(inputs),
            None => self.run::<f32>(inputs),
        }
    }
}

#[cfg(test)]
mod tests;
