//! One step of each kind: from the sums over the input and the state to the next state.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TractErrorContext as _, TractResult, bail};

use super::activation::Activation;
use super::sequence::{Real, Weights};

/// What a step does with the sums of its gates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// `h = f(x + h)`
    Rnn(Activation),
    /// Gates: update, reset, hidden.
    Gru {
        gate: Activation,
        hidden: Activation,
        /// The state is multiplied with the weights before it is reset.
        linear_before_reset: bool,
    },
    /// Gates: input, output, forget, cell.
    Lstm {
        gate: Activation,
        cell: Activation,
        output: Activation,
        /// What is not forgotten is not taken in.
        coupled: bool,
    },
}

/// What a row has at some step; `cell` is an LSTM's.
#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) hidden: Vec<T>,
    pub(super) cell: Vec<T>,
}

impl Cell {
    /// The cell of a node, for one direction: its activations are the next of those given, or the
    /// defaults.
    pub(super) fn read(
        node: &NodeProto,
        activations: &mut impl ExactSizeIterator<Item = Activation>,
    ) -> TractResult<Self> {
        let defaults = activations.len() == 0
            && node
                .attribute
                .iter()
                .all(|attribute| attribute.name != "activations");
        let mut next = |default: Activation| {
            if defaults {
                return Ok(default);
            }
            activations.next().context("fewer activations than gates")
        };
        let (sigmoid, tanh) = (Activation::Sigmoid, Activation::Tanh);
        let is_set = |name: &str| {
            Ok::<_, tract_onnx::prelude::TractError>(
                node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0,
            )
        };
        Ok(match node.op_type.as_str() {
            "RNN" => Self::Rnn(next(tanh)?),
            "GRU" => Self::Gru {
                gate: next(sigmoid)?,
                hidden: next(tanh)?,
                linear_before_reset: is_set("linear_before_reset")?,
            },
            "LSTM" => Self::Lstm {
                gate: next(sigmoid)?,
                cell: next(tanh)?,
                output: next(tanh)?,
                coupled: is_set("input_forget")?,
            },
            other => bail!("{other} is no recurrent operator"),
        })
    }

    /// How many gates it has.
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Rnn(_) => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// Takes one step. `input` has the input's sum for each gate and unit, biases included.
    pub(super) fn step<T: Real>(self, input: &[T], weights: &Weights<'_, T>, state: &mut State<T>) {
        match self {
            Self::Rnn(activation) => {
                let sums = weights.of_state(0, &state.hidden);
                for ((state, input), sum) in state.hidden.iter_mut().zip(input).zip(sums) {
                    *state = activation.of(weights.clipped(*input + sum));
                }
            }
            Self::Gru {
                gate,
                hidden,
                linear_before_reset,
            } => gru(input, weights, state, (gate, hidden, linear_before_reset)),
            Self::Lstm {
                gate,
                cell,
                output,
                coupled,
            } => lstm(input, weights, state, (gate, cell, output, coupled)),
        }
    }
}

fn gru<T: Real>(
    input: &[T],
    weights: &Weights<'_, T>,
    state: &mut State<T>,
    (gate, activation, linear_before_reset): (Activation, Activation, bool),
) {
    let units = state.hidden.len();
    let mut inputs = input.chunks_exact(units.max(1));
    let mut gates = |number: usize| {
        let inputs = inputs.next().unwrap_or_default().iter();
        let sums = weights.of_state(number, &state.hidden);
        let sums = inputs.zip(sums).map(|(input, sum)| *input + sum);
        sums.map(|sum| gate.of(weights.clipped(sum)))
            .collect::<Vec<T>>()
    };
    let (update, reset) = (gates(0), gates(1));
    let candidate: Vec<T> = if linear_before_reset {
        let sums = weights.of_state(2, &state.hidden).into_iter();
        sums.zip(&reset).map(|(sum, reset)| *reset * sum).collect()
    } else {
        let kept = state.hidden.iter().zip(&reset);
        let kept: Vec<T> = kept.map(|(state, reset)| *reset * *state).collect();
        weights.of_state(2, &kept)
    };
    let inputs = inputs.next().unwrap_or_default().iter();
    let candidate = candidate.into_iter().zip(inputs).zip(update);
    for (state, ((sum, input), update)) in state.hidden.iter_mut().zip(candidate) {
        let candidate = activation.of(weights.clipped(sum + *input));
        *state = (T::of(1.0) - update) * candidate + update * *state;
    }
}

fn lstm<T: Real>(
    input: &[T],
    weights: &Weights<'_, T>,
    state: &mut State<T>,
    (gate, activation, output, coupled): (Activation, Activation, Activation, bool),
) {
    let units = state.hidden.len();
    let sums = |number: usize| {
        let inputs = input
            .chunks_exact(units.max(1))
            .nth(number)
            .unwrap_or_default()
            .iter();
        let sums = weights.of_state(number, &state.hidden);
        inputs
            .zip(sums)
            .map(|(input, sum)| *input + sum)
            .collect::<Vec<T>>()
    };
    let [mut taken, mut shown, mut kept, added] = [0, 1, 2, 3].map(sums);
    let peephole = |sums: &mut [T], number: usize, cells: &[T]| {
        for ((sum, cell), weight) in sums.iter_mut().zip(cells).zip(weights.peephole(number)) {
            *sum = *sum + *weight * *cell;
        }
    };
    peephole(&mut taken, 0, &state.cell);
    peephole(&mut kept, 2, &state.cell);
    let open = |sum: &T| gate.of(weights.clipped(*sum));
    for (((cell, taken), kept), added) in state.cell.iter_mut().zip(&taken).zip(&kept).zip(&added) {
        let taken = open(taken);
        let kept = if coupled {
            T::of(1.0) - taken
        } else {
            open(kept)
        };
        *cell = kept * *cell + taken * activation.of(weights.clipped(*added));
    }
    peephole(&mut shown, 1, &state.cell);
    for ((state, cell), shown) in state.hidden.iter_mut().zip(&state.cell).zip(&shown) {
        *state = open(shown) * output.of(*cell);
    }
}
