//! `If`: one of two graphs, which see what the graph around them computes.
//!
//! Where the condition is known when the model is typed, only the graph that is taken has to type,
//! and stands in the place of the node: exporters write an `If` for every question on a shape, and
//! the graph that is not taken often fits no shape at all. tract's own types both. Must never type a
//! graph that a known condition leaves out.

use std::collections::HashMap;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{
    InferenceModel, InferenceModelExt as _, IntoRunnable as _, OutletId, TValue, TVec, Tensor,
    TractResult, TypedModel,
};
use tract_onnx::tract_hir::infer::{Factoid as _, InferenceFact, InferenceOp};
use tract_onnx::tract_hir::internal::{
    DatumType, EvalContext, EvalOp, InferenceNode, Op, SpecialOps as _, StaticName,
    TractErrorContext as _, TypedOp, as_op, ensure, not_a_typed_op, op_out_of_plan, tvec,
};
use tract_onnx::tract_hir::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::tract_core::ops::logic::IfThenElse;

use super::bounded;

/// Puts the operator into `register`, in place of tract's.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("If", read);
}

/// An `If`. Its first input is the condition; the others are what the graphs see.
#[derive(Debug, Clone)]
struct Branch {
    /// Taken when the condition holds.
    then: Body,
    /// Taken when it does not.
    otherwise: Body,
}

/// One of the two graphs.
#[derive(Debug, Clone)]
struct Body {
    graph: InferenceModel,
    /// Which input of the node each input of the graph is.
    inputs: Vec<usize>,
}

impl PartialEq for Branch {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Branch {}

fn read(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let mut then = context.parse_graph(node.get_attr("then_branch")?)?;
    let mut otherwise = context.parse_graph(node.get_attr("else_branch")?)?;
    bounded::bind(&mut then.model);
    bounded::bind(&mut otherwise.model);
    let (of_then, of_otherwise) = (&then.unresolved_inputs, &otherwise.unresolved_inputs);
    let mut seen: Vec<String> = of_then.iter().chain(of_otherwise).cloned().collect();
    seen.sort();
    seen.dedup();
    let places = |names: &[String]| {
        let place = |name: &String| seen.binary_search(name).ok().map(|place| place + 1);
        let places = names.iter().map(place).collect::<Option<Vec<usize>>>();
        places.context("a branch sees what nothing gives")
    };
    let branch = Branch {
        then: Body {
            inputs: places(of_then)?,
            graph: then.model,
        },
        otherwise: Body {
            inputs: places(of_otherwise)?,
            graph: otherwise.model,
        },
    };
    ensure!(
        branch.then.graph.outputs.len() == branch.otherwise.graph.outputs.len(),
        "the branches of an If have as many outputs"
    );
    Ok((Box::new(branch), seen))
}

impl Branch {
    /// The graphs that may be taken.
    fn taken(&mut self, condition: Option<bool>) -> Vec<&mut Body> {
        match condition {
            Some(true) => vec![&mut self.then],
            Some(false) => vec![&mut self.otherwise],
            None => vec![&mut self.then, &mut self.otherwise],
        }
    }

    fn of(&self, condition: bool) -> &Body {
        if condition {
            &self.then
        } else {
            &self.otherwise
        }
    }
}

/// A condition: one Boolean. tract reads one where there is none.
fn answer(condition: &Tensor) -> TractResult<bool> {
    ensure!(
        condition.len() == 1,
        "the condition of an If has {} elements",
        condition.len()
    );
    condition.cast_to_scalar::<bool>()
}

/// The condition, where it is known.
fn condition(fact: &InferenceFact) -> TractResult<Option<bool>> {
    let value = fact.value.concretize();
    value.map(|value| answer(&value)).transpose()
}

impl Body {
    /// Tells the graph what is known around it, and the other way round. Whether anything was new.
    /// The graph may not be the only one that gives the outputs: then they have a type and a shape in
    /// common, and no value.
    fn unify(
        &mut self,
        inputs: &mut [InferenceFact],
        outputs: &mut [InferenceFact],
        alone: bool,
    ) -> TractResult<bool> {
        let mut changed = false;
        for (position, place) in self.inputs.iter().enumerate() {
            let outer = inputs.get_mut(*place).context("an If has too few inputs")?;
            changed |= self.graph.input_fact_mut(position)?.unify_with_mut(outer)?;
        }
        changed |= self.graph.analyse(false)?;
        for (position, outer) in outputs.iter_mut().enumerate() {
            let inner = self.graph.output_fact_mut(position)?;
            if alone {
                changed |= inner.unify_with_mut(outer)?;
            } else {
                changed |= inner.datum_type.unify_with_mut(&mut outer.datum_type)?;
                changed |= inner.shape.unify_with_mut(&mut outer.shape)?;
            }
        }
        Ok(changed)
    }

