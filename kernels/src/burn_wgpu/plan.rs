//! The steps of a graph for one set of extents.
//!
//! A node that [`super::lower`] knows is a step on the device; any other is computed on the CPU, by a
//! plan of tract's for this node alone. Tensors go over when a step on the other side wants them, at
//! most once each way. Must never guess: what has no plan on either side fails to load.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn_backend::Shape;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use tract_onnx::prelude::{
    DatumType, IntoTensor as _, OutletId, Symbol, TValue, TVec, Tensor, TractResult, TypedModel,
    TypedNode, tvec,
};
use tract_onnx::tract_hir::internal::{bail, ensure, format_err};
use tract_onnx::tract_hir::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::tract_core::ops::source::TypedSource;

use super::device::Device;
use super::lower::{Form, Indices, Store, lower, there};
use super::residency::Tenant;
use super::weights::Weights;
use crate::tract::{
    Compute, Entry, Graph, HostPlan, Recent, TooLarge, bucket, concrete, plan_bounds,
};

/// The plans of a session.
#[derive(Debug)]
pub(super) struct DevicePlans {
    /// Decluttered, with symbols.
    model: TypedModel,
    symbols: Vec<Symbol>,
    device: Arc<Device>,
    held: Arc<Held>,
    /// The same, as the device knows it.
    tenant: Arc<dyn Tenant>,
    /// The nodes on the CPU of the plan with most of them, whether or not it is still there.
    host: Mutex<Vec<String>>,
}

/// What came of planning for some extents.
type Planned = Entry<Vec<usize>, Result<DevicePlan, TooLarge>>;

/// What a session has on the device, for as long as nobody else needs the room.
#[derive(Debug)]
struct Held {
    weights: Weights,
    /// What a plan cannot hold is not planned again.
    plans: Recent<Vec<usize>, Result<DevicePlan, TooLarge>>,
}

impl Tenant for Held {
    fn bytes(&self) -> u64 {
        self.weights.bytes()
    }

    fn leave(&self) {
        // The steps of a plan hold weights, too.
        self.plans.clear();
        self.weights.clear();
    }
}

impl DevicePlans {
    /// The plans of `graph`, of which none is built yet.
    pub(super) fn new(graph: &Graph, device: Arc<Device>) -> TractResult<Self> {
        let held = Arc::new(Held {
            weights: Weights::default(),
            plans: Recent::new(plan_bounds(graph.file_bytes)),
        });
        let plans = Self {
            model: graph.model.clone().into_decluttered()?,
            symbols: graph.symbols.clone(),
            device,
            tenant: Arc::clone(&held) as Arc<dyn Tenant>,
            held,
            host: Mutex::default(),
        };
        // Where there is one plan alone, it is told now what it holds.
        if plans.symbols.is_empty() {
            plans.device.alone_for(&plans.tenant, || plans.get(&[]))?;
        }
        Ok(plans)
    }

    fn get(&self, extents: &[usize]) -> TractResult<Arc<Planned>> {
        self.held.plans.get(extents, || {
            let model = concrete(&self.model, &self.symbols, extents)?;
            let plan = match DevicePlan::build(&model, &self.device, &self.held.weights) {
                Ok(plan) => plan,
                Err(error) => return Ok((Err(error.downcast::<TooLarge>()?), 0)),
            };
            let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
            if plan.host.len() > host.len() {
                host.clone_from(&plan.host);
            }
            let bytes = plan.host_bytes;
            Ok((Ok(plan), bytes))
        })
    }
}

impl Compute for DevicePlans {
    fn bucket(&self, rows: usize) -> Option<usize> {
        bucket(rows)
    }

    fn run(&self, extents: &[usize], inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.device.alone_for(&self.tenant, || {
            let plan = self.get(extents)?;
            let plan = plan.value.as_ref().map_err(Clone::clone)?;
            plan.run(&self.device, inputs)
        })
    }

    fn resident(&self) -> u64 {
        self.held.plans.bytes()
    }

    fn on_device(&self) -> Option<u64> {
        Some(self.held.weights.bytes())
    }

    fn host_nodes(&self) -> Vec<String> {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.clone()
    }
}

/// A tensor, on one side or on both.
#[derive(Debug, Clone, Default)]
struct Value {
    host: Option<TValue>,
    device: Option<CubeTensor>,
}

