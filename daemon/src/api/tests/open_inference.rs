//! The Open Inference Protocol over HTTP, and the rows that it leaves.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::stack::{Answer, Stack, transaction};
use crate::api::encoding::{Decoder, Encoding};

const INFER: &str = "/v2/models/fraud/infer";

fn inputs() -> Value {
    json!([
        {"name": "amount", "shape": [1, 1], "datatype": "FP32", "data": [1250.0]},
        {"name": "merchant_category", "shape": [1, 1], "datatype": "BYTES", "data": [["online"]]},
        {"name": "hour", "shape": [1, 1], "datatype": "INT64", "data": [3]},
        {"name": "is_foreign", "shape": [1, 1], "datatype": "FP32", "data": [1]},
    ])
}

/// The same with raw tensors, and the length of its JSON.
fn binary(outputs: &Value) -> (usize, Vec<u8>) {
    let announce = |name: &str, datatype: &str, size: usize| {
        json!({"name": name, "shape": [1, 1], "datatype": datatype,
               "parameters": {"binary_data_size": size}})
    };
    let header = json!({
        "id": "r-7",
        "inputs": [
            announce("amount", "FP16", 2),
            announce("merchant_category", "BYTES", 10),
            announce("hour", "INT64", 8),
            announce("is_foreign", "BF16", 2),
        ],
        "outputs": outputs,
    });
    let mut body = header.to_string().into_bytes();
    let length = body.len();
    // 1250 in 16 bits, a text of 6 bytes, 3, and 1 in the upper half of 32 bits.
    body.extend_from_slice(&half::f16::from_f32(1250.0).to_le_bytes());
    body.extend_from_slice(b"\x06\0\0\0online");
    body.extend_from_slice(&3_i64.to_le_bytes());
    body.extend_from_slice(&half::bf16::from_f32(1.0).to_le_bytes());
    (length, body)
}

async fn send(stack: &Stack, headers: &[(&str, String)], body: impl Into<Bytes>) -> Answer {
    let token = ("authorization", format!("Bearer {}", stack.token));
    let headers: Vec<_> = headers.iter().cloned().chain([token]).collect();
    stack.raw(Method::POST, INFER, &headers, body).await
}

/// What version 3 says of the transaction, by way of MLflow's protocol.
async fn expected(stack: &Stack) -> f64 {
    let path = "/serving-endpoints/fraud/served-models/champion/invocations";
    let answer = stack.send(Method::POST, path, &transaction()).await;
    stack.row();
    answer.json()["predictions"][0].as_f64().unwrap()
}

#[track_caller]
fn error(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let text = body["error"].as_str().unwrap();
    assert!(text.contains(message), "{text}");
}

#[tokio::test]
async fn an_inference_in_json_is_answered_and_leaves_a_row() {
    let stack = Stack::two_versions().await;
    let expected = expected(&stack).await;
    let body = json!({"id": "r-1", "inputs": inputs()});
    let answer = stack.send(Method::POST, INFER, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("inference-header-content-length"), None);
    let json = answer.json();
    assert_eq!(
        json,
        json!({"model_name": "fraud", "model_version": "3", "id": "r-1", "outputs": [{
            "name": "fraud_probability", "datatype": "FP32", "shape": [1],
            "data": json["outputs"][0]["data"],
        }]})
    );
    let data = json["outputs"][0]["data"].as_array().unwrap();
    assert_eq!((data.len(), data[0].as_f64()), (1, Some(expected)));
    let (table, row) = stack.row();
    assert_eq!(table.to_string(), "main.default.fraud");
    assert_eq!(row.client_request_id.as_deref(), Some("r-1"));
    assert_eq!(row.request.unwrap(), body.to_string());
    assert_eq!(row.response.unwrap(), answer.body);

    let path = "/v2/models/fraud/versions/4/infer";
    let other = stack.send(Method::POST, path, &body).await.json();
    assert_eq!(other["model_version"], "4");
    assert_ne!(other["outputs"][0]["data"][0].as_f64(), Some(expected));
    assert_eq!(stack.row().1.entity_version.unwrap().get(), 4);
    stack.stop().await;
}

