//! Functions of one quantised number: a table of 256 bytes.
//!
//! `QLinearSigmoid`, `QLinearLeakyRelu`, and what `fuse` makes of a function between
//! `DequantizeLinear` and `QuantizeLinear`.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, tvec};

use super::parameters::{Inputs, Role, encoding};
use super::{Build, Operator, Port};
use crate::int8::linear::Linear;

const ROLES: [Role; 5] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::YScale,
    Role::YZero,
];

/// The attribute that names the function of a node that `fuse` wrote.
pub(in crate::tract) const FUNCTION: &str = "function";

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Relu,
    Sigmoid,
    Tanh,
    HardSwish,
    LeakyRelu(f32),
    Elu(f32),
    HardSigmoid(f32, f32),
    Clip(f32, f32),
}

impl Function {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let name = match node.op_type.as_str() {
            "QLinearSigmoid" => "Sigmoid",
            "QLinearLeakyRelu" => "LeakyRelu",
            _ => node.get_attr::<&str>(FUNCTION)?,
        };
        let number = |name: &str, default: f32| -> TractResult<f32> {
            Ok(node.get_attr_opt(name)?.unwrap_or(default))
        };
        Ok(match name {
            "Relu" => Self::Relu,
            "Sigmoid" => Self::Sigmoid,
            "Tanh" => Self::Tanh,
            "HardSwish" => Self::HardSwish,
            "LeakyRelu" => Self::LeakyRelu(number("alpha", 0.01)?),
            "Elu" => Self::Elu(number("alpha", 1.0)?),
            "HardSigmoid" => Self::HardSigmoid(number("alpha", 0.2)?, number("beta", 0.5)?),
            "Clip" => Self::Clip(
                number("least", f32::NEG_INFINITY)?,
                number("most", f32::INFINITY)?,
            ),
            other => bail!("function {other:?} is unknown"),
        })
    }

    fn of(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::LeakyRelu(alpha) if x < 0.0 => alpha * x,
            Self::Elu(alpha) if x < 0.0 => alpha * x.exp_m1(),
            Self::LeakyRelu(_) | Self::Elu(_) => x,
            Self::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Self::Clip(least, most) => x.max(least).min(most),
        }
    }
}

/// A function between quantised numbers.
#[derive(Debug)]
pub(super) struct Table {
    inputs: Inputs,
    function: Function,
    /// What comes out for each byte, and its type, where scales never change.
    bytes: Option<(Arc<[u8; 256]>, DatumType)>,
}

impl Build for Table {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            inputs: Inputs::of(node, &ROLES)?,
            function: Function::read(node)?,
            bytes: None,
        })
    }
}

/// The bytes that `function` makes of each byte.
pub(super) fn bytes_of(from: Linear, to: Linear, function: impl Fn(f32) -> f32) -> [u8; 256] {
    let mut table = [0; 256];
    for (byte, result) in (0..=u8::MAX).zip(&mut table) {
        *result = to.byte(function(from.real(byte)));
    }
    table
}

impl Table {
    /// The table for operands of type `kind`.
    fn bytes(&self, given: &[&Tensor], kind: DatumType) -> TractResult<([u8; 256], DatumType)> {
        let from = self.inputs.linear(given, Role::AScale, Role::AZero, kind)?;
        let zero = self.inputs.find(given, Role::YZero);
        let output = zero.map_or(kind, |zero| zero.datum_type());
        let to = self
            .inputs
            .linear(given, Role::YScale, Role::YZero, output)?;
        Ok((bytes_of(from, to, |x| self.function.of(x)), output))
    }
}

impl Operator for Table {
    const NAME: &'static str = "quantised function";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (kind, shape) = self.inputs.port(inputs, Role::A)?;
        encoding(Self::NAME, *kind)?;
        let zero = self.inputs.find(inputs, Role::YZero);
        let output = match &self.bytes {
            Some((_, output)) => *output,
            None => zero.map_or(*kind, |(datum_type, _)| *datum_type),
        };
        Ok(tvec![(output, shape.clone())])
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let roles = [Role::AScale, Role::AZero, Role::YScale, Role::YZero];
        let Some((inputs, kept)) = self.inputs.absorb(constants, &roles) else {
            return Ok(None);
        };
        // Only its zero point says here how the operand is read.
        let Some(Some(zero)) = self.inputs.find(constants, Role::AZero) else {
            return Ok(None);
        };
        let kind = zero.datum_type();
        let none = Tensor::zero::<u8>(&[0])?;
        let given: Vec<&Tensor> = constants
            .iter()
            .map(|constant| constant.as_deref().unwrap_or(&none))
            .collect();
        let (bytes, output) = self.bytes(&given, kind)?;
        let prepared = Self {
            inputs,
            function: self.function,
            bytes: Some((Arc::new(bytes), output)),
        };
        Ok(Some((prepared, kept)))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = self.inputs.need(inputs, Role::A)?;
        let (table, output) = match &self.bytes {
            Some((table, output)) => (Arc::clone(table), *output),
            None => {
                let (table, output) = self.bytes(inputs, input.datum_type())?;
                (Arc::new(table), output)
            }
        };
        let mut result = Tensor::zero_dt(output, input.shape())?;
        look_up(&table, input.as_bytes(), result.as_bytes_mut());
        Ok(tvec![result])
    }
}

/// Writes what `table` has for each of `bytes`.
pub(super) fn look_up(table: &[u8; 256], bytes: &[u8], results: &mut [u8]) {
    for (result, byte) in results.iter_mut().zip(bytes) {
        *result = table.get(usize::from(*byte)).copied().unwrap_or_default();
    }
}
