//! Predictions, and the row that each of them leaves.

use edgeward_base::names::TableName;
use hyper::Method;
use serde_json::{Value, json};

use super::stack::{Answer, ENDPOINTS, Stack, fraud, transaction};
use crate::model::samples::samples;

const INVOCATIONS: &str = "/serving-endpoints/fraud/invocations";

/// The golden inputs and outputs of fraud version 3.
fn golden() -> Value {
    let sample = samples()
        .iter()
        .find(|sample| sample.reference == "main.default.fraud/3")
        .unwrap();
    let (_, bytes) = sample
        .files
        .iter()
        .find(|(name, _)| *name == "golden.json")
        .unwrap();
    serde_json::from_slice(bytes).unwrap()
}

fn predictions(answer: &Answer) -> Vec<f64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let list = body["predictions"].as_array().unwrap();
    list.iter().map(|value| value.as_f64().unwrap()).collect()
}

#[tokio::test]
async fn the_four_forms_and_a_table_as_text_give_the_golden_outputs() {
    let stack = Stack::serving_fraud().await;
    let golden = golden();
    let split = &golden["inputs"];
    let columns: Vec<&str> = split["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let rows = split["data"].as_array().unwrap();
    let records: Vec<Value> = rows
        .iter()
        .map(|row| {
            let cells = row.as_array().unwrap().iter().cloned();
            let fields = columns.iter().map(|name| (*name).to_owned()).zip(cells);
            Value::Object(fields.collect())
        })
        .collect();
    let by_column: serde_json::Map<String, Value> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let cells = rows.iter().map(|row| row[index].clone()).collect();
            ((*name).to_owned(), Value::Array(cells))
        })
        .collect();
    let expected: Vec<f64> = flat(&golden["outputs"]);
    assert_eq!(expected.len(), rows.len());
    let headers = [
        ("authorization", format!("Bearer {}", stack.token)),
        ("content-type", "text/csv; charset=utf-8".to_owned()),
    ];
    let text = comma_separated(&columns, rows);
    let mut answers = vec![stack.raw(Method::POST, INVOCATIONS, &headers, text).await];
    for body in [
        json!({"dataframe_split": split}),
        json!({"dataframe_records": records}),
        json!({"inputs": by_column}),
        json!({"instances": records}),
    ] {
        answers.push(stack.send(Method::POST, INVOCATIONS, &body).await);
    }
    for answer in answers {
        let given = predictions(&answer);
        assert_eq!(given.len(), expected.len());
        for (given, expected) in given.iter().zip(&expected) {
            assert!((given - expected).abs() < 1e-5, "{given} {expected}");
        }
    }
    stack.stop().await;
}

/// A table as text; null is an empty field.
fn comma_separated(columns: &[&str], rows: &[Value]) -> String {
    let mut lines = vec![columns.join(",")];
    for row in rows {
        let fields = row.as_array().unwrap().iter().map(|cell| match cell {
            Value::Null => String::new(),
            Value::String(text) => format!("\"{text}\""),
            other => other.to_string(),
        });
        lines.push(fields.collect::<Vec<_>>().join(","));
    }
    lines.join("\n")
}

