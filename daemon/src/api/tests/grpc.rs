//! The Open Inference Protocol over gRPC, and the rows that it leaves.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Method, Request};
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::stack::{ENDPOINTS, Stack, transaction};
use crate::api::encoding::{Decoder, Encoding};
use crate::api::open_inference::grpc::messages::infer_parameter::ParameterChoice;
use crate::api::open_inference::grpc::messages::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use crate::api::open_inference::grpc::messages::{
    InferParameter, ModelInferRequest, ModelInferResponse,
};

mod calls;
mod hostile;
mod streams;

fn input(name: &str, datatype: &str) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1, 1],
        ..InferInputTensor::default()
    }
}

/// One transaction in raw contents of four types.
fn raw() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "fraud".to_owned(),
        id: "r-7".to_owned(),
        inputs: vec![
            input("amount", "FP16"),
            input("merchant_category", "BYTES"),
            input("hour", "INT64"),
            input("is_foreign", "BF16"),
        ],
        raw_input_contents: vec![
            half::f16::from_f32(1250.0).to_le_bytes().to_vec().into(),
            Bytes::from_static(b"\x06\0\0\0online"),
            3_i64.to_le_bytes().to_vec().into(),
            half::bf16::from_f32(1.0).to_le_bytes().to_vec().into(),
        ],
        ..ModelInferRequest::default()
    }
}

/// The same with typed contents, as their bytes on the wire.
fn typed() -> ModelInferRequest {
    let with = |name: &str, datatype: &str, contents: &[u8]| InferInputTensor {
        contents: Some(Message::decode(contents).unwrap()),
        ..input(name, datatype)
    };
    let amount = [&b"\x32\x04"[..], &1250.0_f32.to_le_bytes()].concat();
    let foreign = [&b"\x32\x04"[..], &1.0_f32.to_le_bytes()].concat();
    ModelInferRequest {
        inputs: vec![
            with("amount", "FP32", &amount),
            with("merchant_category", "BYTES", b"\x42\x06online"),
            with("hour", "INT64", b"\x1a\x01\x03"),
            with("is_foreign", "FP32", &foreign),
        ],
        raw_input_contents: Vec::new(),
        ..raw()
    }
}

fn output(name: &str, parameters: &[(&str, ParameterChoice)]) -> InferRequestedOutputTensor {
    let parameters = parameters.iter().map(|(name, choice)| {
        let parameter_choice = Some(choice.clone());
        ((*name).to_owned(), InferParameter { parameter_choice })
    });
    InferRequestedOutputTensor {
        name: name.to_owned(),
        parameters: parameters.collect(),
    }
}

/// A message with the five bytes before it.
fn framed(message: &[u8], compressed: bool) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(compressed)], &length[..], message]
        .concat()
        .into()
}

/// What a call gave.
#[derive(Debug)]
struct Given {
    status: Status,
    headers: HeaderMap,
    body: Bytes,
}

impl Given {
    /// The one message of a good answer.
    #[track_caller]
    fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.status.code(), Code::Ok, "{self:?}");
        assert_eq!(self.body[0], 0, "{self:?}");
        let length = u32::from_be_bytes(self.body[1..5].try_into().unwrap());
        assert_eq!(self.body.len() - 5, length as usize);
        M::decode(self.body.slice(5..)).unwrap()
    }

    /// The probability of a good inference.
    #[track_caller]
    fn probability(&self) -> f64 {
        let response: ModelInferResponse = self.message();
        assert_eq!(response.outputs[0].name, "fraud_probability");
        let raw = response.raw_output_contents[0].as_ref();
        f64::from(f32::from_le_bytes(raw.try_into().unwrap()))
    }

    #[track_caller]
    fn refused(&self, code: Code, message: &str) {
        assert_eq!(self.status.code(), code, "{self:?}");
        let text = self.status.message();
        assert!(text.contains(message), "{text:?} has no {message:?}");
        assert!(self.body.is_empty());
    }
}

/// A call with the token.
async fn call(stack: &Stack, name: &str, message: &impl Message) -> Given {
    send(stack, name, &[], framed(&message.encode_to_vec(), false)).await
}

/// A call with the token, as it is given.
async fn send(stack: &Stack, name: &str, headers: &[(&str, &str)], body: Bytes) -> Given {
    let token = format!("Bearer {}", stack.token);
    let headers = [&[("authorization", token.as_str())][..], headers].concat();
    bare(stack, name, &headers, Body::from(body)).await
}

fn request(name: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let uri = format!("http://test/inference.GRPCInferenceService/{name}");
    let mut request = Request::post(uri).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

async fn bare(stack: &Stack, name: &str, headers: &[(&str, &str)], body: Body) -> Given {
    let mut connection = stack.connect_two().await;
    let sent = connection.send_request(request(name, headers, body)).await;
    let (head, body) = sent.unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "application/grpc");
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let trailers = trailers.unwrap_or_else(|| head.headers.clone());
    Given {
        status: Status::from_header_map(&trailers).unwrap(),
        headers: head.headers,
        body: collected.to_bytes(),
    }
}

/// What version 3 says of the transaction, by way of MLflow's protocol.
async fn expected(stack: &Stack) -> f64 {
    let path = "/serving-endpoints/fraud/served-models/champion/invocations";
    let answer = stack.send(Method::POST, path, &transaction()).await;
    stack.row();
    answer.json()["predictions"][0].as_f64().unwrap()
}

