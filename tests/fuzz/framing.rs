//! Inferences of the Open Inference Protocol: a JSON header, the raw tensors behind it, and the answer.

use bytes::Bytes;
use edgeward::api::Infer;
use edgeward::model::Scorer;
use edgeward::serving::{Call, Noted};
use edgeward_kernels::tensor::Tensor;
use hyper::Request;
use hyper::header::HeaderValue;
use serde_json::Value;

use super::{claims, models};

const HEADER: &str = "inference-header-content-length";

/// An inference, with raw tensors or without; whether it is answered.
///
/// # Panics
/// When the product breaks a claim.
pub fn v2_binary(data: &[u8]) -> bool {
    let [number, framing, rest @ ..] = data else {
        return false;
    };
    let scorer = models::pick(models::tensors(), *number);
    let (header, body) = framed(*framing, rest);
    let mut request = Request::post("/v2/models/fuzz/infer");
    if let Some(header) = &header {
        // What is no header never gets as far as this.
        let Ok(value) = HeaderValue::from_bytes(header) else {
            return false;
        };
        request = request.header(HEADER, value);
    }
    let (head, ()) = request.body(()).expect("a sound head").into_parts();
    let mut call = match Infer::asked_by(&head) {
        Ok(call) => call,
        Err(refused) => return claims::api_error(&refused),
    };
    let mut noted = Noted::default();
    let tensors = match call.read(&body, scorer, &mut noted) {
        Ok(tensors) => tensors,
        Err(refused) => return claims::refused(&refused),
    };
    claims::accepted(scorer.session().inputs(), &tensors, body.len(), 0);
    let request = header_of(&body);
    as_announced(&request, scorer, &tensors);
    let length = header.and_then(|header| String::from_utf8(header).ok()?.parse().ok());
    assert_eq!(
        Some(raw_of(&request)),
        body.len().checked_sub(length.unwrap_or(body.len()))
    );
    assert_eq!(noted.client_request_id.as_deref(), request["id"].as_str());
    if let Some(shown) = &noted.request {
        let shown: Value = serde_json::from_slice(shown).expect("a row is JSON");
        assert_eq!(shown["header"]["inputs"], request["inputs"]);
    }
    let outputs = match scorer.run(&tensors) {
        Ok(outputs) => outputs,
        Err(refused) => return claims::refused(&refused),
    };
    match call.write(scorer, &outputs) {
        Ok(answer) => {
            answered(&request, scorer, &outputs, &answer);
            true
        }
        // Classes of what is no number.
        Err(refused) => claims::refused(&refused),
    }
}

/// The header with the length of the JSON, and the body.
fn framed(framing: u8, rest: &[u8]) -> (Option<Vec<u8>>, Bytes) {
    let cut = |at: u8| {
        let place = rest.iter().position(|byte| *byte == at)?;
        Some((&rest[..place], &rest[place + 1..]))
    };
    match framing % 3 {
        0 => (None, Bytes::copy_from_slice(rest)),
        1 => {
            let (header, body) = cut(b'\n').unwrap_or((rest, &[]));
            (Some(header.to_vec()), Bytes::copy_from_slice(body))
        }
        _ => {
            let (json, raw) = cut(0).unwrap_or((rest, &[]));
            let header = json.len().to_string().into_bytes();
            (Some(header), [json, raw].concat().into())
        }
    }
}

/// The JSON at the front of a body.
fn header_of(body: &[u8]) -> Value {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter();
    let header = values.next().expect("an accepted body begins with JSON");
    header.expect("the JSON of an accepted body can be read")
}

/// How many raw bytes the JSON announces.
fn raw_of(request: &Value) -> usize {
    let inputs = request["inputs"].as_array().into_iter().flatten();
    let sizes = inputs.filter_map(|input| input["parameters"]["binary_data_size"].as_u64());
    usize::try_from(sizes.sum::<u64>()).expect("the body has so many bytes")
}

/// Each tensor has the shape that the JSON announces, and each input is announced.
fn as_announced(request: &Value, scorer: &Scorer, tensors: &[Tensor]) {
    let announced = request["inputs"].as_array().expect("inputs are a list");
    let specs = scorer.session().inputs();
    assert_eq!(announced.len(), specs.len());
    for (spec, tensor) in specs.iter().zip(tensors) {
        let input = announced.iter().find(|input| input["name"] == *spec.name);
        let shape = &input.expect("every input is announced")["shape"];
        assert_eq!(*shape, Value::from(tensor.shape()), "{}", spec.name);
    }
}

/// The answer has the outputs that were wanted, and its raw bytes are those that its JSON announces.
fn answered(request: &Value, scorer: &Scorer, outputs: &[Tensor], answer: &[u8]) {
    let mut values = serde_json::Deserializer::from_slice(answer).into_iter::<Value>();
    let json = values
        .next()
        .expect("an answer begins with JSON")
        .expect("which can be read");
    let raw = answer.len() - values.byte_offset();
    assert_eq!(json["model_name"], "fuzz");
    assert_eq!(json["id"], request["id"]);
    let given = json["outputs"].as_array().expect("outputs are a list");
    let wanted = request["outputs"]
        .as_array()
        .filter(|wanted| !wanted.is_empty());
    assert_eq!(given.len(), wanted.map_or(outputs.len(), Vec::len));
    let mut announced = 0;
    for (at, output) in given.iter().enumerate() {
        let extents = output["shape"]
            .as_array()
            .expect("a shape is a list")
            .iter();
        let elements: u64 = extents
            .map(|extent| extent.as_u64().expect("extents"))
            .product();
        let size = output["parameters"]["binary_data_size"].as_u64();
        announced += size.unwrap_or_default();
        let specs = scorer.session().outputs();
        let place = specs.iter().position(|spec| output["name"] == *spec.name);
        let tensor = &outputs[place.expect("an output of the model")];
        if let Some(wanted) = wanted {
            assert_eq!(output["name"], wanted[at]["name"]);
        }
        let is_whole = output["shape"] == Value::from(tensor.shape());
        if let (Some(size), true, Some(each)) =
            (size, is_whole, claims::wire_size(tensor.data_type()))
            && output["datatype"] != "BYTES"
        {
            assert_eq!(size, elements * each as u64);
        }
        if size.is_none() {
            assert_eq!(
                output["data"].as_array().map(Vec::len),
                usize::try_from(elements).ok()
            );
        }
    }
    assert_eq!(announced, raw as u64, "{json}");
}
