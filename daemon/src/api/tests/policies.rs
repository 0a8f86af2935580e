//! Permissions, rate limits, tags, and the routes that refuse what would have no effect.

use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};

use super::stack::{Answer, ENDPOINTS, Stack, Wanted, fraud, transaction};
use crate::gateway::{PrincipalKind, TokenOwner};

const FRAUD: &str = "/api/2.0/serving-endpoints/fraud";
const INVOCATIONS: &str = "/serving-endpoints/fraud/invocations";

/// Somebody with a token of its own.
struct Someone<'s> {
    stack: &'s Stack,
    token: String,
}

impl<'s> Someone<'s> {
    async fn new(stack: &'s Stack, name: &str, kind: PrincipalKind, groups: &[&str]) -> Self {
        let owner = TokenOwner {
            principal: name.parse().unwrap(),
            kind,
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        };
        let made = stack.services.tokens.create(owner, None).await.unwrap();
        Self {
            stack,
            token: made.token,
        }
    }

    async fn user(stack: &'s Stack, name: &str, groups: &[&str]) -> Self {
        Self::new(stack, name, PrincipalKind::User, groups).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", format!("Bearer {}", self.token))];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.stack.raw(method, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &Value::Null).await
    }

    async fn ask(&self) -> Answer {
        self.send(Method::POST, INVOCATIONS, &transaction()).await
    }
}

async fn permissions(stack: &Stack) -> String {
    let id = stack.get(FRAUD).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    format!("/api/2.0/permissions/serving-endpoints/{id}")
}

#[tokio::test]
async fn whoever_has_a_token_may_ask_and_see_and_change_nothing() {
    let stack = Stack::serving_fraud().await;
    let bob = Someone::user(&stack, "bob", &[]).await;
    assert_eq!(bob.ask().await.status, 200);
    assert_eq!(bob.get(FRAUD).await.json()["permission_level"], "CAN_QUERY");
    assert_eq!(
        stack.get(FRAUD).await.json()["permission_level"],
        "CAN_MANAGE"
    );
    let permissions = permissions(&stack).await;
    let config = fraud()["config"].clone();
    for (method, path, body) in [
        (Method::POST, ENDPOINTS, fraud()),
        (Method::PUT, &*format!("{FRAUD}/config"), config),
        (Method::DELETE, FRAUD, Value::Null),
        (Method::PATCH, &*format!("{FRAUD}/tags"), json!({})),
        (Method::PUT, &*format!("{FRAUD}/rate-limits"), json!({})),
        (Method::PUT, &*format!("{FRAUD}/ai-gateway"), json!({})),
        (Method::PATCH, &*format!("{FRAUD}/notifications"), json!({})),
        (
            Method::PATCH,
            &*format!("{FRAUD}/telemetry-config"),
            json!({}),
        ),
        (Method::PUT, &*permissions, json!({})),
        (Method::PATCH, &*permissions, json!({})),
    ] {
        let answer = bob.send(method, path, &body).await;
        let message = answer.error(403, "PERMISSION_DENIED");
        assert!(message.starts_with("bob "), "{path}: {message}");
    }
    let unload = "/v2/repository/models/fraud/unload";
    assert_eq!(bob.send(Method::POST, unload, &json!({})).await.status, 403);
    stack.stop().await;
}

/// Takes every permission on `fraud` away that can be; answers where permissions stand.
async fn close(stack: &Stack) -> String {
    let permissions = permissions(stack).await;
    let nobody = json!({"access_control_list": []});
    let answer = stack.send(Method::PUT, &permissions, &nobody).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    permissions
}

/// Every path that shows something of `fraud` alone.
fn shown_at(permissions: &str) -> Vec<String> {
    vec![
        FRAUD.to_owned(),
        format!("{FRAUD}/openapi"),
        format!("{FRAUD}/metrics"),
        format!("{FRAUD}/served-models/champion/logs"),
        format!("{FRAUD}/served-models/champion/build-logs"),
        permissions.to_owned(),
        format!("{permissions}/permissionLevels"),
        "/v2/models/fraud".to_owned(),
        "/v2/models/fraud/config".to_owned(),
        "/v2/models/fraud/stats".to_owned(),
        "/v2/models/fraud/versions/3/ready".to_owned(),
        "/v1/models/fraud".to_owned(),
    ]
}

