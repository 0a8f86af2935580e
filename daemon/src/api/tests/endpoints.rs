//! The life of an endpoint as Databricks clients lead it.

use std::os::unix::fs::PermissionsExt as _;

use hyper::Method;
use serde_json::{Value, json};

use super::stack::{ENDPOINTS, Stack, fraud, transaction};

#[tokio::test]
async fn an_endpoint_is_created_and_shown() {
    let stack = Stack::start().await;
    let empty = stack.get(ENDPOINTS).await;
    assert_eq!(
        (empty.status, empty.json()),
        (200, json!({"endpoints": []}))
    );

    // mlflow's paths end with a slash.
    let created = stack
        .send(Method::POST, &format!("{ENDPOINTS}/"), &fraud())
        .await;
    assert_eq!(created.status, 200, "{created:?}");
    let created = created.json();
    assert_eq!(created["name"], "fraud");
    assert_eq!(created["creator"], "alice");
    assert_eq!(
        created["state"],
        json!({"ready": "READY", "config_update": "NOT_UPDATING"})
    );
    let config = &created["config"];
    assert_eq!(config["config_version"], 1);
    let entity = &config["served_entities"][0];
    assert_eq!(entity["entity_name"], "main.default.fraud");
    assert_eq!(entity["entity_version"], "3");
    assert_eq!(entity["workload_size"], "Small");
    assert_eq!(entity["scale_to_zero_enabled"], false);
    assert_eq!(entity["state"]["deployment"], "DEPLOYMENT_READY");
    let model = &config["served_models"][0];
    assert_eq!(model["model_name"], "main.default.fraud");
    assert_eq!(model["model_version"], "3");
    assert_eq!(
        config["traffic_config"]["routes"],
        json!([{
            "served_model_name": "champion",
            "served_entity_name": "champion",
            "traffic_percentage": 100,
        }])
    );
    let capture = &config["auto_capture_config"];
    assert_eq!(capture["enabled"], true);
    assert_eq!(capture["state"]["payload_table"]["name"], "fraud_payload");
    // Milliseconds, not seconds and not microseconds: between 2020 and 2100.
    let at = created["creation_timestamp"].as_i64().unwrap();
    assert!((1_577_836_800_000..4_102_444_800_000).contains(&at), "{at}");

    let shown = stack.get(&format!("{ENDPOINTS}/fraud/")).await;
    assert_eq!(shown.json(), created);
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_listed_changed_and_deleted() {
    let stack = Stack::serving_fraud().await;
    let created = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    let listed = stack.get(&format!("{ENDPOINTS}/")).await.json();
    assert_eq!(listed["endpoints"][0]["name"], "fraud");
    assert_eq!(listed["endpoints"][0]["state"]["ready"], "READY");
    assert_eq!(
        listed["endpoints"][0]["config"]["served_models"],
        json!([{"name": "champion", "model_name": "main.default.fraud", "model_version": "3"}])
    );

    let update = json!({
        "served_models": [
            {"name": "a", "model_name": "main.default.fraud", "model_version": "3",
             "workload_size": "Small", "scale_to_zero_enabled": true},
            {"name": "b", "model_name": "main.default.fraud", "model_version": 4,
             "scale_to_zero_enabled": true},
        ],
        "traffic_config": {"routes": [
            {"served_model_name": "a", "traffic_percentage": 80},
            {"served_model_name": "b", "traffic_percentage": 20},
        ]},
    });
    let updated = stack
        .send(Method::PUT, &format!("{ENDPOINTS}/fraud/config"), &update)
        .await;
    assert_eq!(updated.status, 200, "{updated:?}");
    let updated = updated.json();
    assert_eq!(updated["name"], "fraud");
    assert_eq!(updated["config"]["config_version"], 2);
    assert_eq!(
        updated["config"]["served_entities"][1]["entity_version"],
        "4"
    );
    assert_eq!(
        updated["config"]["auto_capture_config"], created["config"]["auto_capture_config"],
        "an absent auto_capture_config keeps what there is"
    );

    let deleted = stack
        .send(Method::DELETE, &format!("{ENDPOINTS}/fraud"), &json!(null))
        .await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({})));
    stack
        .get(&format!("{ENDPOINTS}/fraud"))
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(stack.rows().len(), 0, "management writes no row");
    stack.stop().await;
}

