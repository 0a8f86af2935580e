//! Whole sequences of `f32`, the rows of the batch together: sums by the products of [`crate::float`],
//! with weights that were packed once.
//!
//! A row's numbers do not depend on the rows beside it: see there. Takes no peepholes, no lengths and
//! no coupled gates; those are computed as `sequence` does.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tract_onnx::tract_hir::internal::{Tensor, TractResult, bail, ensure};

use super::activation::Activation;
use super::cell::Cell;
use super::sequence::Places;
use crate::float::product::Weights;
use crate::float::{Bounds, cell, function};
use crate::team;

/// The weights of one direction.
#[derive(Debug)]
pub(super) struct Packed {
    /// Of the input, all gates.
    input: Weights,
    /// Of the state: all gates, or without the candidate of a GRU that is reset before.
    state: Weights,
    /// Of the state that was reset.
    candidate: Option<Weights>,
}

impl Packed {
    /// Packs the weights of direction `number`: W, R and B as ONNX lays them out.
    pub(super) fn new(
        (number, units): (usize, usize),
        cell: Cell,
        [w, r]: [&Tensor; 2],
        bias: Option<&Tensor>,
    ) -> TractResult<Self> {
        let wide = cell.gates() * units;
        let &[_, _, features] = w.shape() else {
            bail!("W has shape {:?}, not three axes", w.shape())
        };
        ensure!(
            w.shape().get(1) == Some(&wide) && r.shape().get(1..) == Some(&[wide, units]),
            "W and R have shapes {:?} and {:?}, not for {wide} sums of {units} units",
            w.shape(),
            r.shape()
        );
        let (w, r) = (w.try_as_plain_ram()?, r.try_as_plain_ram()?);
        let (w, r) = (w.as_slice::<f32>()?, r.as_slice::<f32>()?);
        let bias = bias.map(Tensor::try_as_plain_ram).transpose()?;
        let bias = bias
            .as_ref()
            .map(|bias| bias.as_slice::<f32>())
            .transpose()?;
        let of_direction =
            bias.and_then(|bias| bias.get(number * 2 * wide..(number + 1) * 2 * wide));
        ensure!(
            bias.is_some() == of_direction.is_some(),
            "B has too few numbers for {wide} sums"
        );
        let biases = of_direction.map(|bias| bias.split_at(wide));
        let pack =
            |numbers: &[f32], depth: usize, first: usize, columns: usize, bias: Option<&[f32]>| {
                let weight = |_, place, column| {
                    let at = (number * wide + first + column) * depth + place;
                    numbers.get(at).copied().unwrap_or_default()
                };
                let bias = bias.and_then(|bias| bias.get(first..first + columns));
                Weights::pack((1, depth, columns), weight, bias)
            };
        let of_state = biases.map(|(_, of_state)| of_state);
        let reset_before = matches!(
            cell,
            Cell::Gru {
                linear_before_reset: false,
                ..
            }
        );
        let at_once = if reset_before { wide - units } else { wide };
        Ok(Self {
            input: pack(w, features, 0, wide, biases.map(|(of_input, _)| of_input)),
            state: pack(r, units, 0, at_once, of_state),
            candidate: reset_before.then(|| pack(r, units, at_once, units, of_state)),
        })
    }
}

impl Packed {
    /// How many bytes they hold.
    pub(super) fn bytes(&self) -> u64 {
        let candidate = self.candidate.as_ref().map_or(0, Weights::bytes);
        self.input.bytes() + self.state.bytes() + candidate
    }

    /// About how long a step of a row takes.
    fn nanoseconds(&self) -> usize {
        let candidate = self.candidate.as_ref().map_or(0, Weights::nanoseconds);
        self.input.nanoseconds() + self.state.nanoseconds() + candidate
    }
}

/// Whether a cell can be computed so.
pub(super) fn takes(cell: Cell) -> bool {
    !matches!(cell, Cell::Lstm { coupled: true, .. })
}

/// What a direction is given and fills.
pub(super) struct Direction<'a> {
    pub(super) cell: Cell,
    pub(super) packed: &'a Packed,
    pub(super) backwards: bool,
    pub(super) clip: Option<f32>,
    pub(super) places: &'a Places,
    pub(super) number: usize,
}

/// The outputs, filled one direction after the other.
pub(super) struct Outputs<'a> {
    pub(super) every: &'a mut [f32],
    pub(super) last: &'a mut [f32],
    pub(super) last_cell: &'a mut [f32],
}

/// The state of all rows and what a step makes of it.
struct Step {
    hidden: Vec<f32>,
    cell: Vec<f32>,
    /// Sums of the state, and of the state that was reset.
    sums: Vec<f32>,
    kept: Vec<f32>,
    candidate: Vec<f32>,
    /// Where each row's state begins.
    rows: Vec<usize>,
}

