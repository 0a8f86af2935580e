//! Every bad input of the contract's section 4: the stated status and body, one row, nothing else.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use hyper::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stack::{ENDPOINTS, Stack, Wanted, answer, fraud, transaction};

const INVOCATIONS: &str = "/serving-endpoints/fraud/invocations";

/// Bodies that no fraud model takes.
fn unreadable_bodies() -> Vec<String> {
    let good = json!({"amount": 1.0, "merchant_category": "fuel", "hour": 3, "is_foreign": true});
    let with = |field: &str, value: serde_json::Value| {
        let mut row = good.clone();
        row[field] = value;
        json!({"dataframe_records": [row]}).to_string()
    };
    let nested = format!("{{\"inputs\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    vec![
        String::new(),
        " \n".to_owned(),
        "{".to_owned(),
        "{\"dataframe_records\": [".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "{\"dataframe_records\": []} x".to_owned(),
        "{\"dataframe_records\": [\"\u{fffd}\"]}".to_owned(),
        json!({"unknown": [[1]]}).to_string(),
        json!({"dataframe_records": [good], "instances": [good]}).to_string(),
        json!({"dataframe_records": []}).to_string(),
        json!({"dataframe_records": [7]}).to_string(),
        json!({"dataframe_records": "x"}).to_string(),
        json!({"dataframe_split": {"columns": ["amount"]}}).to_string(),
        json!({"dataframe_split": {"columns": ["amount"], "data": [[1], [1, 2]]}}).to_string(),
        json!({"dataframe_records": [{"amount": 1.0}]}).to_string(),
        with("amount", json!("a")),
        with("amount", json!([1])),
        with("hour", json!(1.5)),
        with("hour", json!(1e300)),
        with("is_foreign", json!("yes")),
        json!({"client_request_id": 7, "dataframe_records": [good]}).to_string(),
        json!({"usage_context": {"a": 1}, "dataframe_records": [good]}).to_string(),
        nested,
    ]
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_the_clients_mistake() {
    let stack = Stack::serving_fraud().await;
    let before = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    let headers = [("authorization", format!("Bearer {}", stack.token))];
    for body in unreadable_bodies() {
        let answer = stack
            .raw(Method::POST, INVOCATIONS, &headers, body.clone())
            .await;
        assert_eq!(answer.status, 400, "{body} {answer:?}");
        let code = answer.json()["error_code"].as_str().unwrap().to_owned();
        assert!(
            ["BAD_REQUEST", "INVALID_PARAMETER_VALUE"].contains(&code.as_str()),
            "{body} {answer:?}"
        );
        answer.error(400, &code);
        let (table, row) = stack.row();
        assert_eq!(table.as_str(), "main.default.fraud");
        assert_eq!(row.status_code, 400);
        assert_eq!(row.request.unwrap(), body);
        assert_eq!(row.response.unwrap(), answer.body);
        assert_eq!(
            row.execution_duration_us, 0,
            "the model did not run: {body}"
        );
    }
    // Named columns cannot be read from a bare matrix.
    let matrix = json!({"inputs": [[1.0, 2.0, 3.0, 4.0]]});
    let refused = stack.send(Method::POST, INVOCATIONS, &matrix).await;
    refused.error(400, "INVALID_PARAMETER_VALUE");
    let missing = json!({"dataframe_records": [{"amount": 1.0}]});
    let refused = stack.send(Method::POST, INVOCATIONS, &missing).await;
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("merchant_category") && message.contains("hour"),
        "{message}"
    );
    assert_eq!(stack.rows().len(), 2);
    let after = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    assert_eq!(before, after);
    let good = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    assert_eq!(good.status, 200, "the endpoint serves on");
    stack.stop().await;
}