#[tokio::test]
async fn an_endpoint_that_is_granted_to_nobody_is_closed_in_every_dialect() {
    let stack = Stack::serving_fraud().await;
    let bob = Someone::user(&stack, "bob", &["ops"]).await;
    let permissions = close(&stack).await;
    stack.rows();
    let answer = bob.ask().await;
    let message = answer.error(403, "PERMISSION_DENIED");
    assert_eq!(
        message,
        "bob has no CAN_QUERY permission on serving endpoint fraud"
    );
    let (table, row) = stack.row();
    assert_eq!(
        (table.to_string().as_str(), row.status_code),
        ("main.default.fraud", 403)
    );
    assert_eq!(row.requester.unwrap().as_str(), "bob");
    for path in shown_at(&permissions) {
        assert_eq!(bob.get(&path).await.status, 403, "{path}");
    }
    for (path, body) in [
        ("/v2/models/fraud/infer", json!({"inputs": []})),
        ("/v2/models/fraud/versions/3/infer", json!({"inputs": []})),
        ("/v2/repository/models/fraud/load", json!({})),
        (
            "/serving-endpoints/fraud/served-models/champion/invocations",
            transaction(),
        ),
        ("/v1/embeddings", json!({"model": "fraud", "input": "a"})),
        (
            "/serving-endpoints/embeddings",
            json!({"model": "fraud", "input": "a"}),
        ),
    ] {
        assert_eq!(
            bob.send(Method::POST, path, &body).await.status,
            403,
            "{path}"
        );
    }
    assert_eq!(bob.get(ENDPOINTS).await.json(), json!({"endpoints": []}));
    assert_eq!(bob.get("/v1/models").await.json()["data"], json!([]));
    assert_eq!(
        bob.get("/v2/models/stats").await.json(),
        json!({"model_stats": []})
    );
    let index = bob
        .send(Method::POST, "/v2/repository/index", &json!({}))
        .await;
    assert_eq!(index.json(), json!([]));
    assert_eq!(
        stack
            .send(Method::POST, INVOCATIONS, &transaction())
            .await
            .status,
        200
    );

    stack.stop().await;
}

#[tokio::test]
async fn what_is_granted_counts_from_the_next_request_on() {
    let stack = Stack::serving_fraud().await;
    let bob = Someone::user(&stack, "bob", &["ops"]).await;
    let permissions = close(&stack).await;
    assert_eq!(bob.ask().await.status, 403);
    let grant = json!({"access_control_list": [
        {"group_name": "ops", "permission_level": "CAN_VIEW"},
    ]});
    stack.send(Method::PATCH, &permissions, &grant).await;
    assert_eq!(bob.get(FRAUD).await.json()["permission_level"], "CAN_VIEW");
    assert_eq!(bob.ask().await.status, 403);
    let grant = json!({"access_control_list": [
        {"user_name": "bob", "permission_level": "CAN_MANAGE"},
    ]});
    let answer = stack.send(Method::PATCH, &permissions, &grant).await;
    let list = answer.json()["access_control_list"].clone();
    let names: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|entry| ["user_name", "group_name"].map(|kind| &entry[kind]))
        .filter(|name| !name.is_null())
        .collect();
    assert_eq!(names, ["admins", "alice", "ops", "bob"]);
    assert_eq!(bob.ask().await.status, 200);
    assert_eq!(
        bob.send(Method::DELETE, FRAUD, &Value::Null).await.status,
        200
    );
    stack.stop().await;
}

#[tokio::test]
async fn grants_that_mean_nothing_are_refused() {
    let stack = Stack::serving_fraud().await;
    let permissions = permissions(&stack).await;
    let levels = stack
        .get(&format!("{permissions}/permissionLevels"))
        .await
        .json();
    let levels = levels["permission_levels"].as_array().unwrap().clone();
    assert_eq!(levels[1]["permission_level"], "CAN_QUERY");
    for (list, field) in [
        (json!([{"user_name": "a"}]), "permission_level"),
        (
            json!([{"user_name": "a", "permission_level": "CAN_FLY"}]),
            "permission_level",
        ),
        (
            json!([{"permission_level": "CAN_VIEW"}]),
            "access_control_list",
        ),
        (
            json!([{"user_name": "a", "group_name": "b", "permission_level": "CAN_VIEW"}]),
            "access_control_list",
        ),
        (
            json!([{"user_name": "a b", "permission_level": "CAN_VIEW"}]),
            "user_name",
        ),
        (
            json!([{"group_name": "admins", "permission_level": "CAN_VIEW"}]),
            "permission_level",
        ),
        (
            json!([{"user_name": "alice", "permission_level": "CAN_QUERY"}]),
            "permission_level",
        ),
        (
            json!([
                {"user_name": "a", "permission_level": "CAN_VIEW"},
                {"user_name": "a", "permission_level": "CAN_QUERY"},
            ]),
            "access_control_list",
        ),
        (json!("all"), "access_control_list"),
    ] {
        let body = json!({"access_control_list": list});
        let answer = stack.send(Method::PUT, &permissions, &body).await;
        let message = answer.error(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(field), "{body}: {message}");
    }
    let stranger = "/api/2.0/permissions/serving-endpoints/00";
    stack
        .get(stranger)
        .await
        .error(404, "RESOURCE_DOES_NOT_EXIST");
    stack.stop().await;
}

