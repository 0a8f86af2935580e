//! Runnable plans of a graph, and the states they run in.
//!
//! Most tabular models run as fast with a symbol for the batch as with a number, and get one plan
//! for every shape. A graph with convolutions, matrix products or loops gets a plan per concrete
//! shape: tract chooses their kernels by number. Those are built when first needed and kept, the
//! least recently used one giving way.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tract_onnx::prelude::{
    IntoRunnable, Symbol, TValue, TVec, TractResult, TypedModel, TypedNode, TypedRunnableModel,
    TypedSimpleState,
};
use tract_onnx::tract_hir::internal::{TDim, ToDim};
use tract_onnx::tract_hir::tract_core::ops::konst::Const;

use super::load::Graph;
use super::operator::{Evaluation, held};
use super::recent::{Bounds, Entry, Recent};
use super::session::Compute;
use super::simplify;

/// How many concrete plans a session keeps.
pub(super) const MOST_PLANS: usize = 16;

/// The plans of a session hold at most so many times what its weights hold.
const MOST_COPIES: u64 = 4;

/// Below this they are not counted.
const FEW_BYTES: u64 = 64 << 20;

/// How many plans are kept of a graph with so many bytes of weights.
pub(crate) fn bounds(weights: u64) -> Bounds {
    Bounds {
        entries: MOST_PLANS,
        bytes: weights.saturating_mul(MOST_COPIES).max(FEW_BYTES),
    }
}

/// How many idle states a plan keeps: as many threads can run it without building one.
const STATES: usize = 16;

/// A batch is never padded to more rows than this.
const LARGEST_BUCKET: usize = 4096;

/// tract operators that are faster when they know every extent.
const SHAPE_BOUND: [&str; 9] = [
    "Conv",
    "ConvHir",
    "Deconv",
    "DeconvSum",
    "EinSum",
    "MatMul",
    "MaxPool",
    "SumPool",
    "Scan",
];

/// The plans of a session.
#[derive(Debug)]
pub(super) enum Plans {
    /// One plan for every shape.
    One(Plan),
    /// A plan per shape.
    PerShape(Box<PerShape>),
}

impl Plans {
    /// Plans for this evaluation.
    pub(super) fn of(graph: &Graph, evaluation: Evaluation) -> TractResult<Self> {
        if evaluation.is_plain() {
            Self::as_written(graph)
        } else {
            Self::optimised(graph)
        }
    }

    /// Plans for serving.
    fn optimised(graph: &Graph) -> TractResult<Self> {
        let model = simplify::without_identities(graph.model.clone().into_decluttered()?)?;
        let bound = model
            .nodes()
            .iter()
            .any(|node| SHAPE_BOUND.contains(&&*node.op().name()));
        let free = graph
            .axes
            .iter()
            .flatten()
            .any(|axis| *axis == super::load::Axis::Derived);
        if bound && !free && !graph.symbols.is_empty() {
            let weights = constants(&model);
            let symbols = graph.symbols.clone();
            return Ok(Self::PerShape(Box::new(PerShape {
                model,
                symbols,
                plans: Recent::new(bounds(weights)),
            })));
        }
        Ok(Self::One(Plan::optimised(model)?))
    }

    /// The plan that evaluates the graph node by node as it is.
    fn as_written(graph: &Graph) -> TractResult<Self> {
        Ok(Self::One(Plan::as_written(graph.model.clone())?))
    }

    /// The plan for these extents of the graph's symbols, built if there is none.
    fn get(&self, extents: &[usize]) -> TractResult<PlanRef<'_>> {
        match self {
            Self::One(plan) => Ok(PlanRef::Only(plan)),
            Self::PerShape(plans) => plans.get(extents).map(PlanRef::Shared),
        }
    }
}

impl Compute for Plans {
    fn bucket(&self, rows: usize) -> Option<usize> {
        match self {
            Self::One(_) => None,
            Self::PerShape(_) => bucket(rows),
        }
    }

    fn run(&self, extents: &[usize], inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.get(extents)?.run(inputs)
    }

    fn resident(&self) -> u64 {
        match self {
            Self::One(plan) => plan.constants,
            Self::PerShape(shaped) => constants(&shaped.model) + shaped.plans.bytes(),
        }
    }
}

/// The next larger batch that there are plans for; `None` for a batch that is one of them, or larger
/// than all.
pub(crate) fn bucket(rows: usize) -> Option<usize> {
    Some(rows.next_power_of_two()).filter(|bucket| *bucket != rows && *bucket <= LARGEST_BUCKET)
}

/// `model` with these extents for its symbols.
pub(crate) fn concrete(
    model: &TypedModel,
    symbols: &[Symbol],
    extents: &[usize],
) -> TractResult<TypedModel> {
    let extents = extents.iter().map(|extent| extent.to_dim());
    let values: HashMap<Symbol, TDim> = symbols.iter().cloned().zip(extents).collect();
    model.set_symbols(&values)
}

/// A plan, borrowed or shared.
enum PlanRef<'a> {
    /// The only one.
    Only(&'a Plan),
    /// One of several; it may be dropped from the list while it runs.
    Shared(Arc<Entry<Vec<usize>, Plan>>),
}

