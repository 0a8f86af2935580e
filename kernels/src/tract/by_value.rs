//! Sessions of models that tract can type only when it knows the values of some inputs: the shape of
//! a `Reshape`, the axes of a reduction, the sizes of a `Resize`.
//!
//! Such inputs are bound by value. Each call looks for the plan of its shapes and of their values;
//! one that is missing is typed and optimised as if they stood in the file. The plans used lately are
//! kept, weights are shared between all. That is for inputs that say how to compute, of which a
//! caller uses few values; one with more than `MOST_ELEMENTS` elements is refused. A model without
//! such inputs that tract can type only for extents that are numbers gets a plan for each set of
//! shapes. A model that tract can type as it is never comes here.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_base::units::ByteCount;
use tract_onnx::pb::{ValueInfoProto, tensor_shape_proto, type_proto};
use tract_onnx::prelude::{IntoArcTensor, TVec, TractError, TractResult};

use super::bind::Binding;
use super::bounded;
use super::convert;
use super::guard::Guard;
use super::load::{self, Graph, ReadModel};
use super::maps::Names;
use super::plan;
use super::recent::Recent;
use super::session::Compute;
use crate::engine::{LoadModelError, ModelForm, Rows, RunModelError, Session};
use crate::tensor::{Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

mod parameters;
mod skeleton;

use skeleton::{Known, Skeleton};

/// An input that is bound by value has at most this many elements.
const MOST_ELEMENTS: usize = 4096;

/// Extents that are tried for free axes, to see whether a graph types at all.
const TRIAL_EXTENTS: [usize; 3] = [2, 16, 1];

/// Makes what computes a graph of which everything is known.
pub(super) struct Maker(Box<Make>);

type Make = dyn Fn(&Graph) -> TractResult<Box<dyn Compute>> + Send + Sync;

impl Maker {
    pub(super) fn new<C: Compute + 'static>(
        make: impl Fn(&Graph) -> TractResult<C> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(move |graph| Ok(Box::new(make(graph)?))))
    }
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Maker")
    }
}

/// A session whose plans depend on the values of inputs.
#[derive(Debug)]
pub(super) struct ByValue {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// Of each input: whether it is bound by value.
    bound: Vec<bool>,
    skeleton: Skeleton,
    maker: Maker,
    roundings: Vec<Rounding>,
    names: Names,
    plans: Recent<Vec<u8>, Box<dyn Compute>>,
    guard: Guard,
    independent: AtomicBool,
}

impl ByValue {
    fn has_free_axes(&self) -> bool {
        let mut dims = self.inputs.iter().flat_map(|spec| &spec.shape);
        dims.any(Option::is_none)
    }

    /// What tells one plan from another: all shapes, and the values of what is bound.
    fn key(&self, inputs: &[Tensor]) -> Vec<u8> {
        let mut key = Vec::new();
        for (input, bound) in inputs.iter().zip(&self.bound) {
            put_length(&mut key, input.shape().len());
            for extent in input.shape() {
                put_length(&mut key, *extent);
            }
            if *bound {
                put_elements(&mut key, input.data());
            }
        }
        key
    }

    /// Types and optimises the graph for what is known of the inputs.
    fn plans(&self, known: &[Known]) -> TractResult<Box<dyn Compute>> {
        let typed = self.skeleton.typed(known)?;
        bounded::check(&typed)?;
        (self.maker.0)(&Graph::concrete(typed))
    }

    /// Whether the graph types for some extents of what is free.
    fn types_for_some(&self) -> bool {
        TRIAL_EXTENTS.iter().any(|extent| {
            let known = self.inputs.iter().map(|spec| {
                let shape = spec.shape.iter().map(|dim| dim.unwrap_or(*extent));
                let datum_type = convert::datum_type(spec.data_type);
                Known::Shape(datum_type, shape.collect())
            });
            let known: Vec<Known> = known.collect();
            self.skeleton.typed(&known).is_ok()
        })
    }

    /// Types and optimises the graph for inputs like these.
    fn build(&self, inputs: &[Tensor]) -> TractResult<Box<dyn Compute>> {
        let known = inputs.iter().zip(&self.bound).map(|(input, bound)| {
            let value = convert::to_tract(input)?;
            Ok(if *bound {
                Known::Value(value.into_arc_tensor())
            } else {
                Known::Shape(value.datum_type(), input.shape().into())
            })
        });
        self.plans(&known.collect::<TractResult<Vec<Known>>>()?)
    }