#[tokio::test]
async fn limits_hold_at_once_and_say_when_to_come_again() {
    let stack = Stack::serving_fraud().await;
    let bob = Someone::user(&stack, "bob", &[]).await;
    let bot = Someone::new(&stack, "bot", PrincipalKind::ServicePrincipal, &[]).await;
    let limits = json!([{"calls": 2, "renewal_period": "minute", "key": "user"}]);
    let path = format!("{FRAUD}/rate-limits");
    let answer = stack
        .send(Method::PUT, &path, &json!({"rate_limits": limits}))
        .await;
    assert_eq!(answer.json(), json!({ "rate_limits": limits }));
    stack.rows();
    // A minute may end in between: then two more are let through.
    let passed = async |who: &Someone<'_>, calls: usize| {
        let mut passed = 0;
        for _ in 0..calls {
            let answer = who.ask().await;
            if answer.status == 200 {
                passed += 1;
                continue;
            }
            let message = answer.error(429, "REQUEST_LIMIT_EXCEEDED");
            assert!(message.contains("limit of"), "{message}");
            let after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
        passed
    };
    assert!((2..=4).contains(&passed(&bob, 7).await));
    assert!((2..=4).contains(&passed(&bot, 7).await));
    let rows = stack.rows();
    assert_eq!(rows.len(), 14);
    assert!(rows.iter().any(|(_, row)| row.status_code == 429));

    let limits = json!([
        {"calls": 0, "renewal_period": "minute", "key": "user", "principal": "bob"},
        {"calls": 3, "renewal_period": "minute", "key": "service_principal", "principal": "bot"},
    ]);
    let path = format!("{FRAUD}/ai-gateway");
    let answer = stack
        .send(Method::PUT, &path, &json!({"rate_limits": limits}))
        .await;
    assert_eq!(answer.json(), json!({ "rate_limits": limits }));
    assert_eq!(
        stack.get(FRAUD).await.json()["ai_gateway"],
        json!({ "rate_limits": limits })
    );
    assert_eq!(passed(&bob, 3).await, 0);
    assert!((3..=6).contains(&passed(&bot, 8).await));

    let answer = stack.send(Method::PUT, &path, &json!({})).await;
    assert_eq!(answer.json(), json!({}));
    assert_eq!(passed(&bob, 3).await, 3);
    assert_eq!(stack.get(FRAUD).await.json()["ai_gateway"], Value::Null);
    stack.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_made_with_its_limits_and_tags() {
    let stack = Stack::start().await;
    let mut body = fraud();
    body["rate_limits"] = json!([{"calls": 0, "renewal_period": "minute"}]);
    body["tags"] = json!([{"key": "team", "value": "risk"}, {"key": "beta"}]);
    body["description"] = json!("Is it fraud?");
    let answer = stack.send(Method::POST, ENDPOINTS, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = answer.json();
    assert_eq!(
        made["tags"],
        json!([{"key": "beta"}, {"key": "team", "value": "risk"}])
    );
    assert_eq!(made["description"], "Is it fraud?");
    assert_eq!(made["ai_gateway"]["rate_limits"][0]["calls"], 0);
    let answer = stack.send(Method::POST, INVOCATIONS, &transaction()).await;
    answer.error(429, "REQUEST_LIMIT_EXCEEDED");
    let listed = stack.get(ENDPOINTS).await.json();
    assert_eq!(listed["endpoints"][0]["tags"], made["tags"]);

    let change =
        json!({"add_tags": [{"key": "team", "value": "ops"}], "delete_tags": ["beta", "no"]});
    let answer = stack
        .send(Method::PATCH, &format!("{FRAUD}/tags"), &change)
        .await;
    assert_eq!(
        answer.json(),
        json!({"tags": [{"key": "team", "value": "ops"}]})
    );
    assert_eq!(stack.get(FRAUD).await.json()["tags"], answer.json()["tags"]);

    // Its name is free again, and what was said of it is forgotten.
    assert_eq!(
        stack.send(Method::DELETE, FRAUD, &json!({})).await.status,
        200
    );
    assert_eq!(
        stack.send(Method::POST, ENDPOINTS, &fraud()).await.status,
        200
    );
    let made = stack.get(FRAUD).await.json();
    assert_eq!(
        (&made["tags"], &made["ai_gateway"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(
        stack
            .send(Method::POST, INVOCATIONS, &transaction())
            .await
            .status,
        200
    );

    body["name"] = json!("fraud");
    let twice = stack.send(Method::POST, ENDPOINTS, &body).await;
    twice.error(400, "RESOURCE_ALREADY_EXISTS");
    assert_eq!(
        stack
            .send(Method::POST, INVOCATIONS, &transaction())
            .await
            .status,
        200
    );
    stack.stop().await;
}

#[tokio::test]
async fn how_an_endpoint_stands_is_for_those_who_may_ask_it() {
    let slow = Wanted::default();
    let loads = Arc::clone(&slow.slow);
    let stack = Stack::with(slow).await;
    let mut body = fraud();
    body["config"]["served_entities"][0]["entity_name"] = json!("main.default.slow");
    body["config"]["served_entities"][0]["entity_version"] = json!("2");
    loads.let_go();
    let made = stack.send(Method::POST, ENDPOINTS, &body).await.json();
    assert_eq!(made["state"]["ready"], "NOT_READY", "{made}");
    let bob = Someone::user(&stack, "bob", &[]).await;
    let message = bob.ask().await.error(400, "BAD_REQUEST");
    assert!(message.contains("it is wrong"), "{message}");
    close(&stack).await;
    bob.ask().await.error(403, "PERMISSION_DENIED");
    let infer = "/v2/models/fraud/infer";
    let answer = bob.send(Method::POST, infer, &json!({"inputs": []})).await;
    assert_eq!(answer.status, 403);
    stack.stop().await;
}

#[tokio::test]
async fn a_program_is_not_the_person_of_its_name() {
    let stack = Stack::serving_fraud().await;
    close(&stack).await;
    let person = Someone::user(&stack, "alice", &[]).await;
    assert_eq!(person.ask().await.status, 200);
    let program = PrincipalKind::ServicePrincipal;
    let program = Someone::new(&stack, "alice", program, &[]).await;
    assert_eq!(program.ask().await.status, 403);
    stack.stop().await;
}

/// Changes that would have no effect here or are none, and what the refusal must name.
fn refused() -> Vec<(Method, &'static str, Value, &'static str)> {
    vec![
        (
            Method::PATCH,
            "tags",
            json!({"add_tags": [{"value": "x"}]}),
            "key",
        ),
        (
            Method::PATCH,
            "tags",
            json!({"add_tags": [{"key": ""}]}),
            "key",
        ),
        (
            Method::PATCH,
            "tags",
            json!({"delete_tags": [1]}),
            "delete_tags",
        ),
        (Method::PATCH, "tags", json!({"tags": []}), "tags"),
        (
            Method::PUT,
            "rate-limits",
            json!({"rate_limits": [{"calls": 1}]}),
            "renewal_period",
        ),
        (
            Method::PUT,
            "ai-gateway",
            json!({"guardrails": {"input": {"safety": true}}}),
            "guardrails",
        ),
        (
            Method::PUT,
            "ai-gateway",
            json!({"usage_tracking_config": {"enabled": true}}),
            "usage_tracking_config",
        ),
        (
            Method::PUT,
            "ai-gateway",
            json!({"rate_limits": [{"tokens": 9, "renewal_period": "minute"}]}),
            "tokens",
        ),
        (
            Method::PUT,
            "ai-gateway",
            json!({"fallback_config": {"enabled": true}}),
            "fallback_config",
        ),
        (
            Method::PATCH,
            "notifications",
            json!({"email_notifications": {"on_update_failure": ["a@example.org"]}}),
            "on_update_failure",
        ),
        (
            Method::PATCH,
            "telemetry-config",
            json!({"telemetry_config": {"telemetry_profile_id": "x"}}),
            "telemetry_config",
        ),
    ]
}

#[tokio::test]
async fn what_would_have_no_effect_is_refused_by_name() {
    let stack = Stack::serving_fraud().await;
    for (method, path, body, field) in refused() {
        let answer = stack.send(method, &format!("{FRAUD}/{path}"), &body).await;
        let message = answer.error(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(field), "{body}: {message}");
    }
    for (method, path, body) in [
        (
            Method::PUT,
            "ai-gateway",
            json!({"fallback_config": {"enabled": false}}),
        ),
        (
            Method::PATCH,
            "notifications",
            json!({"email_notifications": {"on_update_success": []}}),
        ),
        (Method::PATCH, "telemetry-config", json!({})),
    ] {
        let answer = stack.send(method, &format!("{FRAUD}/{path}"), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    stack.stop().await;
}
