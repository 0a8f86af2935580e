//! A node of the typed graph, of which every extent is known, to a step on the device.
//!
//! What has no exact form there has no step: `f64`, integers beside indices, texts, and operators that
//! burn computes differently. Must never change a result: the known answers tell, and the CPU's own
//! operator is always there.

use std::sync::Arc;

use burn_cubecl::tensor::CubeTensor;
use tract_onnx::prelude::{
    DatumType, OutletId, TVec, Tensor, TractResult, TypedFact, TypedModel, TypedNode, tvec,
};
use tract_onnx::tract_hir::tract_core::ops::TypedOp;

use super::device::Device;
use super::packed::{Arrangement, Packed};
use super::weights::Weights;
use crate::tract::{Affine, Quantised, quantised as quantised_of};

mod arithmetic;
mod features;
mod function;
mod image;
mod places;
mod product;
mod quantised;
mod recurrent;
mod reduce;

/// Computes the outputs of a node.
pub(super) type Step = Box<dyn Fn(TVec<CubeTensor>) -> TractResult<TVec<CubeTensor>> + Send + Sync>;

/// A node as it is computed with the device.
pub(super) struct Lowered {
    pub(super) form: Form,
    /// The inputs of the node that it takes, in its order.
    pub(super) takes: Vec<usize>,
}

/// What is done with the tensors that a node takes.
pub(super) enum Form {
    /// They are on the device.
    Step(Step),
    /// They are on the device, and of one of them it is known there that all lie within an extent.
    Indexed(Step, Indices),
    /// The one has the extents of the output and is the same but for that, wherever it is.
    View,
    /// The one goes over as an element type that can be there.
    Enter(DatumType),
}

/// Indices that a step takes: nothing on the device says when one lies outside, so it is looked at before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indices {
    /// Which of the inputs that the step takes.
    pub(super) place: usize,
    /// Negative ones count from here.
    pub(super) extent: usize,
}

impl Lowered {
    /// A step that takes these inputs.
    fn of(takes: impl Into<Vec<usize>>, step: Step) -> Self {
        Self {
            form: Form::Step(step),
            takes: takes.into(),
        }
    }
}

/// Where weights are put.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) device: &'a Arc<Device>,
    pub(super) weights: &'a Weights,
}

/// A node as lowering sees it.
pub(super) struct Sight<'a> {
    pub(super) op: &'a dyn TypedOp,
    pub(super) inputs: Vec<Port<'a>>,
    pub(super) outputs: Vec<Port<'a>>,
    store: Store<'a>,
}

/// The type and the extents of a tensor, and its value where it never changes.
pub(super) struct Port<'a> {
    pub(super) of: DatumType,
    pub(super) shape: TVec<usize>,
    pub(super) value: Option<&'a Arc<Tensor>>,
    /// Of real numbers that are read from bytes which never change: these, and how.
    pub(super) bytes: Option<(&'a Arc<Tensor>, Affine)>,
}

impl<'a> Port<'a> {
    /// `None` where an extent is not known.
    fn of(fact: &'a TypedFact) -> Option<Self> {
        Some(Self {
            of: fact.datum_type,
            shape: TVec::from(there(fact.shape.as_concrete()?)),
            value: fact.konst.as_ref(),
            bytes: None,
        })
    }

    /// Its bytes as a matrix, on the device; `None` where it has none or they are no such matrix.
    fn packed(
        &self,
        store: Store<'_>,
        arrangement: &Arrangement,
    ) -> TractResult<Option<Arc<Packed>>> {
        let Some((tensor, affine)) = &self.bytes else {
            return Ok(None);
        };
        store
            .weights
            .packed(store.device, tensor, affine, arrangement)
    }
}

impl Sight<'_> {
    /// Whether all that goes in and comes out is `f32`.
    pub(super) fn is_real(&self) -> bool {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        ports.all(|port| port.of == DatumType::F32)
    }

    /// The extents of an input.
    pub(super) fn shape(&self, input: usize) -> &[usize] {
        self.inputs.get(input).map_or(&[], |port| &port.shape)
    }

    /// The element type of the first output.
    pub(super) fn to(&self) -> Option<DatumType> {
        self.outputs.first().map(|port| port.of)
    }

    /// The extents of the first output.
    pub(super) fn output(&self) -> &[usize] {
        self.outputs.first().map_or(&[], |port| &port.shape)
    }
}