/// A creation of `other` with one field set.
fn with(field: &str, value: Value) -> Value {
    let mut body = fraud();
    body["name"] = json!("other");
    body[field] = value;
    body
}

fn config(config: Value) -> Value {
    with("config", config)
}

fn entity(entity: &Value) -> Value {
    config(json!({"served_entities": [entity]}))
}

/// A creation whose entity serves fraud 3 and has some fields more.
fn fraud_entity(extra: &Value) -> Value {
    let mut fields = json!({"entity_name": "main.default.fraud", "entity_version": "3"});
    let more = extra.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(more);
    entity(&fields)
}

/// Creations that are not allowed, and what the refusal must name.
fn not_allowed() -> Vec<(Value, &'static str)> {
    vec![
        (with("name", json!("no spaces")), "name"),
        (with("name", json!("")), "name"),
        (with("name", json!("x".repeat(64))), "name"),
        (with("name", json!(7)), "name"),
        (with("name", json!(null)), "name"),
        (with("config", json!(null)), "config"),
        (with("config", json!([])), "config"),
        (with("tags", json!([{"value": "a"}])), "key"),
        (with("rate_limits", json!([{"calls": 1}])), "renewal_period"),
        (
            with(
                "ai_gateway",
                json!({"guardrails": {"input": {"safety": true}}}),
            ),
            "guardrails",
        ),
        (with("route_optimized", json!(true)), "route_optimized"),
        (with("naem", json!("x")), "naem"),
        (config(json!({})), "served_entities"),
        (config(json!({"served_entities": [], "x": 1})), "x"),
        (
            fraud_entity(&json!({"workload_size": "Huge"})),
            "workload_size",
        ),
        (
            fraud_entity(&json!({"workload_type": "GPU_SMALL"})),
            "workload_type",
        ),
        (
            fraud_entity(&json!({"environment_vars": {"A": "b"}})),
            "environment_vars",
        ),
        (
            entity(&json!({"name": "x", "external_model": {"name": "gpt", "provider": "openai"}})),
            "external_model",
        ),
        (entity(&json!({"entity_version": "3"})), "entity_name"),
        (
            entity(&json!({"entity_name": "fraud", "entity_version": "3"})),
            "entity_name",
        ),
        (
            config(json!({
                "served_entities": [{"name": "a", "entity_name": "main.default.fraud",
                                     "entity_version": "3"}],
                "traffic_config": {"routes": [
                    {"served_entity_name": "a", "traffic_percentage": 99}]},
            })),
            "traffic_percentage",
        ),
        (
            config(json!({
                "served_entities": [{"name": "a", "entity_name": "main.default.fraud",
                                     "entity_version": "3"}],
                "traffic_config": {"routes": [
                    {"served_entity_name": "b", "traffic_percentage": 100}]},
            })),
            "served_entity_name",
        ),
    ]
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_by_name_and_changes_nothing() {
    let stack = Stack::serving_fraud().await;
    let before = stack.get(&format!("{ENDPOINTS}/fraud")).await.json();
    for (body, named) in not_allowed() {
        let answer = stack.send(Method::POST, ENDPOINTS, &body).await;
        let message = answer.error(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(named), "{named}: {message}");
    }
    let unknown = entity(&json!({"entity_name": "main.default.fraud", "entity_version": "9"}));
    stack
        .send(Method::POST, ENDPOINTS, &unknown)
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    stack
        .send(Method::POST, ENDPOINTS, &fraud())
        .await
        .error(400, "RESOURCE_ALREADY_EXISTS");
    let missing = format!("{ENDPOINTS}/absent/config");
    stack
        .send(Method::PUT, &missing, &fraud()["config"])
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    stack
        .send(Method::DELETE, &format!("{ENDPOINTS}/absent"), &json!({}))
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    let listed = stack.get(ENDPOINTS).await.json();
    assert_eq!(listed["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!(
        stack.get(&format!("{ENDPOINTS}/fraud")).await.json(),
        before
    );
    stack.stop().await;
}

#[tokio::test]
async fn routes_that_are_not_served_say_so() {
    let stack = Stack::serving_fraud().await;
    for (method, path) in [
        (
            Method::POST,
            "/serving-endpoints/chat/completions".to_owned(),
        ),
        (Method::GET, "/api/edgeward/v1/status".to_owned()),
        (Method::GET, "/".to_owned()),
    ] {
        let answer = stack.send(method, &path, &json!({})).await;
        let message = answer.error(404, "ENDPOINT_NOT_FOUND");
        assert!(message.contains(&path), "{message}");
    }
    for (method, path) in [
        (Method::PUT, ENDPOINTS.to_owned()),
        (Method::POST, format!("{ENDPOINTS}/fraud")),
        (Method::GET, format!("{ENDPOINTS}/fraud/config")),
        (Method::POST, "/ping".to_owned()),
    ] {
        let answer = stack.send(method, &path, &json!({})).await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.json()["error_code"], "BAD_REQUEST");
    }
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_may_be_called_pt_or_chat() {
    let stack = Stack::start().await;
    for name in ["pt", "chat"] {
        let mut body = fraud();
        body["name"] = json!(name);
        assert_eq!(stack.send(Method::POST, ENDPOINTS, &body).await.status, 200);
        let path = format!("{ENDPOINTS}/{name}");
        assert_eq!(stack.get(&path).await.json()["name"], name);
        let config = format!("{path}/config");
        let updated = stack.send(Method::PUT, &config, &body["config"]).await;
        assert_eq!(updated.json()["name"], name, "{updated:?}");
        let invocations = format!("/serving-endpoints/{name}/invocations");
        let answer = stack.send(Method::POST, &invocations, &transaction()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let deleted = stack.send(Method::DELETE, &path, &json!({})).await;
        assert_eq!(deleted.status, 200);
    }
    stack.stop().await;
}

#[tokio::test]
async fn management_wants_a_good_token_and_probes_want_none() {
    let stack = Stack::start().await;
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    for (method, path) in [
        (Method::GET, ENDPOINTS),
        (Method::POST, ENDPOINTS),
        (Method::GET, "/unknown"),
    ] {
        let none = stack.raw(method.clone(), path, &[], "{}").await;
        none.error(401, "UNAUTHENTICATED");
        assert_eq!(none.header("www-authenticate"), Some("Bearer"));
        let basic = vec![("authorization", "Basic dXNlcjpwYXNz".to_owned())];
        stack
            .raw(method.clone(), path, &basic, "{}")
            .await
            .error(401, "UNAUTHENTICATED");
        stack
            .raw(method, path, &bearer("edgeward_wrong"), "{}")
            .await
            .error(403, "PERMISSION_DENIED");
    }
    for (path, content_type, body) in [
        ("/ping", "application/json", "\n"),
        ("/health", "application/json", "\n"),
        ("/version", "text/plain", env!("CARGO_PKG_VERSION")),
        ("/.well-known/databricks-config", "application/json", "{}"),
    ] {
        let answer = stack.raw(Method::GET, path, &[], "").await;
        assert_eq!((answer.status, &*answer.body), (200, body.as_bytes()));
        assert_eq!(answer.header("content-type"), Some(content_type));
    }
    let token = stack.services.tokens.list()[0].id.clone();
    stack.services.tokens.revoke(&token).await.unwrap();
    stack.get(ENDPOINTS).await.error(403, "PERMISSION_DENIED");
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_says_what_it_takes() {
    let stack = Stack::serving_fraud().await;
    let path = format!("{ENDPOINTS}/fraud/openapi");
    let accept = [
        ("authorization", format!("Bearer {}", stack.token)),
        ("accept", "text/plain".to_owned()),
    ];
    let answer = stack.raw(Method::GET, &path, &accept, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let entity = document["paths"][paths[1].as_str()]["post"]["operationId"]
        .as_str()
        .unwrap();
    let entity = entity.strip_prefix("query-").unwrap();
    assert_eq!(paths[0], "/serving-endpoints/fraud/invocations");
    assert_eq!(
        *paths[1],
        format!("/serving-endpoints/fraud/served-models/{entity}/invocations")
    );
    let request = &document["components"]["schemas"][format!("{entity}.request")];
    let forms = request["oneOf"].as_array().unwrap();
    assert_eq!(forms.len(), 4);
    let row = &forms[1]["properties"]["dataframe_records"]["items"];
    // Truth values count as numbers where floats are wanted, and the model's own are of 32 bits.
    let amount = &row["properties"]["amount"];
    assert_eq!(
        amount["type"],
        json!(["number", "boolean", "null"]),
        "{row}"
    );
    assert_eq!(
        amount["maximum"],
        json!(3.402_823_567_797_336_2e38),
        "{row}"
    );
    let somewhere = &forms[1]["properties"]["dataframe_records"]["allOf"];
    assert_eq!(somewhere, &json!([{"contains": {"required": ["amount"]}}]));
    assert_eq!(row["properties"]["merchant_category"]["type"], "string");
    let unknown = stack.get(&format!("{ENDPOINTS}/nobody/openapi")).await;
    unknown.error(404, "RESOURCE_DOES_NOT_EXIST");
    stack.stop().await;
}

#[tokio::test]
async fn the_admin_socket_is_the_owners_alone() {
    let stack = Stack::start().await;
    let mode = std::fs::metadata(stack.admin_socket()).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_shows_its_metrics_and_logs() {
    let stack = Stack::serving_fraud().await;
    let invocations = "/serving-endpoints/fraud/invocations";
    let good = transaction();
    for body in [&good, &good, &json!({})] {
        stack.send(Method::POST, invocations, body).await;
    }
    let answer = stack.get(&format!("{ENDPOINTS}/fraud/metrics")).await;
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let sample = |name: &str| {
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name} ")));
        let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
        assert_eq!(words.len(), 3, "{words:?}");
        words[1].parse::<f64>().unwrap()
    };
    for (name, value) in [
        ("request_count_total", 3.0),
        ("request_4xx_count_total", 1.0),
        ("request_5xx_count_total", 0.0),
        ("provisioned_concurrent_requests_total", 1.0),
        ("request_latency_ms_count{endpoint_name=\"fraud\"}", 3.0),
        (
            "model_prediction_latency_ms_count{endpoint_name=\"fraud\"}",
            2.0,
        ),
        (
            "model_queue_time_ms_bucket{endpoint_name=\"fraud\",le=\"+Inf\"}",
            2.0,
        ),
    ] {
        assert_eq!(sample(name), value, "{name}");
    }
    assert!(sample("mem_usage_percentage") <= 100.0);
    assert!(sample("request_latency_ms_sum{endpoint_name=\"fraud\"}") > 0.0);

    let entity = format!("{ENDPOINTS}/fraud/served-models/champion");
    let built = stack.get(&format!("{entity}/build-logs")).await.json();
    let built = built["logs"].as_str().unwrap();
    for part in [
        "main.default.fraud/3",
        "manifest ",
        "engine tract",
        "Framework",
        "DEPLOYMENT_READY",
    ] {
        assert!(built.contains(part), "{built}");
    }
    // Events are kept by the process's event log, which tests do not start.
    assert_eq!(
        stack.get(&format!("{entity}/logs")).await.json(),
        json!({"logs": ""})
    );
    let stranger = format!("{ENDPOINTS}/fraud/served-models/stranger/logs");
    stack
        .get(&stranger)
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    stack.stop().await;
}