/// One plan.
#[derive(Debug)]
pub(super) struct DevicePlan {
    /// What stands in each slot before the first step.
    constants: Vec<(usize, Value)>,
    inputs: Vec<usize>,
    nodes: Vec<Node>,
    outputs: Vec<usize>,
    /// The element type and the number of axes of each slot.
    types: Vec<(DatumType, usize)>,
    /// The nodes on the CPU, each as `Operator (name)`.
    host: Vec<String>,
    /// What the plans on the CPU hold.
    host_bytes: u64,
}

struct Node {
    /// Its place in the graph.
    id: usize,
    name: String,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// The extents of its first output, where a view needs them.
    shape: TVec<usize>,
    side: Side,
    /// The slots that nobody reads behind this node.
    done: Vec<usize>,
}

enum Side {
    Device(Form),
    Host(HostPlan),
    /// The CPU's, before there is a plan.
    Unplanned,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Device(..) => "device",
            Side::Host(_) | Side::Unplanned => "CPU",
        };
        write!(f, "{} on the {side}", self.name)
    }
}

/// Numbers the tensors of a graph.
struct Slots {
    /// The first slot of each node.
    first: Vec<usize>,
    types: Vec<(DatumType, usize)>,
}

impl Slots {
    fn of(model: &TypedModel) -> Self {
        let mut slots = Self {
            first: Vec::with_capacity(model.nodes().len()),
            types: Vec::new(),
        };
        for node in model.nodes() {
            slots.first.push(slots.types.len());
            let facts = node.outputs.iter().map(|output| &output.fact);
            let types = facts.map(|fact| (fact.datum_type, fact.rank()));
            slots.types.extend(types);
        }
        slots
    }

    fn place(&self, outlet: OutletId) -> TractResult<usize> {
        let first = self.first.get(outlet.node);
        let first = first.ok_or_else(|| format_err!("no node {}", outlet.node))?;
        Ok(first + outlet.slot)
    }

    fn places(&self, outlets: &[OutletId]) -> TractResult<Vec<usize>> {
        outlets.iter().map(|outlet| self.place(*outlet)).collect()
    }
}

impl DevicePlan {
    fn build(model: &TypedModel, device: &Arc<Device>, weights: &Weights) -> TractResult<Self> {
        let slots = Slots::of(model);
        let mut plan = Self {
            constants: Vec::new(),
            inputs: slots.places(model.input_outlets()?)?,
            nodes: Vec::new(),
            outputs: slots.places(model.output_outlets()?)?,
            types: Vec::new(),
            host: Vec::new(),
            host_bytes: 0,
        };
        let store = Store { device, weights };
        // From the end: weights that a step has taken in are read by nobody else.
        let mut needed: HashSet<usize> = plan.outputs.iter().copied().collect();
        for id in model.eval_order()?.into_iter().rev() {
            plan.add(model, model.node(id), &slots, store, &mut needed)?;
        }
        plan.nodes.reverse();
        plan.plan_host(model)?;
        let computes = |node: &Node| {
            let form = match &node.side {
                Side::Device(form) => form,
                Side::Host(_) | Side::Unplanned => return false,
            };
            matches!(form, Form::Step(_) | Form::Indexed(..))
        };
        ensure!(
            plan.nodes.is_empty() || plan.nodes.iter().any(computes),
            "none of its operators has a form for the device: {}",
            plan.host.join(", ")
        );
        plan.types = slots.types;
        plan.settle();
        plan.upload(device, weights)?;
        Ok(plan)
    }

    fn add(
        &mut self,
        model: &TypedModel,
        node: &TypedNode,
        slots: &Slots,
        store: Store<'_>,
        needed: &mut HashSet<usize>,
    ) -> TractResult<()> {
        let first = slots.place(node.id.into())?;
        let outputs: Vec<usize> = (first..first + node.outputs.len()).collect();
        if !outputs.iter().any(|slot| needed.contains(slot)) {
            return Ok(());
        }
        if !node.op_is::<Const>() {
            fits(node, store.device)?;
        }
        if node.op_is::<TypedSource>() {
            return Ok(());
        }
        if let Some(konst) = node.op_as::<Const>() {
            let value = Value {
                host: Some(TValue::from_const(Arc::clone(konst.val()))),
                device: None,
            };
            self.constants.push((slots.place(node.id.into())?, value));
            return Ok(());
        }
        let all = slots.places(&node.inputs)?;
        let (side, inputs) = if let Some(lowered) = lower(model, node, store)? {
            let taken = lowered.takes.iter().map(|at| all.get(*at).copied());
            let taken = taken.collect::<Option<Vec<usize>>>();
            let taken = taken.ok_or_else(|| format_err!("{} has fewer inputs", node.name))?;
            (Side::Device(lowered.form), taken)
        } else {
            (Side::Unplanned, all)
        };
        needed.extend(&inputs);
        self.nodes.push(Node {
            id: node.id,
            name: node.name.clone(),
            inputs,
            outputs,
            shape: shape_of(node),
            side,
            done: Vec::new(),
        });
        Ok(())
    }