    /// Puts the typed graph into `target`, where its inputs are `inputs`; what its outputs are there.
    fn inline(
        &self,
        name: &str,
        target: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let typed = self.graph.clone().into_typed()?;
        let mut placed: HashMap<OutletId, OutletId> = HashMap::new();
        for (inner, place) in typed.input_outlets()?.iter().zip(&self.inputs) {
            let outer = inputs.get(*place).context("an If has too few inputs")?;
            placed.insert(*inner, *outer);
        }
        let find = |placed: &HashMap<OutletId, OutletId>, inner: &OutletId| {
            let outer = placed.get(inner).copied();
            outer.context("a node stands before what it takes")
        };
        for id in typed.eval_order()? {
            let node = typed.node(id);
            if placed.contains_key(&OutletId::new(id, 0)) {
                continue;
            }
            let name = format!("{name}.{}", node.name);
            let outer = if let Some(konst) = node.op_as::<Const>() {
                tvec![target.add_const(name, konst.val().clone())?]
            } else {
                let inputs = node.inputs.iter().map(|inner| find(&placed, inner));
                let inputs = inputs.collect::<TractResult<TVec<OutletId>>>()?;
                target.wire_node(name, node.op.clone(), &inputs)?
            };
            for (slot, outer) in outer.into_iter().enumerate() {
                placed.insert(OutletId::new(id, slot), outer);
            }
        }
        let outputs = typed.output_outlets()?.iter();
        outputs.map(|inner| find(&placed, inner)).collect()
    }
}

impl Op for Branch {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for Branch {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let condition = inputs.first().context("an If has no condition")?;
        let body = self.of(answer(condition)?);
        let mut graph = body.graph.clone();
        let mut seen = TVec::new();
        for (position, place) in body.inputs.iter().enumerate() {
            let value = inputs.get(*place).context("an If has too few inputs")?;
            let fact = InferenceFact::dt_shape(value.datum_type(), value.shape());
            graph.set_input_fact(position, fact)?;
            seen.push(value.clone());
        }
        graph.into_typed()?.into_runnable()?.run(seen)
    }
}

impl InferenceOp for Branch {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(
        TVec<InferenceFact>,
        TVec<InferenceFact>,
        TVec<InferenceFact>,
    )> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        let given = inputs.first_mut().context("an If has no condition")?;
        given
            .datum_type
            .unify_with_mut(&mut DatumType::Bool.into())?;
        let known = condition(given)?;
        let mut changed = true;
        while changed {
            changed = false;
            for body in self.taken(known) {
                changed |= body.unify(&mut inputs, &mut outputs, known.is_some())?;
            }
        }
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.then.graph.outputs.len())
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs = node.inputs.iter().map(|input| {
            let outer = mapping.get(input).copied();
            outer.context("an input of an If is not there")
        });
        let inputs = inputs.collect::<TractResult<TVec<OutletId>>>()?;
        let given = node.inputs.first().context("an If has no condition")?;
        if let Some(condition) = condition(source.outlet_fact(*given)?)? {
            return self.of(condition).inline(&node.name, target, &inputs);
        }
        let either = IfThenElse {
            then_body: self.then.graph.clone().into_typed()?,
            then_input_mapping: self.then.inputs.clone(),
            else_body: self.otherwise.graph.clone().into_typed()?,
            else_input_mapping: self.otherwise.inputs.clone(),
        };
        target.wire_node(&node.name, either, &inputs)
    }

    as_op!();
}