#[tokio::test]
async fn a_null_number_is_nan_for_the_model_and_nan_in_an_answer_is_null() {
    let stack = Stack::serving_fraud().await;
    let mut body = transaction();
    body["dataframe_records"][0]["amount"] = json!(null);
    let answer = stack.send(Method::POST, INVOCATIONS, &body).await;
    let null = json!({"predictions": [null]});
    assert_eq!((answer.status, answer.json()), (200, null));
    stack.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_refused() {
    let stack = Stack::serving_fraud().await;
    let headers = [("authorization", format!("Bearer {}", stack.token))];
    let body = Bytes::from_static(b"{\"inputs\": [\"\xff\xfe\"]}");
    let refused = stack.raw(Method::POST, INVOCATIONS, &headers, body).await;
    refused.error(400, "BAD_REQUEST");
    assert_eq!(stack.row().1.status_code, 400);
    stack.stop().await;
}

#[tokio::test]
async fn content_types_other_than_json_are_refused_with_what_is_read() {
    let stack = Stack::serving_fraud().await;
    for (content_type, status) in [
        (None, 200),
        (Some("application/json"), 200),
        (Some("application/json; charset=utf-8"), 200),
        (Some("text/csv; charset=latin-1"), 415),
        (Some("application/vnd.apache.parquet"), 415),
        (Some("application/json; format=pandas-split"), 415),
        (Some("text/plain"), 415),
    ] {
        let mut headers = vec![("authorization", format!("Bearer {}", stack.token))];
        headers.extend(content_type.map(|value| ("content-type", value.to_owned())));
        let body = transaction().to_string();
        let answer = stack.raw(Method::POST, INVOCATIONS, &headers, body).await;
        if status == 415 {
            let message = answer.error(415, "BAD_REQUEST");
            assert!(message.contains("application/json"), "{message}");
        }
        assert_eq!(answer.status, status, "{content_type:?} {answer:?}");
        assert_eq!(stack.row().1.status_code, status);
    }
    stack.stop().await;
}

#[tokio::test]
async fn callers_without_a_good_token_leave_a_row_and_no_body_is_read() {
    let stack = Stack::serving_fraud().await;
    let wrong = [("authorization", "Bearer edgeward_wrong".to_owned())];
    for (headers, status, code) in [
        (&[][..], 401, "UNAUTHENTICATED"),
        (&wrong[..], 403, "PERMISSION_DENIED"),
    ] {
        let body = transaction().to_string();
        let answer = stack.raw(Method::POST, INVOCATIONS, headers, body).await;
        answer.error(status, code);
        let (table, row) = stack.row();
        assert_eq!(table.as_str(), "main.default.fraud");
        assert_eq!(row.status_code, status);
        assert_eq!((row.requester, row.request), (None, None));
        assert_eq!(row.response.unwrap(), answer.body);
    }
    let other = stack.get(INVOCATIONS).await;
    other.error(405, "BAD_REQUEST");
    assert_eq!(stack.row().1.status_code, 405);
    stack.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_or_not() {
    let mut wanted = Wanted::default();
    wanted.limits.body = edgeward_base::units::ByteCount(100_000);
    let stack = Stack::with(wanted).await;
    let created = stack.send(Method::POST, ENDPOINTS, &fraud()).await;
    assert_eq!(created.status, 200);
    let headers = [("authorization", format!("Bearer {}", stack.token))];
    // Larger than any socket buffer: the answer must reach a client that is still sending.
    let long = Bytes::from(vec![b' '; 20_000_000]);
    let refused = stack
        .raw(Method::POST, INVOCATIONS, &headers, long.clone())
        .await;
    let message = refused.error(413, "BAD_REQUEST");
    assert!(message.contains("100000"), "{message}");
    let (_, row) = stack.row();
    assert_eq!((row.status_code, row.request), (413, None));

    let pieces = (0..20).map(move |index| {
        let start = index * 1_000_000;
        Ok::<_, Infallible>(long.slice(start..start + 1_000_000))
    });
    let request = Request::post(INVOCATIONS)
        .header("host", "test")
        .header("authorization", format!("Bearer {}", stack.token))
        .body(Body::from_stream(stream::iter(pieces)))
        .unwrap();
    let mut connection = stack.connect().await;
    let refused = answer(&mut connection, request).await;
    refused.error(413, "BAD_REQUEST");
    assert_eq!(stack.row().1.status_code, 413);

    let exact = [b' '; 100_000];
    let read = stack
        .raw(Method::POST, INVOCATIONS, &headers, exact.to_vec())
        .await;
    read.error(400, "BAD_REQUEST");
    let management = stack
        .raw(Method::POST, ENDPOINTS, &headers, vec![b' '; 2 << 20])
        .await;
    management.error(413, "BAD_REQUEST");
    assert_eq!(stack.services.serving.admission().bytes().0, 0);
    stack.stop().await;
}

#[tokio::test]
async fn broken_http_breaks_nothing() {
    let stack = Stack::serving_fraud().await;
    for request in [
        "\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "POST / HTTP/9.9\r\n\r\n",
        "POST /serving-endpoints/fraud/invocations HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /serving-endpoints/fraud/invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\
         content-length: 2\r\n\r\nab",
    ] {
        let mut stream = stack.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The server may cut the connection instead of answering.
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{request:?} {answer}"
        );
    }
    assert_eq!(stack.rows().len(), 0, "no request was read");
    let good = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    assert_eq!(good.status, 200);
    stack.stop().await;
}
