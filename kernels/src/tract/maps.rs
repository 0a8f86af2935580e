//! Maps at the edges of a graph, where exports of scikit-learn have them: a `DictVectorizer` takes one
//! from key to number, a `ZipMap` gives one from label to score.
//!
//! No engine of ours has maps. A map that goes in becomes a row with a column for each key of the
//! vocabulary; one that comes out stays a row. [`Names`] has what their numbers are called, so that
//! whoever speaks to callers can speak in maps. `pb` drops the type of a map: it is read from the
//! file's bytes once more.

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::TractResult;

use super::load::parse_failure;
use super::ml;
use crate::engine::{LoadModelError, ModelForm};

/// What the numbers of rows are called.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// The keys of the map that is the one input, in the order of its columns; empty where none is.
    pub(super) keys: Vec<String>,
    /// Of each output the labels of its scores; empty where it is no map.
    pub(super) labels: Vec<Vec<String>>,
}

impl Names {
    /// Reads the names, and makes a matrix of an input that is a map.
    ///
    /// # Errors
    /// A map that becomes no matrix, or a vocabulary that cannot be read.
    pub(super) fn take(graph: &mut GraphProto, bytes: &[u8]) -> Result<Self, LoadModelError> {
        Ok(Self {
            labels: labels(graph).map_err(|error| parse_failure(&error))?,
            keys: keys(graph, bytes)?,
        })
    }
}

/// The labels of each output that a `ZipMap` gives.
fn labels(graph: &GraphProto) -> TractResult<Vec<Vec<String>>> {
    let of = |name: &String| {
        let mut maps = graph.node.iter().filter(|node| node.op_type == "ZipMap");
        let giver = maps.find(|node| node.output.contains(name));
        giver.map_or_else(|| Ok(Vec::new()), ml::zip_map_labels)
    };
    graph.output.iter().map(|output| of(&output.name)).collect()
}

/// The keys of the map that is an input, which becomes a matrix.
fn keys(graph: &mut GraphProto, bytes: &[u8]) -> Result<Vec<String>, LoadModelError> {
    let Some(at) = graph.input.iter().position(is_untyped) else {
        return Ok(Vec::new());
    };
    let element = element_of_map(bytes, at).map_err(|error| LoadModelError::Parse {
        form: ModelForm::Onnx,
        reason: error.to_string(),
    })?;
    let given = |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name);
    let asked = graph.input.iter().filter(|input| !given(&input.name));
    let count = asked.count();
    let (Some(element), Some(input)) = (element, graph.input.get_mut(at)) else {
        return Ok(Vec::new());
    };
    let refuse = |reason: &str| LoadModelError::NotServed {
        what: format!("input {:?}, a map: {reason}", input.name),
    };
    if count > 1 {
        return Err(refuse("it would have to be the only input"));
    }
    let known = [DataType::Float, DataType::Double, DataType::String];
    if !known.iter().any(|known| *known as i32 == element) {
        return Err(refuse(
            "its values would have to be float, double or string",
        ));
    }
    let takers = graph.node.iter();
    let takers = takers.filter(|node| node.input.contains(&input.name));
    let vocabularies = takers.map(|node| match node.op_type.as_str() {
        "DictVectorizer" => ml::vocabulary(node).map_err(|error| parse_failure(&error)),
        _ => Err(refuse("only a DictVectorizer can take it")),
    });
    let mut vocabularies = vocabularies.collect::<Result<Vec<_>, _>>()?;
    vocabularies.dedup();
    match <[Vec<String>; 1]>::try_from(vocabularies) {
        Ok([keys]) => {
            input.r#type = Some(matrix(element, keys.len()));
            Ok(keys)
        }
        Err(_) => Err(refuse("it would have to be taken with one vocabulary")),
    }
}

/// A matrix of any number of rows.
fn matrix(element: i32, columns: usize) -> TypeProto {
    let extent = |value| Dimension {
        value,
        ..Dimension::default()
    };
    let columns = i64::try_from(columns).unwrap_or(i64::MAX);
    let shape = TensorShapeProto {
        dim: vec![
            extent(None),
            extent(Some(dimension::Value::DimValue(columns))),
        ],
    };
    TypeProto {
        value: Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: element,
            shape: Some(shape),
        })),
        ..TypeProto::default()
    }
}

/// Whether the graph does not say a type that is a tensor.
fn is_untyped(input: &ValueInfoProto) -> bool {
    let kind = input.r#type.as_ref();
    kind.is_none_or(|kind| kind.value.is_none())
}

/// What an element of the values of the map is that is the input at this place; `None` where it is
/// something else.
fn element_of_map(bytes: &[u8], at: usize) -> Result<Option<i32>, prost::DecodeError> {
    let graph = wire::Model::decode(bytes)?.graph.unwrap_or_default();
    let kind = graph.input.into_iter().nth(at).and_then(|input| input.kind);
    // A sequence of maps is a map for each row.
    let kind = kind.and_then(|kind| match kind.sequence {
        Some(sequence) => sequence.element,
        None => Some(Box::new(kind)),
    });
    let values = kind.and_then(|kind| kind.map?.value);
    Ok(values.and_then(|values| Some(values.tensor?.element)))
}

/// The part of `onnx.proto` that says the types of a graph's inputs, maps and sequences with them.
mod wire {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Model {
        #[prost(message, optional, tag = "7")]
        pub(super) graph: Option<Graph>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "11")]
        pub(super) input: Vec<Input>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Input {
        #[prost(message, optional, tag = "2")]
        pub(super) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Kind {
        #[prost(message, optional, tag = "1")]
        pub(super) tensor: Option<Tensor>,
        #[prost(message, optional, boxed, tag = "4")]
        pub(super) sequence: Option<Box<Sequence>>,
        #[prost(message, optional, boxed, tag = "5")]
        pub(super) map: Option<Box<Map>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Tensor {
        #[prost(int32, tag = "1")]
        pub(super) element: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Sequence {
        #[prost(message, optional, boxed, tag = "1")]
        pub(super) element: Option<Box<Kind>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Map {
        #[prost(message, optional, boxed, tag = "2")]
        pub(super) value: Option<Box<Kind>>,
    }
}

#[cfg(test)]
mod tests;