    /// Plans what the device does not compute.
    fn plan_host(&mut self, model: &TypedModel) -> TractResult<()> {
        for node in &mut self.nodes {
            if matches!(node.side, Side::Unplanned) {
                let of = model.node(node.id);
                self.host.push(format!("{} ({})", of.op().name(), of.name));
                let (plan, takes) = HostPlan::of_node(model, of)?;
                self.host_bytes += plan.resident();
                let taken = takes.iter().filter_map(|at| node.inputs.get(*at).copied());
                node.inputs = taken.collect();
                node.side = Side::Host(plan);
            }
        }
        Ok(())
    }

    /// Finds behind which node each tensor is needed no more.
    fn settle(&mut self) {
        let mut needed: Vec<usize> = self.outputs.clone();
        needed.extend(self.constants.iter().map(|(slot, _)| *slot));
        for node in self.nodes.iter_mut().rev() {
            for slot in node.inputs.iter().chain(&node.outputs) {
                if !needed.contains(slot) {
                    needed.push(*slot);
                    node.done.push(*slot);
                }
            }
        }
    }

    /// Puts the constants on the device that steps there read.
    fn upload(&mut self, device: &Device, weights: &Weights) -> TractResult<()> {
        let on_device = self.nodes.iter();
        let on_device = on_device.filter(|node| matches!(node.side, Side::Device(..)));
        let read: Vec<usize> = on_device.flat_map(|node| node.inputs.clone()).collect();
        for (slot, value) in &mut self.constants {
            let lives = self
                .types
                .get(*slot)
                .is_some_and(|(of, _)| lives_there(*of));
            let constant = value.host.as_ref().and_then(TValue::as_arc_tensor);
            if let (true, true, Some(tensor)) = (lives, read.contains(slot), constant) {
                value.device = Some(weights.get(device, tensor)?);
            }
        }
        Ok(())
    }

    fn run(&self, device: &Device, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut values = Values {
            device,
            types: &self.types,
            values: vec![Value::default(); self.types.len()],
        };
        for (slot, constant) in &self.constants {
            *values.at(*slot)? = constant.clone();
        }
        for (slot, input) in self.inputs.iter().zip(inputs) {
            values.at(*slot)?.host = Some(input);
        }
        for node in &self.nodes {
            let answers: Vec<Value> = match &node.side {
                Side::Device(form) => values.follow(form, node)?,
                Side::Unplanned => bail!("{} has no plan", node.name),
                Side::Host(plan) => {
                    let answers = plan.run(values.on_host(&node.inputs)?)?;
                    answers.into_iter().map(Value::of_host).collect()
                }
            };
            for (slot, answer) in node.outputs.iter().zip(answers) {
                *values.at(*slot)? = answer;
            }
            for slot in &node.done {
                *values.at(*slot)? = Value::default();
            }
        }
        values.on_host(&self.outputs)
    }
}

/// Fails where a tensor that a node gives is larger than what the device binds.
fn fits(node: &TypedNode, device: &Device) -> Result<(), TooLarge> {
    let most = device.most_elements(size_of::<f32>());
    for output in &node.outputs {
        let shape = output.fact.shape.as_concrete().unwrap_or_default();
        let elements: usize = shape.iter().product();
        if elements > most {
            return Err(TooLarge { elements, most });
        }
    }
    Ok(())
}

/// The extents of a node's first output; none where they are not known.
fn shape_of(node: &TypedNode) -> TVec<usize> {
    let shape = node.outputs.first().map(|output| &output.fact.shape);
    let shape = shape.and_then(|shape| shape.as_concrete());
    shape.map(TVec::from).unwrap_or_default()
}

impl Value {
    fn of_device(tensor: CubeTensor) -> Self {
        Self {
            host: None,
            device: Some(tensor),
        }
    }

    fn of_host(value: TValue) -> Self {
        Self {
            host: Some(value),
            device: None,
        }
    }
}

/// The tensors of a run.
struct Values<'p> {
    device: &'p Device,
    types: &'p [(DatumType, usize)],
    values: Vec<Value>,
}