/// All numbers of a value, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !["shape", "dtype"].contains(&key.as_str()))
            .flat_map(|(_, value)| flat(value))
            .collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_prediction_leaves_one_whole_row() {
    let stack = Stack::serving_fraud().await;
    let mut body = transaction();
    body["client_request_id"] = json!("mine-1");
    body["usage_context"] = json!({"team": "risk"});
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = [
        ("authorization", format!("Bearer {}", stack.token)),
        ("content-type", "application/json".to_owned()),
        ("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")),
    ];
    let answer = stack
        .raw(Method::POST, INVOCATIONS, &headers, body.to_string())
        .await;
    assert_eq!(predictions(&answer).len(), 1);
    assert_eq!(answer.header("served-model-name"), Some("champion"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let shown = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    let (table, row) = stack.row();
    assert_eq!(table, TableName::new("main", "default", "fraud").unwrap());
    let id = row.request_id.to_string();
    assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
    assert_eq!(row.request_id.get_version_num(), 7);
    assert_eq!(row.client_request_id.as_deref(), Some("mine-1"));
    assert_eq!(row.trace_id.as_deref(), Some(trace));
    assert_eq!(row.usage_context, [("team".to_owned(), "risk".to_owned())]);
    assert_eq!(row.status_code, 200);
    assert!((row.sampling_fraction - 1.0).abs() < f64::EPSILON);
    assert_eq!(row.request.unwrap(), body.to_string());
    assert_eq!(row.response.unwrap(), answer.body);
    assert_eq!(row.requester.unwrap().as_str(), "alice");
    assert_eq!(row.endpoint_name.unwrap().as_str(), "fraud");
    let entity = &shown["config"]["served_entities"][0];
    assert_eq!(row.served_entity_id.as_deref(), entity["id"].as_str());
    assert_eq!(row.served_entity_name.unwrap().as_str(), "champion");
    assert_eq!(row.entity_name.unwrap().as_str(), "main.default.fraud");
    assert_eq!(row.entity_version.unwrap().get(), 3);
    assert_eq!(row.config_version, Some(1));
    let hash = shown["edgeward"]["effective_hash"].as_str();
    assert_eq!(row.effective_hash.as_deref(), hash);
    assert_eq!(row.engine, Some("tract"));
    assert!(!row.streaming);
    assert!(row.execution_duration_us > 0);
    assert!(row.monotonic_us > 0 && row.request_time_us > 1_577_836_800_000_000);
    stack.stop().await;
}

#[tokio::test]
async fn one_served_entity_can_be_asked_whatever_its_share() {
    let stack = Stack::start().await;
    let mut body = fraud();
    body["config"]["served_entities"] = json!([
        {"name": "a", "entity_name": "main.default.fraud", "entity_version": "3"},
        {"name": "b", "entity_name": "main.default.fraud", "entity_version": "4"},
    ]);
    body["config"]["traffic_config"] = json!({"routes": [
        {"served_entity_name": "a", "traffic_percentage": 100},
        {"served_entity_name": "b", "traffic_percentage": 0},
    ]});
    let created = stack.send(Method::POST, ENDPOINTS, &body).await;
    assert_eq!(created.status, 200, "{created:?}");
    for (path, name, version) in [
        (INVOCATIONS, "a", 3),
        (
            "/serving-endpoints/fraud/served-models/b/invocations",
            "b",
            4,
        ),
    ] {
        let answer = stack.send(Method::POST, path, &transaction()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("served-model-name"), Some(name));
        assert_eq!(stack.row().1.entity_version.unwrap().get(), version);
    }
    let absent = "/serving-endpoints/fraud/served-models/c/invocations";
    let answer = stack.send(Method::POST, absent, &transaction()).await;
    answer.error(404, "RESOURCE_DOES_NOT_EXIST");
    let (table, row) = stack.row();
    assert_eq!(table.as_str(), "main.default.fraud");
    assert_eq!((row.status_code, row.served_entity_name), (404, None));
    stack.stop().await;
}

#[tokio::test]
async fn a_fast_model_answers_the_same_on_the_requests_thread_as_on_the_pool() {
    let stack = Stack::serving_fraud().await;
    let mut first = None;
    // Enough to move in line where this machine is fast enough, and to go on there.
    for _ in 0..40 {
        let answer = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
        let given = predictions(&answer);
        assert_eq!(*first.get_or_insert_with(|| given.clone()), given);
    }
    let mut ids: Vec<_> = stack.rows().iter().map(|(_, row)| row.request_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 40, "one row each");
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_without_capture_leaves_no_row_and_an_unknown_one_goes_to_unmatched() {
    let stack = Stack::start().await;
    let mut body = fraud();
    body["config"]["auto_capture_config"] = json!(null);
    let created = stack.send(Method::POST, ENDPOINTS, &body).await;
    assert_eq!(created.status, 200, "{created:?}");
    let answer = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(stack.rows().len(), 0);
    for (path, name) in [
        ("/serving-endpoints/absent/invocations", Some("absent")),
        ("/serving-endpoints/not%20a%20name/invocations", None),
    ] {
        let answer = stack.send(Method::POST, path, &transaction()).await;
        let message = answer.error(404, "RESOURCE_DOES_NOT_EXIST");
        assert!(message.contains("does not exist"), "{message}");
        let (table, row) = stack.row();
        assert_eq!(table, TableName::unmatched());
        assert_eq!(row.endpoint_name.as_ref().map(|n| n.as_str()), name);
        assert_eq!(row.status_code, 404);
        assert_eq!(row.requester.unwrap().as_str(), "alice");
    }
    stack.stop().await;
}
