//! `QLinearSoftmax`: a softmax over quantised numbers, computed on real ones.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TVec, Tensor, TractErrorContext as _, TractResult, tvec};

use super::parameters::{Inputs, Role, encoding};
use super::{Build, Operator, Port};
use crate::int8::linear::{dequantise, quantise};

const ROLES: [Role; 5] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::YScale,
    Role::YZero,
];

/// A softmax over one axis, or before opset 13 over all from one on.
#[derive(Debug)]
pub(super) struct QLinearSoftmax {
    inputs: Inputs,
    axis: i64,
    all_behind: bool,
}

impl Build for QLinearSoftmax {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let all_behind = node.get_attr_opt::<i64>("opset")?.unwrap_or(13) < 13;
        let default = if all_behind { 1 } else { -1 };
        Ok(Self {
            inputs: Inputs::of(node, &ROLES)?,
            axis: node.get_attr_opt("axis")?.unwrap_or(default),
            all_behind,
        })
    }
}

impl Operator for QLinearSoftmax {
    const NAME: &'static str = "QLinearSoftmax";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (kind, shape) = self.inputs.port(inputs, Role::A)?;
        encoding(Self::NAME, *kind)?;
        Ok(tvec![(*kind, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = self.inputs.need(inputs, Role::A)?;
        let kind = input.datum_type();
        let from = self
            .inputs
            .linear(inputs, Role::AScale, Role::AZero, kind)?;
        let to = self
            .inputs
            .linear(inputs, Role::YScale, Role::YZero, kind)?;
        let shape = input.shape();
        let rank = i64::try_from(shape.len())?;
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        let place = usize::try_from(axis)
            .ok()
            .filter(|place| *place < shape.len());
        let place = place.with_context(|| format!("axis {} is none of {rank}", self.axis))?;
        let behind: usize = shape.iter().skip(place).product();
        let inner = if self.all_behind {
            1
        } else {
            shape.iter().skip(place + 1).product()
        };
        let mut reals = vec![0.0_f32; input.len()];
        dequantise(input.as_bytes(), from, &mut reals);
        for group in reals.chunks_mut(behind.max(1)) {
            for lane in 0..inner {
                softmax(group.get_mut(lane..).unwrap_or_default(), inner);
            }
        }
        let mut output = Tensor::zero_dt(kind, shape)?;
        quantise(&reals, to, output.as_bytes_mut());
        Ok(tvec![output])
    }
}

/// The softmax over every `step`-th of `numbers`, in place.
fn softmax(numbers: &mut [f32], step: usize) {
    let step = step.max(1);
    let lane = || numbers.iter().step_by(step);
    let largest = lane().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for number in numbers.iter_mut().step_by(step) {
        *number = (*number - largest).exp();
        total += *number;
    }
    for number in numbers.iter_mut().step_by(step) {
        *number /= total;
    }
}
