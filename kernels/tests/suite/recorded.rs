//! Tensors written down by another engine: `{"dtype", "shape", "data"}`, NaN as null.

use std::path::Path;

use edgeward_kernels::engine::Session;
use edgeward_kernels::tensor::{Tensor, TensorData, TensorSpec};
use serde_json::Value;

/// Inputs and outputs in the order of a session's specs.
pub(crate) struct Recorded {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
}

/// Reads `path` for `session`.
pub(crate) fn read(path: &Path, session: &dyn Session) -> Recorded {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: Value = serde_json::from_str(&text).unwrap();
    let pick = |side: &str, specs: &[TensorSpec]| {
        specs
            .iter()
            .map(|spec| tensor(json.get(side).unwrap().get(&spec.name).unwrap()))
            .collect()
    };
    Recorded {
        inputs: pick("inputs", session.inputs()),
        outputs: pick("outputs", session.outputs()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "recorded elements are of their dtype"
)]
fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> = json["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| extent.as_u64().unwrap() as usize)
        .collect();
    let elements = json["data"].as_array().unwrap();
    let data = match json["dtype"].as_str().unwrap() {
        "float32" => TensorData::F32(
            elements
                .iter()
                .map(|element| number(element) as f32)
                .collect(),
        ),
        "float64" => TensorData::F64(elements.iter().map(number).collect()),
        "int64" => TensorData::I64(
            elements
                .iter()
                .map(|element| element.as_i64().unwrap())
                .collect(),
        ),
        "int32" => TensorData::I32(
            elements
                .iter()
                .map(|element| element.as_i64().unwrap() as i32)
                .collect(),
        ),
        "int16" => TensorData::I16(
            elements
                .iter()
                .map(|element| element.as_i64().unwrap() as i16)
                .collect(),
        ),
        "int8" => TensorData::I8(
            elements
                .iter()
                .map(|element| element.as_i64().unwrap() as i8)
                .collect(),
        ),
        "uint8" => TensorData::U8(
            elements
                .iter()
                .map(|element| u8::try_from(element.as_u64().unwrap()).unwrap())
                .collect(),
        ),
        "bool" => TensorData::Bool(
            elements
                .iter()
                .map(|element| element.as_bool().unwrap())
                .collect(),
        ),
        "string" => TensorData::String(
            elements
                .iter()
                .map(|element| element.as_str().unwrap().to_owned())
                .collect(),
        ),
        other => panic!("element type {other} is not recorded"),
    };
    Tensor::new(shape, data).unwrap()
}

fn number(json: &Value) -> f64 {
    json.as_f64().unwrap_or(f64::NAN)
}
