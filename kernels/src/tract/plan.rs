//! Runnable plans of a graph, and the states they run in.
//!
//! Most tabular models run as fast with a symbol for the batch as with a number, and get one plan
//! for every shape. A graph with convolutions, matrix products or loops gets a plan per concrete
//! shape: tract chooses their kernels by number. Those are built when first needed and kept, the
//! least recently used one giving way. Readers see an immutable list and never wait; a plan that is
//! missing is built under a lock that only those who need a new plan take.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tract_onnx::prelude::{
    IntoRunnable, Symbol, TValue, TVec, TractResult, TypedModel, TypedRunnableModel,
    TypedSimpleState,
};
use tract_onnx::tract_hir::internal::{TDim, ToDim};
use tract_onnx::tract_hir::tract_core::ops::konst::Const;

use super::load::Graph;
use super::simplify;

/// How many concrete plans a session keeps.
pub(super) const MOST_PLANS: usize = 16;

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
    PerShape(PerShape),
}

impl Plans {
    /// Plans for serving.
    pub(super) fn optimised(graph: &Graph) -> TractResult<Self> {
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
            let symbols = graph.symbols.clone();
            return Ok(Self::PerShape(PerShape {
                model,
                symbols,
                ready: ArcSwap::default(),
                building: Mutex::new(()),
                clock: AtomicU64::new(0),
            }));
        }
        Ok(Self::One(Plan::new(Vec::new(), model.into_optimized()?)?))
    }

    /// The plan that evaluates the graph node by node as it is.
    pub(super) fn as_written(graph: &Graph) -> TractResult<Self> {
        Ok(Self::One(Plan::new(Vec::new(), graph.model.clone())?))
    }

    /// The plan for these extents of the graph's symbols, built if there is none.
    pub(super) fn get(&self, extents: &[usize]) -> TractResult<PlanRef<'_>> {
        match self {
            Self::One(plan) => Ok(PlanRef::Only(plan)),
            Self::PerShape(plans) => plans.get(extents).map(PlanRef::Shared),
        }
    }

    /// To how many rows a batch of `rows` is padded, where the session may; `None` when there is
    /// nothing to gain.
    pub(super) fn bucket(&self, rows: usize) -> Option<usize> {
        match self {
            Self::One(_) => None,
            Self::PerShape(_) => Some(rows.next_power_of_two())
                .filter(|bucket| *bucket != rows && *bucket <= LARGEST_BUCKET),
        }
    }

    /// How many bytes the plans hold besides what came in the model file.
    pub(super) fn resident(&self) -> u64 {
        match self {
            Self::One(plan) => plan.constants,
            Self::PerShape(plans) => {
                constants(&plans.model)
                    + plans
                        .ready
                        .load()
                        .iter()
                        .map(|plan| plan.constants)
                        .sum::<u64>()
            }
        }
    }
}

/// A plan, borrowed or shared.
pub(super) enum PlanRef<'a> {
    /// The only one.
    Only(&'a Plan),
    /// One of several; it may be dropped from the list while it runs.
    Shared(Arc<Plan>),
}

impl PlanRef<'_> {
    /// Runs the plan.
    pub(super) fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        match self {
            Self::Only(plan) => plan.run(inputs),
            Self::Shared(plan) => plan.run(inputs),
        }
    }
}

/// Plans by concrete shape.
#[derive(Debug)]
pub(super) struct PerShape {
    /// Decluttered, with symbols.
    model: TypedModel,
    symbols: Vec<Symbol>,
    ready: ArcSwap<Vec<Arc<Plan>>>,
    building: Mutex<()>,
    /// Counts uses, to tell which plan was used last.
    clock: AtomicU64,
}

impl PerShape {
    fn get(&self, extents: &[usize]) -> TractResult<Arc<Plan>> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(plan) = self.find(extents) {
            plan.used.store(now, Ordering::Relaxed);
            return Ok(plan);
        }
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = self.find(extents) {
            return Ok(plan);
        }
        let values: HashMap<Symbol, TDim> = self
            .symbols
            .iter()
            .cloned()
            .zip(extents.iter().map(|extent| extent.to_dim()))
            .collect();
        let plan = Plan::new(
            extents.to_vec(),
            self.model.set_symbols(&values)?.into_optimized()?,
        )?;
        plan.used.store(now, Ordering::Relaxed);
        let plan = Arc::new(plan);
        let mut plans = Vec::clone(&self.ready.load());
        if plans.len() >= MOST_PLANS {
            let oldest = plans
                .iter()
                .enumerate()
                .min_by_key(|(_, plan)| plan.used.load(Ordering::Relaxed));
            if let Some((position, _)) = oldest {
                plans.remove(position);
            }
        }
        plans.push(Arc::clone(&plan));
        self.ready.store(Arc::new(plans));
        drop(building);
        Ok(plan)
    }

    /// The extents of the plans that are ready, oldest first.
    #[cfg(test)]
    pub(super) fn shapes(&self) -> Vec<Vec<usize>> {
        self.ready
            .load()
            .iter()
            .map(|plan| plan.extents.clone())
            .collect()
    }

    fn find(&self, extents: &[usize]) -> Option<Arc<Plan>> {
        self.ready
            .load()
            .iter()
            .find(|plan| plan.extents == extents)
            .cloned()
    }
}

/// One runnable plan.
#[derive(Debug)]
pub(super) struct Plan {
    extents: Vec<usize>,
    runnable: Arc<TypedRunnableModel>,
    /// Idle states. A slot is only ever tried, never waited for.
    states: Box<[Mutex<Option<TypedSimpleState>>]>,
    used: AtomicU64,
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
    fn new(extents: Vec<usize>, model: TypedModel) -> TractResult<Self> {
        Ok(Self {
            extents,
            constants: constants(&model),
            runnable: model.into_runnable()?,
            states: (0..STATES).map(|_| Mutex::new(None)).collect(),
            used: AtomicU64::new(0),
        })
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
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

/// The bytes of a graph's constants.
fn constants(model: &TypedModel) -> u64 {
    let of_node = |node: &tract_onnx::prelude::TypedNode| {
        node.op_as::<Const>().map_or(0, |konst| {
            konst.val().len() * konst.val().datum_type().size_of()
        })
    };
    model.nodes().iter().map(of_node).sum::<usize>() as u64
}
