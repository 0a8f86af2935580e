//! A model whose weights are kept apart, to be typed again and again.
//!
//! Each typing parses the small rest anew, so that no symbol of one outlives it. The weights are read
//! once and shared by all; they must never be changed.

use std::fmt;
use std::sync::Arc;

use tract_onnx::model::ParseResult;
use tract_onnx::pb::{
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use tract_onnx::prelude::{
    DatumType, InferenceModel, OutletId, TVec, Tensor, TractResult, TypedModel,
};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::infer::InferenceFact;
use tract_onnx::tract_hir::internal::TractErrorContext as _;
use tract_onnx::tract_hir::ops::konst::Const;

use crate::tract::load::{self, ReadModel};

/// An initializer of more elements is a weight; the others may be what an operator's attributes are
/// in other versions of it.
const SMALL: i64 = 64;

/// The model without its weights, and the weights.
pub(super) struct Skeleton {
    model: ReadModel,
    weights: Vec<(String, Arc<Tensor>)>,
    /// The names of the inputs.
    inputs: Vec<String>,
}

/// What is known of an input.
pub(super) enum Known {
    /// Its value.
    Value(Arc<Tensor>),
    /// The type of its elements, and its shape.
    Shape(DatumType, TVec<usize>),
}

impl fmt::Debug for Skeleton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skeleton")
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

impl Skeleton {
    /// Takes the weights out of a model.
    pub(super) fn of(mut model: ReadModel) -> TractResult<Self> {
        let folder = model.folder.clone();
        let graph = model.proto.graph.as_mut().context("no graph")?;
        let given: Vec<&str> = graph.initializer.iter().map(|given| &*given.name).collect();
        let inputs = graph.input.iter().map(|input| &input.name);
        let inputs = inputs.filter(|name| !given.contains(&name.as_str()));
        let inputs = inputs.cloned().collect();
        let (small, large): (Vec<_>, Vec<_>) = std::mem::take(&mut graph.initializer)
            .into_iter()
            .partition(|tensor| tensor.dims.iter().product::<i64>() <= SMALL);
        graph.initializer = small;
        let mut weights = Vec::with_capacity(large.len());
        for tensor in large {
            let value = load_tensor(&*model.onnx.provider, &tensor, folder.as_deref())?;
            if graph.input.iter().all(|input| input.name != tensor.name) {
                graph.input.push(port(&tensor));
            }
            weights.push((tensor.name, Arc::new(value)));
        }
        Ok(Self {
            model,
            weights,
            inputs,
        })
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        let held = self.weights.iter();
        let held = held.map(|(_, value)| value.len() * value.datum_type().size_of());
        held.sum::<usize>() as u64
    }

    /// The typed graph for inputs of which this much is known; those whose value is known are no
    /// inputs any more.
    pub(super) fn typed(&self, known: &[Known]) -> TractResult<TypedModel> {
        let ParseResult {
            model: mut graph,
            outlets_by_name,
            ..
        } = self.model.parse()?;
        let outlet = |name: &String| {
            let outlet = outlets_by_name.get(name).copied();
            outlet.with_context(|| format!("nothing is named {name}"))
        };
        for (name, value) in &self.weights {
            fix(&mut graph, outlet(name)?, value)?;
        }
        let mut free = TVec::new();
        for (name, known) in self.inputs.iter().zip(known) {
            let outlet = outlet(name)?;
            match known {
                Known::Value(value) => fix(&mut graph, outlet, value)?,
                Known::Shape(datum_type, shape) => {
                    let fact = InferenceFact::dt_shape(*datum_type, &**shape);
                    graph.set_outlet_fact(outlet, fact)?;
                    free.push(outlet);
                }
            }
        }
        graph.set_input_outlets(&free)?;
        load::typed(graph)
    }
}

/// Makes a constant of a source.
fn fix(graph: &mut InferenceModel, outlet: OutletId, value: &Arc<Tensor>) -> TractResult<()> {
    graph.node_mut(outlet.node).op = Box::new(Const::new(Arc::clone(value))?);
    graph.set_outlet_fact(outlet, InferenceFact::try_from(value)?)
}

/// The declaration of an input that takes this tensor.
fn port(tensor: &TensorProto) -> ValueInfoProto {
    let dims = tensor
        .dims
        .iter()
        .map(|extent| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(*extent)),
            ..Default::default()
        });
    let kind = type_proto::Tensor {
        elem_type: tensor.data_type,
        shape: Some(TensorShapeProto {
            dim: dims.collect(),
        }),
    };
    ValueInfoProto {
        name: tensor.name.clone(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(kind)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
