//! All steps of a recurrent operator for one direction, in one kernel: a cube for each row of the batch, whose state
//! stays in shared memory.

#![expect(
    clippy::indexing_slicing,
    reason = "on the device, where an index is held within its buffer"
)]

use burn_backend::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::tract::{Function, RecurrentKind};

/// Units of a cube.
const UNITS: u32 = 128;

/// The largest state: four times its numbers are what every device has of shared memory, 32 KiB.
pub(super) const MOST_HIDDEN: usize = 2048;

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) kind: RecurrentKind,
    pub(super) hidden: u32,
    pub(super) backwards: bool,
}

impl Form {
    fn gates(&self) -> u32 {
        match self.kind {
            RecurrentKind::Rnn(_) => 1,
            RecurrentKind::Gru { .. } => 3,
            RecurrentKind::Lstm { .. } => 4,
        }
    }

    /// Whether the candidate of a GRU looks at the state that was reset.
    fn resets_first(&self) -> bool {
        matches!(
            self.kind,
            RecurrentKind::Gru {
                linear_before_reset: false,
                ..
            }
        )
    }
}

#[cube]
fn apply(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Sigmoid => 1.0f32 / (1.0f32 + (-x).exp()),
        Function::Tanh => x.tanh(),
        Function::Relu => x.max(0.0f32),
    }
}

/// The sum of one gate and unit over a state, with its bias.
#[cube]
fn over(state: &[f32], weights: &[f32], bias: &[f32], row: u32, #[comptime] hidden: u32) -> f32 {
    let mut sum = bias[row as usize];
    for k in 0..hidden {
        sum += weights[(row * hidden + k) as usize] * state[k as usize];
    }
    sum
}

/// The sum of one gate and unit over the input, from `begin` on, and a state.
#[cube]
fn sum_of(
    x: &[f32],
    state: &[f32],
    weights: &[f32],
    bias: &[f32],
    begin: u32,
    row: u32,
    #[comptime] hidden: u32,
) -> f32 {
    x[(begin + row) as usize] + over(state, weights, bias, row, hidden)
}

/// The value of a gate.
#[cube]
fn gate_of(
    x: &[f32],
    state: &[f32],
    weights: &[f32],
    bias: &[f32],
    begin: u32,
    row: u32,
    #[comptime] gate: Function,
    #[comptime] hidden: u32,
) -> f32 {
    apply(sum_of(x, state, weights, bias, begin, row, hidden), gate)
}

/// The next state of a unit of a GRU whose update and reset gates are known.
#[cube]
fn gru(of_input: f32, of_state: f32, old: f32, taken: f32, #[comptime] function: Function) -> f32 {
    let candidate = apply(of_input + of_state, function);
    (1.0f32 - taken) * candidate + taken * old
}

/// The next state of a unit of an LSTM, and its cell in place of the last one.
#[cube]
fn lstm(
    x: &[f32],
    state: &[f32],
    weights: &[f32],
    bias: &[f32],
    cells: &mut [f32],
    begin: u32,
    unit: u32,
    #[comptime] gate: Function,
    #[comptime] cell: Function,
    #[comptime] output: Function,
    #[comptime] hidden: u32,
) -> f32 {
    let taken = sum_of(x, state, weights, bias, begin, unit, hidden);
    let shown = sum_of(x, state, weights, bias, begin, hidden + unit, hidden);
    let kept = sum_of(x, state, weights, bias, begin, 2 * hidden + unit, hidden);
    let added = sum_of(x, state, weights, bias, begin, 3 * hidden + unit, hidden);
    let value = apply(kept, gate) * cells[unit as usize] + apply(taken, gate) * apply(added, cell);
    cells[unit as usize] = value;
    apply(shown, gate) * apply(value, output)
}

/// The next state of every unit, from `x` at `begin`.
#[cube]
fn step_of(
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
    state: &[f32],
    next: &mut [f32],
    beside: &mut [f32],
    update: &mut [f32],
    begin: u32,
    #[comptime] form: Form,
) {
    let hidden = comptime!(form.hidden);
    if comptime!(form.resets_first()) {
        if let RecurrentKind::Gru { gate, .. } = comptime!(form.kind) {
            let mut unit = UNIT_POS;
            while unit < hidden {
                let at = hidden + unit;
                update[unit as usize] = gate_of(x, state, weights, bias, begin, unit, gate, hidden);
                beside[unit as usize] = state[unit as usize]
                    * gate_of(x, state, weights, bias, begin, at, gate, hidden);
                unit += UNITS;
            }
        }
        sync_cube();
    }
    let mut unit = UNIT_POS;
    while unit < hidden {
        let old = state[unit as usize];
        match comptime!(form.kind) {
            RecurrentKind::Rnn(function) => {
                next[unit as usize] =
                    gate_of(x, state, weights, bias, begin, unit, function, hidden);
            }
            RecurrentKind::Gru {
                gate,
                hidden: function,
                linear_before_reset,
            } => {
                let at = 2 * hidden + unit;
                let of_input = x[(begin + at) as usize];
                if comptime!(linear_before_reset) {
                    let taken = gate_of(x, state, weights, bias, begin, unit, gate, hidden);
                    let reset_at = hidden + unit;
                    let reset = gate_of(x, state, weights, bias, begin, reset_at, gate, hidden);
                    let of_state = reset * over(state, weights, bias, at, hidden);
                    next[unit as usize] = gru(of_input, of_state, old, taken, function);
                } else {
                    let of_state = over(&*beside, weights, bias, at, hidden);
                    let taken = update[unit as usize];
                    next[unit as usize] = gru(of_input, of_state, old, taken, function);
                }
            }
            RecurrentKind::Lstm { gate, cell, output } => {
                next[unit as usize] = lstm(
                    x, state, weights, bias, beside, begin, unit, gate, cell, output, hidden,
                );
            }
        }
        unit += UNITS;
    }
}

