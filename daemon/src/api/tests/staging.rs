//! What clients see while models load, and when they do not.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::stack::{ENDPOINTS, Stack, Wanted, fraud, transaction};

const INVOCATIONS: &str = "/serving-endpoints/fraud/invocations";

/// A configuration that serves a version of the model whose loads wait for leave.
fn slow(version: &str) -> Value {
    json!({"served_entities": [
        {"name": "slow", "entity_name": "main.default.slow", "entity_version": version},
    ]})
}

/// Polls as the waiter of databricks-sdk does, until the update is over.
async fn settled(stack: &Stack) -> Value {
    loop {
        let shown = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
        if shown["state"]["config_update"] != "IN_PROGRESS" {
            return shown;
        }
    }
}

#[tokio::test]
async fn a_new_endpoint_is_in_progress_until_its_model_serves() {
    let wanted = Wanted {
        answer_within: Duration::from_millis(1),
        ..Wanted::default()
    };
    let loads = Arc::clone(&wanted.slow);
    let stack = Stack::with(wanted).await;
    let mut body = fraud();
    let capture = body["config"]["auto_capture_config"].clone();
    body["config"] = slow("1");
    body["config"]["auto_capture_config"] = capture;
    let created = stack.send(Method::POST, ENDPOINTS, &body).await;
    assert_eq!(created.status, 200, "{created:?}");
    let created = created.json();
    assert_eq!(
        created["state"],
        json!({"ready": "NOT_READY", "config_update": "IN_PROGRESS"})
    );
    let pending = &created["pending_config"];
    assert_eq!(pending["served_entities"][0]["name"], "slow");
    assert!(pending["start_time"].as_i64().unwrap() > 1_577_836_800_000);
    let refused = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    refused.error(503, "TEMPORARILY_UNAVAILABLE");
    let (table, row) = stack.row();
    assert_eq!(table.as_str(), "main.default.fraud");
    assert_eq!(row.status_code, 503);
    let config = format!("{ENDPOINTS}/fraud/config");
    let conflict = stack.send(Method::PUT, &config, &slow("1")).await;
    conflict.error(409, "RESOURCE_CONFLICT");
    assert_eq!(conflict.header("x-should-retry"), Some("false"));
    loads.let_go();
    let shown = settled(&stack).await;
    assert_eq!(
        shown["state"],
        json!({"ready": "READY", "config_update": "NOT_UPDATING"})
    );
    assert_eq!(shown.get("pending_config"), None);
    let answer = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    assert_eq!(answer.status, 200);
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_whose_model_fails_says_why_and_is_no_case_for_a_retry() {
    let wanted = Wanted::default();
    let loads = Arc::clone(&wanted.slow);
    let stack = Stack::with(wanted).await;
    loads.let_go();
    let body = json!({"name": "fraud", "config": slow("2")});
    let created = stack.send(Method::POST, ENDPOINTS, &body).await.json();
    assert_eq!(
        created["state"],
        json!({"ready": "NOT_READY", "config_update": "UPDATE_FAILED"})
    );
    let entity = &created["config"]["served_entities"][0]["state"];
    assert_eq!(entity["deployment"], "DEPLOYMENT_FAILED");
    let why = entity["deployment_state_message"].as_str().unwrap();
    assert!(why.contains("it is wrong"), "{why}");
    let refused = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    let message = refused.error(400, "BAD_REQUEST");
    assert!(message.contains("it is wrong"), "{message}");
    stack.stop().await;
}

#[tokio::test]
async fn a_failed_update_leaves_the_old_configuration_serving() {
    let wanted = Wanted::default();
    let loads = Arc::clone(&wanted.slow);
    let stack = Stack::with(wanted).await;
    let created = stack.send(Method::POST, ENDPOINTS, &fraud()).await;
    assert_eq!(created.status, 200);
    loads.let_go();
    let config = format!("{ENDPOINTS}/fraud/config");
    let updated = stack.send(Method::PUT, &config, &slow("2")).await.json();
    assert_eq!(
        updated["state"],
        json!({"ready": "READY", "config_update": "UPDATE_FAILED"})
    );
    assert_eq!(updated["config"]["config_version"], 1);
    let answer = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("served-model-name"), Some("champion"));
    stack.stop().await;
}

#[tokio::test]
async fn an_address_others_can_reach_needs_tls_or_the_operators_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = crate::api::ServerOptions {
        tcp: Some(([0, 0, 0, 0], 0).into()),
        tls: None,
        insecure: false,
        unix: None,
        admin: folder.path().join("admin.sock"),
        connections: 1,
        grace_period: Duration::ZERO,
    };
    let refused = crate::api::BoundServer::bind(options.clone()).await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("insecure_listen"), "{error}");
    assert!(
        !options.admin.try_exists().unwrap(),
        "all or nothing is bound"
    );
    options.insecure = true;
    let bound = crate::api::BoundServer::bind(options).await.unwrap();
    assert_ne!(bound.address().unwrap().port(), 0);
}
