//! `QLinearAdd` and `QLinearMul`: two quantised tensors, number by number, with broadcasting.

use std::borrow::Cow;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    TDim, TVec, Tensor, TractErrorContext as _, TractResult, ensure, tvec,
};
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;

use super::super::operator::room;
use super::parameters::{Inputs, Role, encoding};
use super::{Build, Operator, Port};
use crate::int8::binary::{Binary, Terms, combine};

const ROLES: [Role; 8] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::B,
    Role::BScale,
    Role::BZero,
    Role::YScale,
    Role::YZero,
];

/// A sum or a product, and the range it is held in.
#[derive(Debug)]
pub(super) struct QLinearBinary {
    inputs: Inputs,
    binary: Binary,
    least: f32,
    most: f32,
}

impl Build for QLinearBinary {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            inputs: Inputs::of(node, &ROLES)?,
            binary: if node.op_type.ends_with("Mul") {
                Binary::Multiply
            } else {
                Binary::Add
            },
            least: node.get_attr_opt("least")?.unwrap_or(f32::NEG_INFINITY),
            most: node.get_attr_opt("most")?.unwrap_or(f32::INFINITY),
        })
    }
}

impl Operator for QLinearBinary {
    const NAME: &'static str = "QLinearAdd or QLinearMul";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (left_type, left) = self.inputs.port(inputs, Role::A)?;
        let (right_type, right) = self.inputs.port(inputs, Role::B)?;
        ensure!(left_type == right_type, "{left_type:?} with {right_type:?}");
        encoding(Self::NAME, *left_type)?;
        let shape: TVec<TDim> = multi_broadcast(&[left, right])?;
        Ok(tvec![(*left_type, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let left = self.inputs.need(inputs, Role::A)?;
        let right = self.inputs.need(inputs, Role::B)?;
        let kind = left.datum_type();
        let terms = Terms {
            left: self
                .inputs
                .linear(inputs, Role::AScale, Role::AZero, kind)?,
            right: self
                .inputs
                .linear(inputs, Role::BScale, Role::BZero, kind)?,
            result: self
                .inputs
                .linear(inputs, Role::YScale, Role::YZero, kind)?,
            least: self.least,
            most: self.most,
        };
        let shape: TVec<usize> = multi_broadcast(&[left.shape(), right.shape()])
            .with_context(|| format!("{:?} with {:?}", left.shape(), right.shape()))?;
        let stretched =
            |side: &'_ Tensor| -> TractResult<Tensor> { side.broadcast_to_shape(&shape) };
        let as_long = |side: &Tensor| side.shape() == &*shape;
        let left = if as_long(left) {
            Cow::Borrowed(*left)
        } else {
            Cow::Owned(stretched(left)?)
        };
        let right = if as_long(right) {
            Cow::Borrowed(*right)
        } else {
            Cow::Owned(stretched(right)?)
        };
        let mut output = room(kind, &shape)?;
        let bytes = output.as_bytes_mut();
        combine(self.binary, left.as_bytes(), right.as_bytes(), terms, bytes);
        Ok(tvec![output])
    }
}