#[tokio::test]
async fn raw_tensors_travel_both_ways() {
    let stack = Stack::two_versions().await;
    let expected = expected(&stack).await;
    let (length, body) =
        binary(&json!([{"name": "fraud_probability", "parameters": {"binary_data": true}}]));
    let header = [("inference-header-content-length", length.to_string())];
    let answer = send(&stack, &header, body.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    let length: usize = answer
        .header("inference-header-content-length")
        .unwrap()
        .parse()
        .unwrap();
    let (json, raw) = answer.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(
        json["outputs"][0]["parameters"],
        json!({"binary_data_size": 4})
    );
    let value = f32::from_le_bytes(raw.try_into().unwrap());
    assert!(
        (f64::from(value) - expected).abs() < 1e-6,
        "{value} {expected}"
    );
    let (_, row) = stack.row();
    let shown: Value = serde_json::from_slice(&row.request.unwrap()).unwrap();
    assert_eq!(shown["header"]["id"], "r-7");
    assert!(shown["binary_data"].as_str().unwrap().len() > 20);
    let shown: Value = serde_json::from_slice(&row.response.unwrap()).unwrap();
    assert_eq!(shown["header"], json);

    // A client that names no outputs asks for all of them raw.
    let all = json!({"inputs": inputs(), "parameters": {"binary_data_output": true}});
    let answer = stack.send(Method::POST, INFER, &all).await;
    assert_eq!(answer.body[answer.body.len() - 4..], *raw);
    stack.stop().await;
}

#[tokio::test]
async fn bodies_may_be_compressed_both_ways() {
    let stack = Stack::two_versions().await;
    let rows = 300;
    let column = |name: &str, datatype: &str, value: Value| json!({"name": name, "shape": [rows, 1], "datatype": datatype, "data": vec![value; rows]});
    let body = json!({"inputs": [
        column("amount", "FP32", json!(1250.0)),
        column("merchant_category", "BYTES", json!("online")),
        column("hour", "INT64", json!(3)),
        column("is_foreign", "FP32", json!(1.0)),
    ]});
    let body = Bytes::from(body.to_string());
    let plain = send(&stack, &[], body.clone()).await;
    let plain_row = stack.row().1;
    for (name, encoding) in [("gzip", Encoding::Gzip), ("deflate", Encoding::Deflate)] {
        let headers = [
            ("content-encoding", name.to_owned()),
            ("accept-encoding", name.to_owned()),
        ];
        let answer = send(&stack, &headers, encoding.compress(&body).unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-encoding"), Some(name));
        assert!(answer.body.len() < plain.body.len() / 2);
        let mut decoder = Decoder::new(encoding);
        let mut expanded = decoder.step(&answer.body).unwrap();
        expanded.extend(decoder.finish().unwrap());
        assert_eq!(expanded, plain.body);
        let (_, row) = stack.row();
        assert_eq!(row.request, plain_row.request);
        assert_eq!(row.response, plain_row.response);
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_body_that_expands_beyond_the_limit_is_refused() {
    let stack = Stack::two_versions().await;
    let limit = usize::try_from(stack.services.serving.limits().body.0).unwrap();
    let bomb = Encoding::Gzip.compress(&vec![b' '; 2 * limit]).unwrap();
    assert!(bomb.len() < limit / 100);
    let headers = [("content-encoding", "gzip".to_owned())];
    let answer = send(&stack, &headers, bomb.clone()).await;
    error(&answer, 413, "over the limit");
    let answer = send(&stack, &headers, bomb.slice(..100)).await;
    error(&answer, 400, "cannot be expanded");
    let answer = send(&stack, &[("content-encoding", "br".to_owned())], bomb).await;
    error(&answer, 415, "gzip, deflate");
    assert_eq!(stack.services.serving.admission().bytes().0, 0);
    stack.stop().await;
}

#[tokio::test]
async fn hostile_framing_is_refused_by_name() {
    let stack = Stack::two_versions().await;
    let (length, body) = binary(&json!([]));
    let with = |from: &str, to: &str| {
        let json = std::str::from_utf8(&body[..length]).unwrap();
        assert!(json.contains(from), "{json}");
        let json = json.replacen(from, to, 1);
        (json.len(), [json.as_bytes(), &body[length..]].concat())
    };
    for ((length, body), message) in [
        ((length + 4096, body.clone()), "the body has"),
        ((usize::MAX, body.clone()), "the body has"),
        ((0, body.clone()), "must be a JSON object"),
        ((length - 1, body.clone()), "must be a JSON object"),
        ((length, body[..body.len() - 1].to_vec()), "bytes are left"),
        (
            (length, [&body[..], b"x"].concat()),
            "follow the last tensor",
        ),
        (with("[1,1]", "[1,1000000000]"), "the model takes [-1, 1]"),
        (with("[1,1]", "[1000000000,1]"), "takes 2000000000"),
        (
            with("[1,1]", "[18446744073709551615,1]"),
            "more than any memory",
        ),
        (with("[1,1]", "[0,1]"), "at least one row"),
        (with("[1,1]", "[-1,1]"), "must be a JSON object"),
        (with(":2}", ":3}"), "binary_data_size 3"),
        (with(":10}", ":9}"), "claims 6 bytes and 5 are left"),
        (with(":10}", ":18446744073709551615}"), "bytes are left"),
        (with(":10}", ":1.5}"), "whole number"),
        (with("\"FP16\"", "\"FP99\""), "use one of BOOL"),
        (with("\"FP16\"", "\"INT16\""), "the model takes FP32"),
        (with("\"amount\"", "\"stranger\""), "the model has no input"),
        (
            with("\"hour\"", "\"amount\""),
            "INT64, the model takes FP32",
        ),
        (
            with("\"outputs\":[]", "\"outputs\":[{\"name\":\"z\"}]"),
            "no output \"z\"",
        ),
        (with("\"id\":", "\"priority\":"), "unknown field `priority`"),
        (
            with("\"binary_data_size\":10", "\"shared_memory_region\":\"x\""),
            "is not supported here",
        ),
    ] {
        let header = [("inference-header-content-length", length.to_string())];
        error(&send(&stack, &header, body).await, 400, message);
    }
    stack.stop().await;
}

#[tokio::test]
async fn each_input_is_wanted_once() {
    let stack = Stack::two_versions().await;
    let twice = json!({"inputs": [inputs()[0], inputs()[0]]});
    error(
        &stack.send(Method::POST, INFER, &twice).await,
        400,
        "given twice",
    );
    let three = json!({"inputs": [inputs()[0], inputs()[1], inputs()[2]]});
    error(
        &stack.send(Method::POST, INFER, &three).await,
        400,
        "[\"is_foreign\"] are missing",
    );
    let output = json!({"name": "fraud_probability"});
    let twice = json!({"inputs": inputs(), "outputs": [output, output]});
    error(
        &stack.send(Method::POST, INFER, &twice).await,
        400,
        "named twice",
    );
    let header = [("inference-header-content-length", "two".to_owned())];
    error(
        &send(&stack, &header, "{}").await,
        400,
        "must be a whole number",
    );
    stack.stop().await;
}

#[tokio::test]
async fn models_say_what_they_are_and_how_they_do() {
    let stack = Stack::two_versions().await;
    for _ in 0..3 {
        let body = json!({"inputs": inputs()});
        assert_eq!(stack.send(Method::POST, INFER, &body).await.status, 200);
    }
    let wrong = stack
        .send(Method::POST, INFER, &json!({"inputs": []}))
        .await;
    assert_eq!(wrong.status, 400);

    let metadata = stack.get("/v2/models/fraud").await.json();
    assert_eq!(metadata["versions"], json!(["3", "4"]));
    assert_eq!(
        metadata["inputs"][1],
        json!({"name": "merchant_category", "datatype": "BYTES", "shape": [-1, 1]})
    );
    let one = stack.get("/v2/models/fraud/versions/4").await.json();
    assert_eq!(one["versions"], json!(["4"]));
    let config = stack.get("/v2/models/fraud/config").await.json();
    assert_eq!(
        config["input"][1],
        json!({"name": "merchant_category", "data_type": "TYPE_STRING", "dims": [-1, 1]})
    );
    let statistics = stack.get("/v2/models/fraud/versions/3/stats").await.json();
    let statistics = &statistics["model_stats"][0];
    assert_eq!(statistics["inference_count"], 3);
    assert_eq!(statistics["inference_stats"]["success"]["count"], 3);
    assert_eq!(statistics["inference_stats"]["fail"]["count"], 1);
    assert!(statistics["inference_stats"]["compute_infer"]["ns"].as_u64() > Some(0));
    let all = stack.get("/v2/models/stats").await.json();
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 2);

    stack.stop().await;
}

#[tokio::test]
async fn the_repository_says_what_is_served_and_changes_nothing() {
    let stack = Stack::two_versions().await;
    let index = stack
        .send(Method::POST, "/v2/repository/index", &json!({}))
        .await;
    assert_eq!(
        index.json()[1],
        json!({"name": "fraud", "version": "4", "state": "READY", "reason": ""})
    );
    let load = "/v2/repository/models/fraud/load";
    assert_eq!(stack.send(Method::POST, load, &json!({})).await.status, 200);
    let configured = json!({"parameters": {"config": "{}"}});
    error(
        &stack.send(Method::POST, load, &configured).await,
        400,
        "import a model version",
    );

    for (path, message) in [
        ("/v2/models/stranger", "\"stranger\" does not exist"),
        ("/v2/models/fraud/versions/9", "serves no version \"9\""),
        (
            "/v2/models/fraud/versions/x/ready",
            "serves no version \"x\"",
        ),
        ("/v2/stranger", "no API is served"),
    ] {
        error(&stack.get(path).await, 404, message);
    }
    for path in [
        "/v2",
        "/v2/models/fraud/ready",
        "/v2/models/fraud/versions/3/ready",
    ] {
        assert_eq!(stack.get(path).await.status, 200, "{path}");
        let answer = stack.raw(Method::GET, path, &[], "").await;
        error(&answer, 401, "send a token");
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(
            stack.raw(Method::GET, path, &[], "").await.status,
            200,
            "{path}"
        );
    }
    stack.stop().await;
}

#[tokio::test]
async fn unloading_gives_memory_back_and_loading_brings_the_models_back() {
    let stack = Stack::two_versions().await;
    let load = "/v2/repository/models/fraud/load";
    let unload = "/v2/repository/models/fraud/unload";
    let at_zero = || {
        let snapshot = stack.services.endpoints.snapshot();
        let entities = snapshot.endpoint("fraud").unwrap().entities();
        entities
            .iter()
            .filter(|entity| entity.scorer.is_at_zero())
            .count()
    };
    let asked = json!({"parameters": {"unload_dependents": false}});
    assert_eq!(
        (
            stack.send(Method::POST, unload, &asked).await.status,
            at_zero()
        ),
        (200, 2)
    );
    assert_eq!(
        (
            stack.send(Method::POST, load, &json!({})).await.status,
            at_zero()
        ),
        (200, 0)
    );
    for wrong in [
        json!({"parameters": {"force": true}}),
        json!({"parameters": {"unload_dependents": 1}}),
    ] {
        error(
            &stack.send(Method::POST, unload, &wrong).await,
            400,
            "true or false",
        );
    }
    assert_eq!(at_zero(), 0);
    stack.stop().await;
}
