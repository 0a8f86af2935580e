//! Endpoints with provisioned throughput, as databricks-sdk makes them.

use hyper::Method;
use serde_json::{Value, json};

use super::stack::{ENDPOINTS, Stack, fraud, transaction};

/// A served entity with these model units.
fn entity(version: &str, units: &Value) -> Value {
    json!({
        "entity_name": "main.default.fraud",
        "entity_version": version,
        "provisioned_model_units": units,
        "burst_scaling_enabled": false,
    })
}

#[tokio::test]
async fn model_units_and_bursts_are_kept_and_shown() {
    let stack = Stack::start().await;
    let create = format!("{ENDPOINTS}/pt");
    let body = json!({
        "name": "units",
        "config": {"served_entities": [entity("3", &json!(50))]},
        "tags": [{"key": "team", "value": "risk"}],
    });
    let made = stack.send(Method::POST, &create, &body).await;
    assert_eq!(made.status, 200, "{made:?}");
    let shown = &made.json()["config"]["served_entities"][0];
    assert_eq!(shown["provisioned_model_units"], 50);
    assert_eq!(shown["burst_scaling_enabled"], false);
    let change = json!({"config": {"served_entities": [entity("4", &json!("100"))]}});
    let update = format!("{ENDPOINTS}/pt/units/config");
    let changed = stack.send(Method::PUT, &update, &change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let now = stack.get(&format!("{ENDPOINTS}/units")).await.json();
    assert_eq!(now["config"]["config_version"], 2);
    assert_eq!(
        now["config"]["served_entities"][0]["provisioned_model_units"],
        100
    );
    assert_eq!(now["config"]["served_entities"][0]["entity_version"], "4");
    assert_eq!(now["tags"], body["tags"]);
    let asked = "/serving-endpoints/units/invocations";
    assert_eq!(
        stack.send(Method::POST, asked, &transaction()).await.status,
        200
    );
    stack.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let stack = Stack::serving_fraud().await;
    let create = format!("{ENDPOINTS}/pt");
    let update = format!("{ENDPOINTS}/pt/fraud/config");
    let with = |units: &Value| json!({"served_entities": [entity("3", units)]});
    for units in [json!(0), json!(-1), json!(1.5), json!("many"), Value::Null] {
        let body = json!({"name": "units", "config": with(&units)});
        let refused = stack.send(Method::POST, &create, &body).await;
        let message = refused.error(400, "INVALID_PARAMETER_VALUE");
        assert!(
            message.contains("served_entities[0].provisioned_model_units"),
            "{message}"
        );
        let body = json!({"config": with(&units)});
        let refused = stack.send(Method::PUT, &update, &body).await;
        let message = refused.error(400, "INVALID_PARAMETER_VALUE");
        assert!(
            message.contains("served_entities[0].provisioned_model_units"),
            "{message}"
        );
    }
    // Without its wrapper, and with something beside it.
    for (body, named) in [
        (with(&json!(1)), "`served_entities`"),
        (json!({}), "`config`"),
        (json!({"config": with(&json!(1)), "tags": []}), "`tags`"),
    ] {
        let refused = stack.send(Method::PUT, &update, &body).await;
        let message = refused.error(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(named), "{message}");
    }
    let absent = format!("{ENDPOINTS}/pt/absent/config");
    let body = json!({"config": with(&json!(1))});
    stack
        .send(Method::PUT, &absent, &body)
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(
        stack.get(ENDPOINTS).await.json()["endpoints"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_called_pt_has_both_forms_of_updates() {
    let stack = Stack::start().await;
    let mut body = fraud();
    body["name"] = json!("pt");
    assert_eq!(stack.send(Method::POST, ENDPOINTS, &body).await.status, 200);
    let plain = format!("{ENDPOINTS}/pt/config");
    let plain = stack.send(Method::PUT, &plain, &body["config"]).await;
    assert_eq!(plain.json()["name"], "pt", "{plain:?}");
    let wrapped = json!({"config": {"served_entities": [entity("3", &json!(1))]}});
    let path = format!("{ENDPOINTS}/pt/pt/config");
    let wrapped = stack.send(Method::PUT, &path, &wrapped).await;
    assert_eq!(wrapped.json()["config"]["config_version"], 3, "{wrapped:?}");
    stack.stop().await;
}