impl Values<'_> {
    fn at(&mut self, slot: usize) -> TractResult<&mut Value> {
        let value = self.values.get_mut(slot);
        value.ok_or_else(|| format_err!("no tensor {slot}"))
    }

    /// What a node of the device gives.
    fn follow(&mut self, form: &Form, node: &Node) -> TractResult<Vec<Value>> {
        let step = match form {
            Form::Step(step) => step,
            Form::Indexed(step, indices) => {
                self.check(&node.inputs, *indices)?;
                step
            }
            Form::View => return Ok(vec![self.view(node)?]),
            Form::Enter(of) => {
                let host = self.on_host(&node.inputs)?;
                let host = host.first().ok_or_else(|| format_err!("no input"))?;
                let tensor = self.device.upload(&*host.cast_to_dt(*of)?)?;
                return Ok(vec![Value::of_device(tensor)]);
            }
        };
        let answers = step(self.on_device(&node.inputs)?)?;
        Ok(answers.into_iter().map(Value::of_device).collect())
    }

    /// The input with the extents of the output.
    fn view(&mut self, node: &Node) -> TractResult<Value> {
        let [slot] = node.inputs.as_slice() else {
            bail!("{} is a view of one tensor", node.name);
        };
        let shape = &node.shape;
        let value = self.at(*slot)?.clone();
        if let Some(host) = value.host {
            let host = host.into_tensor().into_shape(shape)?;
            return Ok(Value::of_host(host.into()));
        }
        let there_is = value.device;
        let tensor = there_is.ok_or_else(|| format_err!("tensor {slot} was never computed"))?;
        let shape = Shape::from(there(shape).to_vec());
        Ok(Value::of_device(reshape(tensor, shape)))
    }

    /// Fails where an index lies outside, and counts negative ones from the front.
    fn check(&mut self, inputs: &[usize], indices: Indices) -> TractResult<()> {
        let slot = inputs.get(indices.place).copied();
        let slot = slot.ok_or_else(|| format_err!("a node without indices"))?;
        let host = self.on_host(&[slot])?;
        let host = host.first().ok_or_else(|| format_err!("no indices"))?;
        let extent = i64::try_from(indices.extent)?;
        let view = host.try_as_plain_ram()?;
        let given = view.as_slice::<i64>()?;
        if given.iter().all(|index| (0..extent).contains(index)) {
            return Ok(());
        }
        let positive = given.iter().map(|index| {
            let positive = if *index < 0 { index + extent } else { *index };
            ensure!(
                (0..extent).contains(&positive),
                "index {index} lies outside of {extent}"
            );
            Ok(positive)
        });
        let positive = positive.collect::<TractResult<Vec<i64>>>()?;
        let positive = Tensor::from_shape(host.shape(), &positive)?;
        let tensor = self.device.upload(&positive)?;
        // The indices themselves may be read elsewhere, as they are.
        self.at(slot)?.device = Some(tensor);
        Ok(())
    }

    fn on_device(&mut self, slots: &[usize]) -> TractResult<TVec<CubeTensor>> {
        let mut tensors = tvec![];
        for slot in slots {
            let device = self.device;
            let value = self.at(*slot)?;
            let tensor = match (&value.device, &value.host) {
                (Some(tensor), _) => tensor.clone(),
                (None, Some(host)) => value.device.insert(device.upload(host)?).clone(),
                (None, None) => return Err(format_err!("tensor {slot} was never computed")),
            };
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn on_host(&mut self, slots: &[usize]) -> TractResult<TVec<TValue>> {
        let mut tensors = tvec![];
        for slot in slots {
            let device = self.device;
            let of = self.types.get(*slot).copied();
            let of = of.ok_or_else(|| format_err!("no tensor {slot}"))?;
            let value = self.at(*slot)?;
            let tensor = match (&value.host, value.device.clone()) {
                (Some(tensor), _) => tensor.clone(),
                (None, Some(there)) => {
                    let tensor: Tensor = device.download(there, of)?;
                    value.host.insert(tensor.into()).clone()
                }
                (None, None) => return Err(format_err!("tensor {slot} was never computed")),
            };
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

/// Whether tensors of that type can be on the device.
pub(super) fn lives_there(of: DatumType) -> bool {
    matches!(
        of,
        DatumType::F32
            | DatumType::Bool
            | DatumType::I8
            | DatumType::U8
            | DatumType::I32
            | DatumType::I64
    )
}