impl PlanRef<'_> {
    /// Runs the plan.
    fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        match self {
            Self::Only(plan) => plan.run(inputs),
            Self::Shared(plan) => plan.value.run(inputs),
        }
    }
}

/// Plans by concrete shape.
#[derive(Debug)]
pub(super) struct PerShape {
    /// Decluttered, with symbols.
    model: TypedModel,
    symbols: Vec<Symbol>,
    plans: Recent<Vec<usize>, Plan>,
}

impl PerShape {
    fn get(&self, extents: &[usize]) -> TractResult<Arc<Entry<Vec<usize>, Plan>>> {
        self.plans.get(extents, || {
            let plan = Plan::optimised(concrete(&self.model, &self.symbols, extents)?)?;
            let bytes = plan.constants;
            Ok((plan, bytes))
        })
    }

    /// The extents of the plans that are ready, oldest first.
    #[cfg(test)]
    pub(super) fn shapes(&self) -> Vec<Vec<usize>> {
        let plans = self.plans.entries();
        plans.iter().map(|plan| plan.key.clone()).collect()
    }
}

/// One runnable plan.
#[derive(Debug)]
pub(crate) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    /// Idle states. A slot is only ever tried, never waited for.
    states: Box<[Mutex<Option<TypedSimpleState>>]>,
    /// How many bytes its constants hold.
    constants: u64,
}

thread_local! {
    /// Where this thread begins to look for an idle state: its own place, so that threads do not
    /// contend for one.
    static PLACE: Cell<usize> = Cell::new({
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    });
}

impl Plan {
    /// The plan of a graph, node by node.
    fn as_written(model: TypedModel) -> TractResult<Self> {
        let constants = constants(&model);
        Self::of(model, constants)
    }

    /// The plan of the fastest graph that computes the same.
    fn optimised(model: TypedModel) -> TractResult<Self> {
        // Weights that are packed for a product lie inside its node: they hold as much as before.
        let before = constants(&model);
        let model = model.into_optimized()?;
        let after = constants(&model);
        Self::of(model, before.max(after))
    }

    fn of(model: TypedModel, constants: u64) -> TractResult<Self> {
        Ok(Self {
            constants,
            runnable: model.into_runnable()?,
            states: (0..STATES).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// The fastest plan of one node alone, whose inputs have the extents that the graph says, and which
    /// of them it takes: those that change.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_node(model: &TypedModel, node: &TypedNode) -> TractResult<(Self, Vec<usize>)> {
        use tract_onnx::prelude::SpecialOps as _;

        let mut alone = TypedModel {
            symbols: model.symbols.clone(),
            ..TypedModel::default()
        };
        let (mut wires, mut takes) = (TVec::new(), Vec::new());
        for (place, input) in node.inputs.iter().enumerate() {
            let fact = model.outlet_fact(*input)?;
            let name = format!("input {place}");
            wires.push(if let Some(value) = &fact.konst {
                alone.add_const(name, Arc::clone(value))?
            } else {
                takes.push(place);
                alone.add_source(name, fact.without_value())?
            });
        }
        let outputs = alone.wire_node(&node.name, node.op.clone(), &wires)?;
        alone.select_output_outlets(&outputs)?;
        Ok((Self::optimised(alone)?, takes))
    }

    /// How many bytes its constants hold.
    #[cfg(feature = "wgpu")]
    pub(crate) fn resident(&self) -> u64 {
        self.constants
    }

    /// Runs it; any number of threads may.
    pub(crate) fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let place = PLACE.get();
        let slots = || (0..STATES).filter_map(|step| self.states.get((place + step) % STATES));
        let idle = slots().find_map(|slot| slot.try_lock().ok()?.take());
        let mut state = idle.map_or_else(|| self.runnable.spawn(), Ok)?;
        // A state that failed or panicked is not put back: it may hold half a run. Nor is one with a
        // memory (of a Scan, a GRU): tract lets the next run begin where this one ended.
        let outputs = state.run(inputs)?;
        if state.op_states.iter().any(Option::is_some) {
            return Ok(outputs);
        }
        let free = slots().find_map(|slot| slot.try_lock().ok().filter(|held| held.is_none()));
        if let Some(mut slot) = free {
            *slot = Some(state);
        }
        Ok(outputs)
    }
}

/// The bytes of a graph's constants, those within our own operators included.
fn constants(model: &TypedModel) -> u64 {
    let of_node = |node: &TypedNode| {
        let Some(konst) = node.op_as::<Const>() else {
            let facts = model.node_input_facts(node.id).ok()?;
            let costs = node.op.cost(&facts).ok()?;
            let held = costs.iter().find(|(cost, _)| *cost == held())?;
            return u64::try_from(held.1.to_i64().ok()?).ok();
        };
        // What was packed for a product is no plain tensor any more.
        if let Some(packed) = konst.exotic_fact() {
            return u64::try_from(packed.mem_size().to_i64().ok()?).ok();
        }
        Some((konst.val().len() * konst.val().datum_type().size_of()) as u64)
    };
    model.nodes().iter().filter_map(of_node).sum()
}
