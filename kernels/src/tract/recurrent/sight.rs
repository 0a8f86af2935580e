//! What an engine that computes recurrent operators itself has to know of one.

use tract_onnx::tract_hir::tract_core::ops::TypedOp;

use super::super::operator::seen;
use super::activation::Activation;
use super::cell::Cell;
use super::{Output, Recurrent};

/// A recurrent operator without peepholes, lengths, clipping or coupled gates, of which all directions
/// are alike.
#[derive(Debug, Clone)]
pub(crate) struct RecurrentForm {
    /// What a step does.
    pub(crate) kind: RecurrentKind,
    /// Units of the state.
    pub(crate) hidden: usize,
    /// One for each direction; true where the sequence is read from its end.
    pub(crate) backwards: Vec<bool>,
    /// Whether the batch stands before the steps.
    pub(crate) batch_first: bool,
    /// The input with the biases.
    pub(crate) bias: Option<usize>,
    /// The input with the first state.
    pub(crate) first_state: Option<usize>,
    /// The input with the first cell.
    pub(crate) first_cell: Option<usize>,
    /// What leaves, in order.
    pub(crate) outputs: Vec<RecurrentOutput>,
}

/// A step and its functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RecurrentKind {
    /// As ONNX's.
    Rnn(Function),
    /// Gates: update, reset, hidden.
    Gru {
        /// Of the first two.
        gate: Function,
        /// Of the last.
        hidden: Function,
        /// The state is multiplied with the weights before it is reset.
        linear_before_reset: bool,
    },
    /// Gates: input, output, forget, cell.
    Lstm {
        /// Of the first three.
        gate: Function,
        /// Of the last.
        cell: Function,
        /// Of the cell as it is shown.
        output: Function,
    },
}

/// A function without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `max(0, x)`
    Relu,
}

/// What leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecurrentOutput {
    /// The state after each step.
    Every,
    /// The state after the last step.
    Last,
    /// The cell after the last step.
    LastCell,
}

/// What `op` is.
pub(crate) fn recurrent(op: &dyn TypedOp) -> Option<RecurrentForm> {
    let op = seen::<Recurrent<false>>(op)?;
    let mut directions = op.directions.iter();
    let cell = directions.next()?.cell;
    let plain = op.inputs.lengths.is_none()
        && op.inputs.peepholes.is_none()
        && op.clip.is_none()
        && op.packed.is_none()
        && directions.all(|direction| direction.cell == cell);
    if !plain {
        return None;
    }
    let outputs = op.outputs.iter().map(|output| match output {
        Output::Every => RecurrentOutput::Every,
        Output::Last => RecurrentOutput::Last,
        Output::LastCell => RecurrentOutput::LastCell,
    });
    Some(RecurrentForm {
        kind: kind(cell)?,
        hidden: op.hidden,
        backwards: op.directions.iter().map(|of| of.backwards).collect(),
        batch_first: op.batch_first,
        bias: op.inputs.bias,
        first_state: op.inputs.first_state,
        first_cell: op.inputs.first_cell,
        outputs: outputs.collect(),
    })
}

fn kind(cell: Cell) -> Option<RecurrentKind> {
    Some(match cell {
        Cell::Rnn(activation) => RecurrentKind::Rnn(function(activation)?),
        Cell::Gru {
            gate,
            hidden,
            linear_before_reset,
        } => RecurrentKind::Gru {
            gate: function(gate)?,
            hidden: function(hidden)?,
            linear_before_reset,
        },
        Cell::Lstm {
            gate,
            cell,
            output,
            coupled: false,
        } => RecurrentKind::Lstm {
            gate: function(gate)?,
            cell: function(cell)?,
            output: function(output)?,
        },
        Cell::Lstm { .. } => return None,
    })
}

fn function(activation: Activation) -> Option<Function> {
    match activation {
        Activation::Sigmoid => Some(Function::Sigmoid),
        Activation::Tanh => Some(Function::Tanh),
        Activation::Relu => Some(Function::Relu),
        _ => None,
    }
}