fn close_to(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// The row's two texts as JSON.
fn texts(row: &crate::inference_table::Row) -> (Value, Value) {
    let json = |text: &Option<Bytes>| serde_json::from_slice(text.as_ref().unwrap()).unwrap();
    (json(&row.request), json(&row.response))
}

#[tokio::test]
async fn raw_contents_are_answered_and_leave_a_row() {
    let stack = Stack::two_versions().await;
    let expected = expected(&stack).await;
    let given = call(&stack, "ModelInfer", &raw()).await;
    assert!(close_to(given.probability(), expected), "{given:?}");
    let response: ModelInferResponse = given.message();
    assert_eq!(response.model_name, "fraud");
    assert_eq!(
        (response.model_version, response.id),
        ("3".into(), "r-7".into())
    );
    assert_eq!(
        (
            response.outputs[0].datatype.as_str(),
            &response.outputs[0].shape[..]
        ),
        ("FP32", &[1][..])
    );
    assert_eq!(given.headers["served-model-name"], "champion");

    let (table, row) = stack.row();
    assert_eq!(table.to_string(), "main.default.fraud");
    assert_eq!(
        (row.status_code, row.entity_version.unwrap().get()),
        (200, 3)
    );
    assert_eq!(
        given.headers["x-request-id"],
        row.request_id.to_string().as_str()
    );
    assert_eq!(row.client_request_id.as_deref(), Some("r-7"));
    assert_eq!(row.requester.as_ref().unwrap().as_str(), "alice");
    let (request, answer) = texts(&row);
    assert_eq!(request["header"]["model_name"], "fraud");
    assert_eq!(
        request["header"]["inputs"][1],
        json!({"name": "merchant_category", "datatype": "BYTES", "shape": [1, 1],
               "parameters": {"binary_data_size": 10}})
    );
    let all = STANDARD
        .decode(request["binary_data"].as_str().unwrap())
        .unwrap();
    assert_eq!(all, raw().raw_input_contents.concat());
    assert_eq!(
        answer["header"]["outputs"][0]["parameters"]["binary_data_size"],
        4
    );
    let all = STANDARD
        .decode(answer["binary_data"].as_str().unwrap())
        .unwrap();
    assert_eq!(all, response.raw_output_contents.concat());
    stack.stop().await;
}

#[tokio::test]
async fn typed_contents_a_version_and_outputs_are_taken_too() {
    let stack = Stack::two_versions().await;
    let expected = expected(&stack).await;
    let given = call(&stack, "ModelInfer", &typed()).await;
    assert!(close_to(given.probability(), expected), "{given:?}");
    let (request, _) = texts(&stack.row().1);
    assert_eq!(
        request["inputs"][1],
        json!({"name": "merchant_category", "datatype": "BYTES", "shape": [1, 1], "data": ["online"]})
    );

    let fourth = ModelInferRequest {
        model_version: "4".to_owned(),
        outputs: vec![output("fraud_probability", &[])],
        ..typed()
    };
    let given = call(&stack, "ModelInfer", &fourth).await;
    assert!(!close_to(given.probability(), expected), "{given:?}");
    let (_, row) = stack.row();
    assert_eq!(row.entity_version.unwrap().get(), 4);

    let classes = [("classification", ParameterChoice::Int64Param(1))];
    let classes = ModelInferRequest {
        outputs: vec![output("fraud_probability", &classes)],
        ..typed()
    };
    let response: ModelInferResponse = call(&stack, "ModelInfer", &classes).await.message();
    assert_eq!(response.outputs[0].datatype, "BYTES");
    let text = String::from_utf8(response.raw_output_contents[0][4..].to_vec()).unwrap();
    assert!(text.ends_with(":0"), "{text}");
    stack.stop().await;
}

#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let stack = Stack::two_versions().await;
    let many = |column: &[u8]| Bytes::from(column.repeat(300));
    let mut request = raw();
    for input in &mut request.inputs {
        input.shape = vec![300, 1];
    }
    for raw in &mut request.raw_input_contents {
        *raw = many(raw);
    }
    let message = request.encode_to_vec();
    let plain = call(&stack, "ModelInfer", &request).await;
    let plain: ModelInferResponse = plain.message();
    let plain_row = texts(&stack.row().1);
    for (name, encoding) in [("gzip", Encoding::Gzip), ("deflate", Encoding::Deflate)] {
        let compressed = encoding.compress(&message).unwrap();
        let headers = [("grpc-encoding", name)];
        let given = send(&stack, "ModelInfer", &headers, framed(&compressed, true)).await;
        assert_eq!(given.status.code(), Code::Ok, "{given:?}");
        assert_eq!(given.headers["grpc-encoding"], name);
        assert_eq!(given.body[0], 1);
        let mut decoder = Decoder::new(encoding);
        let mut expanded = decoder.step(&given.body[5..]).unwrap();
        expanded.extend(decoder.finish().unwrap());
        assert_eq!(ModelInferResponse::decode(&expanded[..]).unwrap(), plain);
        assert_eq!(texts(&stack.row().1), plain_row);
    }
    assert_eq!(stack.services.serving.admission().bytes().0, 0);
    stack.stop().await;
}
