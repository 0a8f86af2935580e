//! What a model may compute while it is typed: no constant larger than `MOST_BYTES`.
//!
//! tract computes what hangs on constants alone before it asks how large that is, and a failed
//! allocation ends the process. A damaged file, or a caller whose value becomes a constant, could ask
//! for any size by one number: every operator is asked for the shape of its outputs first.

use std::collections::HashMap;

use tract_onnx::prelude::{InferenceModel, OutletId, TValue, TVec, TractResult, TypedModel};
use tract_onnx::tract_hir::infer::{Factoid as _, InferenceFact, InferenceModelPatch, InferenceOp};
use tract_onnx::tract_hir::internal::{
    DatumType, EvalContext, EvalOp, InferenceNode, Op, OpState, SpecialOps as _, StaticName, TDim,
    TypedOp, as_op, ensure, not_a_typed_op,
};
use tract_onnx::tract_hir::ops::konst::Const;

/// The most bytes that one tensor may hold.
const MOST_BYTES: u64 = 256 << 20;

/// The most elements of a range, of eight bytes each.
const LONGEST: f64 = (MOST_BYTES / 8) as f64;

/// Facts of inputs, outputs and what is observed beside them.
type Facts = (
    TVec<InferenceFact>,
    TVec<InferenceFact>,
    TVec<InferenceFact>,
);

/// Binds every operator of a graph that has just been parsed.
pub(super) fn bind(graph: &mut InferenceModel) {
    let dummy = graph.create_dummy();
    for node in graph.nodes_mut() {
        if !InferenceModel::is_source(&node.op) && !node.op_is::<Const>() {
            let operator = std::mem::replace(&mut node.op, dummy.clone());
            node.op = Box::new(Bounded(operator));
        }
    }
}

/// Fails when a tensor of the graph, as far as its shape is known, is larger than it may be.
pub(super) fn check(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            fits(&node.name, output.fact.datum_type, output.fact.shape.iter())?;
        }
    }
    Ok(())
}

fn fits<'a>(
    name: &str,
    datum_type: DatumType,
    shape: impl Iterator<Item = &'a TDim>,
) -> TractResult<()> {
    let mut bytes = datum_type.size_of() as u64;
    for dim in shape {
        // A dimension that is not known says nothing, and one below zero is no extent.
        let TDim::Val(extent) = dim.clone().simplify() else {
            return Ok(());
        };
        bytes = bytes.saturating_mul(u64::try_from(extent).unwrap_or_default());
    }
    ensure!(
        bytes <= MOST_BYTES,
        "{name} would be a tensor of {bytes} bytes, and {MOST_BYTES} are the most"
    );
    Ok(())
}

/// An operator that computes nothing too large.
#[derive(Debug, Clone)]
struct Bounded(Box<dyn InferenceOp>);

impl Bounded {
    /// tract cuts the length of a `Range` to 32 bits before it says it.
    fn range_fits(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        if self.0.as_op().name() != "Range" {
            return Ok(());
        }
        // tract reads a scalar where there is none.
        let number = |fact: &&InferenceFact| {
            let value = fact.value.concretize().filter(|value| value.len() == 1)?;
            value.cast_to_scalar::<f64>().ok()
        };
        let numbers: Option<TVec<f64>> = inputs.iter().map(number).collect();
        if let Some([start, limit, delta]) = numbers.as_deref() {
            let count = (limit - start) / delta;
            ensure!(
                count <= LONGEST,
                "Range would be a tensor of {count} elements, and {LONGEST} are the most"
            );
        }
        Ok(())
    }

    /// Fails when an output is larger than it may be, as far as it is known.
    fn all_fit<'a>(&self, outputs: impl Iterator<Item = &'a InferenceFact>) -> TractResult<()> {
        for fact in outputs {
            let known = fact.datum_type.concretize().zip(fact.shape.concretize());
            if let Some((datum_type, shape)) = known {
                fits(&self.0.as_op().name(), datum_type, shape.iter())?;
            }
        }
        Ok(())
    }
}

impl PartialEq for Bounded {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Bounded {}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.0.as_op().name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.0.as_op().info()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.0.as_op().mints_runtime_symbols()
    }

    not_a_typed_op!();
}

impl EvalOp for Bounded {
    fn eval(&self, context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }

    fn state(&self, context: &EvalContext<'_>) -> TractResult<Option<Box<dyn OpState>>> {
        self.0.state(context)
    }
}

impl InferenceOp for Bounded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Facts> {
        let known = inputs.iter().all(|fact| fact.value.is_concrete());
        if known && !inputs.is_empty() {
            self.range_fits(&inputs)?;
            let given = (inputs.clone(), outputs.clone(), observed.clone());
            let (_, found, _) = self.0.infer_facts(given.0, given.1, given.2)?;
            self.all_fit(found.iter())?;
        }
        self.0.infer(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Facts> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.0.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        // What is made of constants alone is computed as soon as it stands in the typed graph.
        let mut inputs = node.inputs.iter().map(|input| source.outlet_fact(*input));
        if inputs.all(|fact| fact.is_ok_and(|fact| fact.value.is_concrete())) {
            self.all_fit(node.outputs.iter().map(|output| &output.fact))?;
        }
        self.0.to_typed(source, node, target, mapping)
    }

    as_op!();
}
