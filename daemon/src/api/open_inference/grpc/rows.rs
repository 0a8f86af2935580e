//! Messages as the inference table shows them: the JSON that the same request has over HTTP, and its raw
//! tensors in base64.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{MOST_SHOWN, shown};
use super::contents::Contents;
use super::messages::infer_parameter::ParameterChoice;
use super::messages::{InferParameter, ModelInferRequest, ModelInferResponse};

type Parameters = BTreeMap<String, InferParameter>;

#[derive(Debug, Serialize)]
struct Header<'m> {
    model_name: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_version: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'m str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'m str, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Tensor<'m>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Tensor<'m>>,
}

#[derive(Debug, Serialize)]
struct Tensor<'m> {
    name: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    datatype: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<&'m [i64]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'m str, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'m Contents>,
}

/// A request; `None` where it is too long for a row anyway.
pub(super) fn request(request: &ModelInferRequest) -> Option<Bytes> {
    let raw = &request.raw_input_contents;
    let inputs = request.inputs.iter().enumerate().map(|(at, input)| Tensor {
        name: &input.name,
        datatype: &input.datatype,
        shape: Some(&input.shape),
        parameters: parameters(&input.parameters, raw.get(at)),
        data: input.contents.as_ref().filter(|data| !data.is_empty()),
    });
    let outputs = request.outputs.iter().map(|output| Tensor {
        name: &output.name,
        datatype: "",
        shape: None,
        parameters: parameters(&output.parameters, None),
        data: None,
    });
    let header = Header {
        model_name: &request.model_name,
        model_version: &request.model_version,
        id: &request.id,
        parameters: parameters(&request.parameters, None),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    };
    text(&header, raw)
}

/// An answer; `None` where it is too long for a row anyway.
pub(super) fn response(response: &ModelInferResponse) -> Option<Bytes> {
    let raw = &response.raw_output_contents;
    let none = Parameters::new();
    let outputs = response
        .outputs
        .iter()
        .enumerate()
        .map(|(at, output)| Tensor {
            name: &output.name,
            datatype: &output.datatype,
            shape: Some(&output.shape),
            parameters: parameters(&none, raw.get(at)),
            data: None,
        });
    let header = Header {
        model_name: &response.model_name,
        model_version: &response.model_version,
        id: &response.id,
        parameters: BTreeMap::new(),
        inputs: Vec::new(),
        outputs: outputs.collect(),
    };
    text(&header, raw)
}

/// A message that cannot be read, or is not to be.
pub(super) fn opaque(message: &[u8]) -> Option<Bytes> {
    shown(b"null", message)
}

fn text(header: &Header<'_>, raw: &[Bytes]) -> Option<Bytes> {
    if raw.iter().map(Bytes::len).sum::<usize>() > MOST_SHOWN {
        return None;
    }
    let json = serde_json::to_vec(header).ok()?;
    let raw: Cow<'_, [u8]> = match raw {
        [] => return Some(json.into()),
        [one] => Cow::Borrowed(one),
        more => Cow::Owned(more.concat()),
    };
    shown(&json, &raw)
}

/// The parameters that were given, and how long the raw bytes are as the JSON of HTTP says it.
fn parameters<'m>(given: &'m Parameters, raw: Option<&Bytes>) -> BTreeMap<&'m str, Value> {
    let mut parameters: BTreeMap<&str, Value> = given
        .iter()
        .map(|(name, value)| (name.as_str(), parameter(value)))
        .collect();
    if let Some(raw) = raw {
        parameters.insert("binary_data_size", json!(raw.len()));
    }
    parameters
}

fn parameter(given: &InferParameter) -> Value {
    match &given.parameter_choice {
        None => Value::Null,
        Some(ParameterChoice::BoolParam(value)) => json!(value),
        Some(ParameterChoice::Int64Param(value)) => json!(value),
        Some(ParameterChoice::StringParam(value)) => json!(value),
        Some(ParameterChoice::DoubleParam(value)) => json!(value),
        Some(ParameterChoice::Uint64Param(value)) => json!(value),
    }
}