    fn check(&self, inputs: &[Tensor]) -> Result<(), RunModelError> {
        Binding::without_symbols().bind(&self.inputs, inputs)?;
        let bound = inputs.iter().zip(&self.bound).zip(&self.inputs);
        for ((input, _), spec) in bound.filter(|((_, bound), _)| **bound) {
            let elements = input.data().len();
            if elements > MOST_ELEMENTS {
                return Err(RunModelError::Engine {
                    reason: format!(
                        "input \"{}\" decides on shapes and has {elements} elements, more than \
                         {MOST_ELEMENTS}",
                        spec.name
                    ),
                });
            }
        }
        let mut given = inputs.iter().zip(&self.bound).zip(&self.inputs);
        let too_far = given.find(|((input, bound), _)| **bound && reaches_too_far(input));
        too_far.map_or(Ok(()), |(_, spec)| {
            Err(RunModelError::Engine {
                reason: format!(
                    "input \"{}\" decides on shapes and has a number that no extent can be",
                    spec.name
                ),
            })
        })
    }

    /// Checks an output against what the file says of it: a caller has been told that.
    fn kept(spec: &TensorSpec, output: Tensor) -> Result<Tensor, RunModelError> {
        if spec.data_type == output.data_type() && spec.admits(output.shape()) {
            return Ok(output);
        }
        Err(RunModelError::Engine {
            reason: format!(
                "output \"{}\" is {} {:?}, and the model says {} {:?}",
                spec.name,
                output.data_type(),
                output.shape(),
                spec.data_type,
                spec.shape
            ),
        })
    }
}

impl Session for ByValue {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn columns(&self) -> &[String] {
        &self.names.keys
    }

    fn has_sparse_columns(&self) -> bool {
        !self.names.keys.is_empty()
    }

    fn labels(&self) -> &[Vec<String>] {
        &self.names.labels
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        self.guard.alive()?;
        self.check(inputs)?;
        let outputs = self.guard.run(|| {
            let plans = self.plans.get(&self.key(inputs), || {
                let plans = self.build(inputs)?;
                let bytes = plans.resident();
                Ok::<_, TractError>((plans, bytes))
            })?;
            let free = inputs.iter().zip(&self.bound).filter(|(_, bound)| !**bound);
            let values = free.map(|(input, _)| convert::to_tract(input));
            let values = values.collect::<TractResult<TVec<_>>>()?;
            let outputs = plans.value.run(&[], values)?;
            let outputs = outputs.iter().map(|output| convert::from_tract(output));
            outputs.collect::<TractResult<Vec<Tensor>>>()
        })?;
        let outputs = self.outputs.iter().zip(outputs);
        outputs
            .map(|(spec, output)| Self::kept(spec, output))
            .collect()
    }

    fn permit_rows(&self, rows: Rows) {
        self.independent
            .store(rows == Rows::Independent, Ordering::Relaxed);
    }

    fn rows(&self) -> Rows {
        if self.independent.load(Ordering::Relaxed) {
            Rows::Independent
        } else {
            Rows::Together
        }
    }

    fn roundings(&self) -> &[Rounding] {
        &self.roundings
    }

    fn host_nodes(&self) -> Vec<String> {
        let plans = self.plans.entries();
        let nodes = plans.iter().map(|plan| plan.value.host_nodes());
        nodes.max_by_key(Vec::len).unwrap_or_default()
    }

    /// Of the plans that there are: before the first call nobody knows.
    fn on_device(&self) -> Option<ByteCount> {
        let plans = self.plans.entries();
        let bytes = plans.iter().filter_map(|plan| plan.value.on_device());
        bytes.reduce(u64::saturating_add).map(ByteCount)
    }

    fn resident(&self) -> ByteCount {
        ByteCount(self.skeleton.bytes() + self.plans.bytes())
    }
}