/// ```text
/// x        [steps, batch, gates x hidden]    sums over the input, its bias in them
/// weights  [gates x hidden, hidden]          bias  [gates x hidden]
/// first    [batch, hidden]                   first_cell, last, last_cell  the same
/// every    [steps, batch, hidden]
/// ```
#[cube(launch)]
fn sequence(
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
    first: &[f32],
    first_cell: &[f32],
    every: &mut [f32],
    last: &mut [f32],
    last_cell: &mut [f32],
    steps: u32,
    batch: u32,
    #[comptime] form: Form,
) {
    let hidden = comptime!(form.hidden);
    let gates = comptime!(form.gates());
    let mut state = Shared::<[f32]>::new_slice(comptime!(hidden as usize));
    let mut next = Shared::<[f32]>::new_slice(comptime!(hidden as usize));
    // The cell of an LSTM; the state of a GRU that was reset.
    let mut beside = Shared::<[f32]>::new_slice(comptime!(hidden as usize));
    // The update gate of a GRU.
    let mut update = Shared::<[f32]>::new_slice(comptime!(hidden as usize));
    let row = CUBE_POS_X;
    let mut unit = UNIT_POS;
    while unit < hidden {
        state[unit as usize] = first[(row * hidden + unit) as usize];
        beside[unit as usize] = first_cell[(row * hidden + unit) as usize];
        update[unit as usize] = 0.0f32;
        unit += UNITS;
    }
    sync_cube();
    for turn in 0..steps {
        let mut step = turn;
        if comptime!(form.backwards) {
            step = steps - 1 - turn;
        }
        let begin = (step * batch + row) * gates * hidden;
        step_of(
            x,
            weights,
            bias,
            &state,
            &mut next,
            &mut beside,
            &mut update,
            begin,
            form,
        );
        sync_cube();
        let mut unit = UNIT_POS;
        while unit < hidden {
            state[unit as usize] = next[unit as usize];
            every[((step * batch + row) * hidden + unit) as usize] = next[unit as usize];
            unit += UNITS;
        }
        sync_cube();
    }
    let mut unit = UNIT_POS;
    while unit < hidden {
        last[(row * hidden + unit) as usize] = state[unit as usize];
        last_cell[(row * hidden + unit) as usize] = beside[unit as usize];
        unit += UNITS;
    }
}

/// The tensors of a run, as [`sequence()`] takes them.
pub(super) struct Given {
    pub(super) x: CubeTensor,
    pub(super) weights: CubeTensor,
    pub(super) bias: CubeTensor,
    pub(super) first: CubeTensor,
    pub(super) first_cell: CubeTensor,
}

/// The state after each step, the last one, and the last cell.
pub(super) fn run(given: Given, form: Form, steps: u32, batch: u32) -> [CubeTensor; 3] {
    let x = into_contiguous(given.x);
    let hidden = form.hidden as usize;
    let room = |steps: u32| {
        let shape = [steps as usize, batch as usize, hidden];
        let bytes = shape.iter().product::<usize>() * size_of::<f32>();
        CubeTensor::new_contiguous(
            x.client.clone(),
            x.device.clone(),
            Shape::from(shape.to_vec()),
            x.client.empty(bytes),
            DType::F32,
        )
    };
    let (every, last, last_cell) = (room(steps), room(1), room(1));
    let client = x.client.clone();
    sequence::launch(
        &client,
        CubeCount::Static(batch, 1, 1),
        CubeDim::new_1d(UNITS),
        x.into_buffer_arg(),
        into_contiguous(given.weights).into_buffer_arg(),
        into_contiguous(given.bias).into_buffer_arg(),
        into_contiguous(given.first).into_buffer_arg(),
        into_contiguous(given.first_cell).into_buffer_arg(),
        every.clone().into_buffer_arg(),
        last.clone().into_buffer_arg(),
        last_cell.clone().into_buffer_arg(),
        steps,
        batch,
        form,
    );
    [every, last, last_cell]
}