/// What computes a node on the device; `None` where nothing does.
pub(super) fn lower(
    model: &TypedModel,
    node: &TypedNode,
    store: Store<'_>,
) -> TractResult<Option<Lowered>> {
    let Some(sight) = sight(model, node, store)? else {
        return Ok(None);
    };
    if let Some(lowered) = quantised::lower(&sight)? {
        return Ok(Some(lowered));
    }
    if let Some(form) = places::viewed(&sight).or_else(|| function::entered(&sight)) {
        let takes = vec![0];
        return Ok(Some(Lowered { form, takes }));
    }
    if let Some(lowered) = features::lower(&sight)? {
        return Ok(Some(lowered));
    }
    if let Some(lowered) = recurrent::lower(&sight) {
        return Ok(Some(lowered));
    }
    if let Some(lowered) = places::gathered(&sight) {
        return Ok(Some(lowered));
    }
    let [_] = sight.outputs.as_slice() else {
        return Ok(None);
    };
    let step = arithmetic::lower(&sight)
        .or_else(|| function::lower(&sight))
        .or_else(|| places::lower(&sight))
        .or_else(|| product::lower(&sight))
        .or_else(|| reduce::lower(&sight))
        .or_else(|| image::lower(&sight));
    let all: Vec<usize> = (0..node.inputs.len()).collect();
    Ok(step.map(|step| Lowered::of(all, step)))
}

/// `None` where an extent is not known, or is 0.
fn sight<'a>(
    model: &'a TypedModel,
    node: &'a TypedNode,
    store: Store<'a>,
) -> TractResult<Option<Sight<'a>>> {
    let outputs = node.outputs.iter().map(|output| Port::of(&output.fact));
    let inputs = node.inputs.iter().map(|input| {
        let port = Port::of(model.outlet_fact(*input)?);
        let bytes = bytes(model, *input)?;
        Ok(port.map(|port| Port { bytes, ..port }))
    });
    let inputs = inputs.collect::<TractResult<Option<Vec<_>>>>()?;
    let (Some(inputs), Some(outputs)) = (inputs, outputs.collect::<Option<Vec<_>>>()) else {
        return Ok(None);
    };
    let mut ports = inputs.iter().chain(&outputs);
    if ports.any(|port| port.shape.contains(&0)) {
        return Ok(None);
    }
    Ok(Some(Sight {
        op: node.op.as_ref(),
        inputs,
        outputs,
        store,
    }))
}

/// The bytes that never change and are read as the real numbers at `outlet`.
fn bytes(model: &TypedModel, outlet: OutletId) -> TractResult<Option<(&Arc<Tensor>, Affine)>> {
    let node = model.node(outlet.node);
    let facts = model.node_input_facts(node.id)?;
    let constants: TVec<Option<&Tensor>> = facts.iter().map(|fact| fact.konst.as_deref()).collect();
    let is_bytes = |fact: &&&TypedFact| matches!(fact.datum_type, DatumType::I8 | DatumType::U8);
    let first = facts.first().filter(is_bytes);
    let Some(tensor) = first.and_then(|fact| fact.konst.as_ref()) else {
        return Ok(None);
    };
    let of = quantised_of(node.op.as_ref(), &constants, &[])?;
    Ok(match of {
        Some(Quantised::Dequantise(affine)) => Some((tensor, affine)),
        _ => None,
    })
}

/// The extents on the device of a tensor with these: burn has no tensor without axes.
pub(super) fn there(shape: &[usize]) -> &[usize] {
    if shape.is_empty() { &[1] } else { shape }
}

/// A step of one tensor.
pub(super) fn of_one(compute: impl Fn(CubeTensor) -> CubeTensor + Send + Sync + 'static) -> Step {
    Box::new(move |inputs| {
        let [input] = take(inputs)?;
        Ok(tvec![compute(input)])
    })
}

/// A step of two tensors.
pub(super) fn of_two(
    compute: impl Fn(CubeTensor, CubeTensor) -> CubeTensor + Send + Sync + 'static,
) -> Step {
    Box::new(move |inputs| {
        let [left, right] = take(inputs)?;
        Ok(tvec![compute(left, right)])
    })
}

/// A step with one output.
pub(super) fn of_all(
    compute: impl Fn(TVec<CubeTensor>) -> TractResult<CubeTensor> + Send + Sync + 'static,
) -> Step {
    Box::new(move |inputs| Ok(tvec![compute(inputs)?]))
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