/// Whether a number is too large for tract, which cuts dimensions to 32 bits. The largest of all
/// stand for the end of an axis.
fn reaches_too_far(input: &Tensor) -> bool {
    let TensorData::I64(values) = input.data() else {
        return false;
    };
    let far = i64::from(i32::MAX).unsigned_abs()..=(i64::MAX / 2).unsigned_abs();
    values
        .iter()
        .any(|value| far.contains(&value.unsigned_abs()))
}

fn put_length(key: &mut Vec<u8>, length: usize) {
    key.extend((length as u64).to_le_bytes());
}

/// The elements bit for bit, so that a NaN is found again.
fn put_elements(key: &mut Vec<u8>, data: &TensorData) {
    macro_rules! put {
        ($values:expr) => {
            for value in $values {
                key.extend(value.to_le_bytes());
            }
        };
    }
    match data {
        TensorData::Bool(values) => key.extend(values.iter().map(|value| u8::from(*value))),
        TensorData::U8(values) => key.extend(values),
        TensorData::U16(values) => put!(values),
        TensorData::U32(values) => put!(values),
        TensorData::U64(values) => put!(values),
        TensorData::I8(values) => put!(values),
        TensorData::I16(values) => put!(values),
        TensorData::I32(values) => put!(values),
        TensorData::I64(values) => put!(values),
        TensorData::F32(values) => put!(values),
        TensorData::F64(values) => put!(values),
        TensorData::String(values) => {
            for value in values {
                put_length(key, value.len());
                key.extend(value.bytes());
            }
        }
    }
}

/// A session of the model, when there are inputs to bind by value and the file says of its inputs
/// and outputs what a caller must know.
pub(super) fn session(read: ReadModel, maker: Maker) -> Result<Option<ByValue>, LoadModelError> {
    let graph = read.graph()?;
    let parameters = parameters::of(graph);
    let given = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let free = graph.input.iter().filter(|input| !given(&input.name));
    let bound: Vec<bool> = free
        .clone()
        .map(|input| parameters.contains(input.name.as_str()))
        .collect();
    let specs = |place, ports: Vec<&ValueInfoProto>| {
        let specs = ports.into_iter().map(|port| declared(place, port));
        specs.collect::<Result<Option<Vec<TensorSpec>>, _>>()
    };
    let inputs = specs("input", free.collect::<Vec<_>>())?;
    let (Some(inputs), Some(outputs)) = (inputs, specs("output", graph.output.iter().collect())?)
    else {
        return Ok(None);
    };
    let (roundings, names) = (read.roundings.clone(), read.names.clone());
    let skeleton = Skeleton::of(read).map_err(|error| LoadModelError::Parse {
        form: ModelForm::Onnx,
        reason: format!("{error:#}"),
    })?;
    let some_bound = bound.contains(&true);
    let session = ByValue {
        inputs,
        outputs,
        bound,
        plans: Recent::new(plan::bounds(skeleton.bytes())),
        skeleton,
        maker,
        roundings,
        names,
        guard: Guard::default(),
        independent: AtomicBool::new(false),
    };
    // Without a value to wait for, it can be told now whether there is anything to serve.
    let served = some_bound || session.has_free_axes() && session.types_for_some();
    Ok(served.then_some(session))
}

/// What the file says of an input or output; `None` when it does not say the rank.
fn declared(
    place: &'static str,
    port: &ValueInfoProto,
) -> Result<Option<TensorSpec>, LoadModelError> {
    use tensor_shape_proto::dimension::Value;
    let value = port.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(kind)) = value else {
        return Ok(None);
    };
    let Some(shape) = &kind.shape else {
        return Ok(None);
    };
    let shape = shape.dim.iter().map(|dim| match &dim.value {
        Some(Value::DimValue(extent)) => usize::try_from(*extent).ok(),
        _ => None,
    });
    let refused = |data_type| LoadModelError::ElementType {
        place,
        name: port.name.clone(),
        data_type,
    };
    let datum_type = load::element_type(kind.elem_type).map_err(refused)?;
    let data_type = convert::data_type(datum_type);
    let data_type = data_type.ok_or_else(|| refused(format!("{datum_type:?}")))?;
    Ok(Some(TensorSpec {
        name: port.name.clone(),
        data_type,
        shape: shape.collect(),
    }))
}

#[cfg(test)]
mod tests;
