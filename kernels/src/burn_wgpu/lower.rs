//! A node of the typed graph, of which every extent is known, to a step on the device.
//!
//! What has no exact form there has no step: `f64`, integers beside indices, texts, and operators that
//! burn computes differently. Must never change a result: the known answers tell, and the CPU's own
//! operator is always there.

use burn_cubecl::tensor::CubeTensor;
use tract_onnx::prelude::{DatumType, TVec, TractResult, TypedModel, TypedNode};
use tract_onnx::tract_hir::tract_core::ops::TypedOp;

mod arithmetic;
mod function;
mod image;
mod places;
mod product;
mod reduce;

/// Computes the one output of a node.
pub(super) type Step = Box<dyn Fn(TVec<CubeTensor>) -> TractResult<CubeTensor> + Send + Sync>;

/// A node as lowering sees it.
pub(super) struct Sight<'a> {
    pub(super) op: &'a dyn TypedOp,
    pub(super) inputs: Vec<Port<'a>>,
    pub(super) output: Port<'a>,
}

/// The type and the extents of a tensor, and its value where it never changes.
pub(super) struct Port<'a> {
    pub(super) of: DatumType,
    pub(super) shape: TVec<usize>,
    pub(super) value: Option<&'a tract_onnx::prelude::Tensor>,
}

impl Sight<'_> {
    /// Whether all that goes in and comes out is `f32`.
    pub(super) fn is_real(&self) -> bool {
        let mut ports = self.inputs.iter().chain([&self.output]);
        ports.all(|port| port.of == DatumType::F32)
    }

    /// The extents of an input.
    pub(super) fn shape(&self, input: usize) -> &[usize] {
        self.inputs.get(input).map_or(&[], |port| &port.shape)
    }
}

/// The step of a node; `None` where it has none.
pub(super) fn lower(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Step>> {
    let [output] = node.outputs.as_slice() else {
        return Ok(None);
    };
    let port = |fact: &'_ tract_onnx::prelude::TypedFact| {
        let shape = fact.shape.as_concrete()?;
        Some((fact.datum_type, TVec::from(there(shape))))
    };
    let Some((of, shape)) = port(&output.fact) else {
        return Ok(None);
    };
    let output = Port {
        of,
        shape,
        value: None,
    };
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        let fact = model.outlet_fact(*input)?;
        let Some((of, shape)) = port(fact) else {
            return Ok(None);
        };
        let value = fact.konst.as_deref();
        inputs.push(Port { of, shape, value });
    }
    let empty = |port: &Port<'_>| port.shape.contains(&0);
    if empty(&output) || inputs.iter().any(empty) {
        return Ok(None);
    }
    let sight = Sight {
        op: node.op.as_ref(),
        inputs,
        output,
    };
    Ok(arithmetic::lower(&sight)
        .or_else(|| function::lower(&sight))
        .or_else(|| places::lower(&sight))
        .or_else(|| product::lower(&sight))
        .or_else(|| reduce::lower(&sight))
        .or_else(|| image::lower(&sight)))
}

/// The extents on the device of a tensor with these: burn has no tensor without axes.
pub(super) fn there(shape: &[usize]) -> &[usize] {
    if shape.is_empty() { &[1] } else { shape }
}

/// A step of one tensor.
pub(super) fn of_one(compute: impl Fn(CubeTensor) -> CubeTensor + Send + Sync + 'static) -> Step {
    Box::new(move |inputs| {
        let [input] = take(inputs)?;
        Ok(compute(input))
    })
}

/// A step of two tensors.
pub(super) fn of_two(
    compute: impl Fn(CubeTensor, CubeTensor) -> CubeTensor + Send + Sync + 'static,
) -> Step {
    Box::new(move |inputs| {
        let [left, right] = take(inputs)?;
        Ok(compute(left, right))
    })
}

/// The inputs of a step that takes so many.
pub(super) fn take<const COUNT: usize>(
    inputs: TVec<CubeTensor>,
) -> TractResult<[CubeTensor; COUNT]> {
    let count = inputs.len();
    <[CubeTensor; COUNT]>::try_from(inputs.into_vec()).map_err(|_| {
        tract_onnx::tract_hir::internal::format_err!("a step of {COUNT} tensors got {count}")
    })
}
