//! The recorded inputs of a model as the bodies of requests.
//!
//! `ort.json` beside a model of the samples or the zoo holds its inputs: `{"inputs": {"X": {"dtype", "shape",
//! "data"}}}`, the data flat.

use std::path::Path;

use serde_json::{Map, Value, json};

/// A body, and the headers that say what it is.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Body {
    /// A value as JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self {
            headers: vec![("Content-Type", "application/json".to_owned())],
            bytes: value.to_string().into_bytes(),
        }
    }
}

/// The recorded inputs of a model, `batch` rows of each, taken over and over.
///
/// # Panics
/// When the file is not there, or is no record.
#[must_use]
pub fn inputs(path: &Path, batch: usize) -> Map<String, Value> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let recorded: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let inputs = recorded.get("inputs").and_then(Value::as_object);
    let inputs = inputs.into_iter().flatten();
    let rows = inputs.map(|(name, input)| (name.clone(), rows(input, batch)));
    rows.collect()
}

fn rows(input: &Value, batch: usize) -> Value {
    let mut shape = extents(input);
    let data: Vec<Value> = input["data"].as_array().cloned().unwrap_or_default();
    let width = data.len() / shape.first().copied().unwrap_or(1).max(1);
    if let Some(extent) = shape.first_mut() {
        *extent = batch;
    }
    let data: Vec<&Value> = data.iter().cycle().take(batch * width).collect();
    json!({"dtype": input["dtype"], "shape": shape, "data": data})
}

/// The shape of a recorded input.
#[must_use]
pub fn extents(input: &Value) -> Vec<usize> {
    let extents = input["shape"].as_array().into_iter().flatten();
    extents
        .filter_map(|extent| usize::try_from(extent.as_u64()?).ok())
        .collect()
}

/// `{"inputs": {name: nested lists}}`, as MLflow's clients send tensors.
#[must_use]
pub fn scoring(inputs: &Map<String, Value>) -> Body {
    let nested = inputs.iter().map(|(name, input)| {
        let data = input["data"].as_array().map_or(&[][..], Vec::as_slice);
        (name.clone(), nest(data, &extents(input)))
    });
    Body::json(&json!({ "inputs": nested.collect::<Map<String, Value>>() }))
}

fn nest(data: &[Value], shape: &[usize]) -> Value {
    let Some((_, inner)) = shape.split_first() else {
        return data.first().cloned().unwrap_or_default();
    };
    let width = inner.iter().product::<usize>().max(1);
    Value::Array(
        data.chunks(width)
            .map(|row| nest(row, inner))
            .collect::<Vec<_>>(),
    )
}

/// The Open Inference Protocol's body with its data as JSON.
#[must_use]
pub fn open_inference_json(inputs: &Map<String, Value>) -> Body {
    let tensor = |(name, input): (&String, &Value)| json!({"name": name, "datatype": datatype(input), "shape": input["shape"], "data": input["data"]});
    let inputs: Vec<Value> = inputs.iter().map(tensor).collect();
    Body::json(&json!({ "inputs": inputs }))
}

/// The same with raw tensors behind a header of JSON, answered in the same way.
#[must_use]
pub fn open_inference_binary(inputs: &Map<String, Value>) -> Body {
    let mut raw = Vec::new();
    let tensor = |(name, input): (&String, &Value)| {
        let bytes = bytes(input);
        let size = bytes.len();
        raw.extend(bytes);
        json!({"name": name, "datatype": datatype(input), "shape": input["shape"],
               "parameters": {"binary_data_size": size}})
    };
    let inputs: Vec<Value> = inputs.iter().map(tensor).collect();
    let header = json!({"inputs": inputs, "parameters": {"binary_data_output": true}});
    let mut bytes = header.to_string().into_bytes();
    let length = bytes.len().to_string();
    bytes.extend(raw);
    Body {
        headers: vec![("Inference-Header-Content-Length", length)],
        bytes,
    }
}

fn datatype(input: &Value) -> &'static str {
    match input["dtype"].as_str() {
        Some("float32") => "FP32",
        Some("uint8") => "UINT8",
        Some("int64") => "INT64",
        other => panic!("no bench sends {other:?}"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the record holds numbers of the type that it names"
)]
fn bytes(input: &Value) -> Vec<u8> {
    let data = input["data"].as_array().map_or(&[][..], Vec::as_slice);
    let whole = |value: &Value| value.as_i64().unwrap_or_default();
    match input["dtype"].as_str() {
        Some("float32") => data
            .iter()
            .flat_map(|value| (value.as_f64().unwrap_or_default() as f32).to_le_bytes())
            .collect(),
        Some("int64") => data
            .iter()
            .flat_map(|value| whole(value).to_le_bytes())
            .collect(),
        _ => data
            .iter()
            .filter_map(|value| u8::try_from(whole(value)).ok())
            .collect(),
    }
}