impl Direction<'_> {
    /// Computes the direction; rows are shared out among the threads of the call. `first_state` and
    /// `first_cell` are as ONNX lays them out.
    pub(super) fn run(&self, x: &[f32], firsts: [Option<&[f32]>; 2], outputs: &mut Outputs<'_>) {
        let Places { steps, batch, .. } = *self.places;
        let size = if team::is_worth(self.packed.nanoseconds() * steps * batch) {
            team::part(batch, 4, 12)
        } else {
            batch.max(1)
        };
        let outputs = Mutex::new(outputs);
        let parts = (0..batch).step_by(size);
        let parts = parts.map(|first| first..batch.min(first + size));
        team::each_of(parts.collect(), |rows| {
            self.run_rows(rows, x, firsts, &outputs);
        });
    }

    /// Computes some rows.
    fn run_rows(
        &self,
        rows: Range<usize>,
        x: &[f32],
        [first_state, first_cell]: [Option<&[f32]>; 2],
        outputs: &Mutex<&mut Outputs<'_>>,
    ) {
        let places = self.places;
        let (steps, units) = (places.steps, places.units);
        let lock = || outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inputs = self.inputs(&rows, x);
        let first = |given: Option<&[f32]>| {
            let rows = rows.clone().map(|row| places.state(self.number, row));
            let rows = rows.map(|at| given.and_then(|given| given.get(at..at + units)));
            rows.flat_map(|row| {
                (0..units).map(move |unit| {
                    row.map_or(0.0, |row| row.get(unit).copied().unwrap_or_default())
                })
            })
            .collect::<Vec<f32>>()
        };
        let wide = self.cell.gates() * units;
        let mut state = Step {
            hidden: first(first_state),
            cell: first(first_cell),
            sums: vec![0.0; rows.len() * wide],
            kept: vec![0.0; rows.len() * units],
            candidate: vec![0.0; rows.len() * units],
            rows: (0..rows.len()).map(|row| row * units).collect(),
        };
        for step in 0..steps {
            let step = if self.backwards {
                steps - 1 - step
            } else {
                step
            };
            self.step(&mut inputs, step, &mut state);
            let every = &mut lock().every;
            for (row, hidden) in rows.clone().zip(state.hidden.chunks_exact(units)) {
                copy(hidden, every, places.every(step, self.number, row));
            }
        }
        let outputs = &mut **lock();
        let states = state.hidden.chunks_exact(units);
        for (row, (hidden, cell)) in rows.zip(states.zip(state.cell.chunks_exact(units))) {
            let at = places.state(self.number, row);
            copy(hidden, outputs.last, at);
            copy(cell, outputs.last_cell, at);
        }
    }

    /// The sums of the input of some rows: step after step.
    fn inputs(&self, rows: &Range<usize>, x: &[f32]) -> Vec<f32> {
        let weights = &self.packed.input;
        let (depth, wide) = (weights.depth(), weights.columns());
        let of_step = |step| {
            let rows = rows.clone();
            rows.map(move |row| self.places.input(step, row) * depth)
        };
        let places: Vec<usize> = (0..self.places.steps).flat_map(of_step).collect();
        let mut inputs = vec![0.0; places.len() * wide];
        let block = weights.block(places.len()).max(1);
        let blocks = places
            .chunks(block)
            .zip(inputs.chunks_mut((block * wide).max(1)));
        team::each_of(blocks.collect(), |(places, inputs)| {
            weights.multiply(x, places, Bounds::NONE, inputs, wide);
        });
        inputs
    }

    /// One step of all rows. `inputs` are the sums of the input, of which those of this step are used up.
    fn step(&self, inputs: &mut [f32], step: usize, state: &mut Step) {
        let columns = self.packed.state.columns();
        let sums = &mut state.sums;
        let (hidden, rows) = (&state.hidden, &state.rows);
        let weights = &self.packed.state;
        weights.multiply(hidden, rows, Bounds::NONE, sums, columns);
        if let Some(weights) = &self.packed.candidate {
            self.reset_before(weights, inputs, step, state);
            return;
        }
        let units = self.places.units;
        let sums = state.sums.chunks_exact_mut(columns.max(1));
        let hidden = state.hidden.chunks_exact_mut(units);
        let cells = state.cell.chunks_exact_mut(units);
        for (row, ((sums, hidden), cell)) in sums.zip(hidden).zip(cells).enumerate() {
            self.row(
                self.gates(inputs, (step, state.rows.len()), row),
                sums,
                hidden,
                cell,
            );
        }
    }

    /// One step of a row: `gates` are the sums of its input, `sums` those of its state.
    fn row(&self, gates: &mut [f32], sums: &[f32], hidden: &mut [f32], cell: &mut [f32]) {
        let units = hidden.len();
        match self.cell {
            Cell::Rnn(activation) => {
                add(sums, gates);
                self.activate(activation, gates);
                hidden.copy_from_slice(gates);
            }
            Cell::Lstm {
                gate: Activation::Sigmoid,
                cell: Activation::Tanh,
                output: Activation::Tanh,
                ..
            } if self.clip.is_none() => cell::lstm(gates, sums, cell, hidden),
            Cell::Lstm {
                gate,
                cell: of_cell,
                output,
                ..
            } => {
                add(sums, gates);
                let (open, added) = gates.split_at_mut(3 * units);
                self.activate(gate, open);
                self.activate(of_cell, added);
                remember(open, added, cell);
                hidden.copy_from_slice(cell);
                output.all(hidden);
                times(open.get(units..2 * units).unwrap_or_default(), hidden);
            }
            Cell::Gru {
                gate: Activation::Sigmoid,
                hidden: Activation::Tanh,
                ..
            } if self.clip.is_none() => cell::gru(gates, sums, hidden),
            Cell::Gru {
                gate,
                hidden: of_candidate,
                ..
            } => {
                let (open, candidate) = gates.split_at_mut(2 * units);
                add(sums, open);
                self.activate(gate, open);
                let (update, reset) = open.split_at(units);
                let of_state = sums.get(2 * units..).unwrap_or_default();
                plus_product(reset, of_state, candidate);
                self.activate(of_candidate, candidate);
                blend(update, candidate, hidden);
            }
        }
    }

    /// One step of a GRU whose state is reset before it is multiplied with `weights`.
    fn reset_before(&self, weights: &Weights, inputs: &mut [f32], step: usize, state: &mut Step) {
        let Cell::Gru {
            gate,
            hidden: of_candidate,
            ..
        } = self.cell
        else {
            return;
        };
        let units = self.places.units;
        let sums = state.sums.chunks_exact(2 * units);
        let rows = sums.zip(state.hidden.chunks_exact(units));
        let rows = rows.zip(state.kept.chunks_exact_mut(units));
        for (row, ((sums, hidden), kept)) in rows.enumerate() {
            let gates = self.gates(inputs, (step, state.rows.len()), row);
            let open = gates.get_mut(..2 * units).unwrap_or_default();
            add(sums, open);
            self.activate(gate, open);
            kept.copy_from_slice(hidden);
            times(open.get(units..).unwrap_or_default(), kept);
        }
        let sums = &mut state.candidate;
        weights.multiply(&state.kept, &state.rows, Bounds::NONE, sums, units);
        let sums = state.candidate.chunks_exact(units);
        let rows = sums.zip(state.hidden.chunks_exact_mut(units));
        for (row, (sums, hidden)) in rows.enumerate() {
            let (open, candidate) = self
                .gates(inputs, (step, state.rows.len()), row)
                .split_at_mut(2 * units);
            add(sums, candidate);
            self.activate(of_candidate, candidate);
            blend(open.get(..units).unwrap_or_default(), candidate, hidden);
        }
    }

    /// The sums of the input of a row at a step, of so many rows.
    fn gates<'a>(
        &self,
        inputs: &'a mut [f32],
        (step, rows): (usize, usize),
        row: usize,
    ) -> &'a mut [f32] {
        let wide = self.cell.gates() * self.places.units;
        let at = (step * rows + row) * wide;
        inputs.get_mut(at..at + wide).unwrap_or_default()
    }

    /// Sums within the node's clip, and the function of them.
    fn activate(&self, activation: Activation, sums: &mut [f32]) {
        if let Some(clip) = self.clip {
            sums.iter_mut()
                .for_each(|sum| *sum = sum.max(-clip).min(clip));
        }
        activation.all(sums);
    }
}

impl Activation {
    /// Replaces each number by the function of it.
    fn all(self, numbers: &mut [f32]) {
        match self {
            Self::Sigmoid => function::sigmoid(numbers),
            Self::Tanh => function::tanh(numbers),
            other => numbers
                .iter_mut()
                .for_each(|number| *number = other.of(*number)),
        }
    }
}

fn copy(from: &[f32], to: &mut [f32], place: usize) {
    if let Some(to) = to.get_mut(place..place + from.len()) {
        to.copy_from_slice(from);
    }
}

fn add(numbers: &[f32], sums: &mut [f32]) {
    sums.iter_mut()
        .zip(numbers)
        .for_each(|(sum, number)| *sum += number);
}

fn times(factors: &[f32], numbers: &mut [f32]) {
    numbers
        .iter_mut()
        .zip(factors)
        .for_each(|(number, factor)| *number *= factor);
}

/// `sums + factors * numbers`.
fn plus_product(factors: &[f32], numbers: &[f32], sums: &mut [f32]) {
    let products = factors.iter().zip(numbers);
    sums.iter_mut()
        .zip(products)
        .for_each(|(sum, (factor, number))| *sum += factor * number);
}

/// `(1 - update) * candidate + update * state`.
fn blend(update: &[f32], candidate: &[f32], state: &mut [f32]) {
    let parts = update.iter().zip(candidate);
    state
        .iter_mut()
        .zip(parts)
        .for_each(|(state, (update, candidate))| {
            *state = (1.0 - update) * candidate + update * *state;
        });
}

/// `forget * cell + input * added`, of gates in the order input, output, forget.
fn remember(open: &[f32], added: &[f32], cell: &mut [f32]) {
    let units = cell.len();
    let (taken, rest) = open.split_at(units.min(open.len()));
    let parts = rest.iter().skip(units).zip(taken).zip(added);
    cell.iter_mut()
        .zip(parts)
        .for_each(|(cell, ((kept, taken), added))| {
            *cell = kept * *cell + taken * added;
        });
}
