//! The document of the server: every route that it has is served, and it is for everybody.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::stack::{Answer, Stack};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A path with a name in each of its places; `id` is of an endpoint.
fn filled(path: &str, id: &str) -> String {
    path.replace("{name}", "fraud")
        .replace("{model}", "fraud")
        .replace("{entity}", "champion")
        .replace("{version}", "3")
        .replace("{id}", id)
}

/// What a route that is not there says.
fn no_route(answer: &Answer) -> bool {
    answer.status == 405 || String::from_utf8_lossy(&answer.body).contains("no API is served at")
}

#[tokio::test]
async fn every_route_of_the_document_is_served_with_an_answer_that_it_has_and_no_other_method_is() {
    let stack = Stack::serving_fraud().await;
    let document = stack.raw(Method::GET, "/openapi.json", &[], "").await;
    assert_eq!(document.status, 200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    let view = stack.services.endpoints.get("fraud").unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 40, "{}", paths.len());
    for (path, operations) in paths {
        for method in METHODS {
            // Deleting comes last: what follows would find nothing.
            if path.ends_with("/{name}") && method == "delete" {
                continue;
            }
            let operation = operations.get(method);
            let answer = ask(&stack, method, &filled(path, view.id.as_str()), operation).await;
            let at = format!("{method} {path}: {answer:?}");
            let Some(operation) = operation else {
                assert_eq!(answer.status, 405, "{at}");
                let allow = answer.header("allow").unwrap_or_default().to_lowercase();
                let mut documented = METHODS.iter().filter(|m| operations.get(**m).is_some());
                assert!(
                    documented.all(|method| allow.contains(method)),
                    "{allow}: {at}"
                );
                continue;
            };
            assert!(!no_route(&answer), "{at}");
            let known = operation["responses"].get(answer.status.to_string());
            assert!(known.is_some(), "{at}");
        }
    }
    let gone = ask(&stack, "delete", "/api/2.0/serving-endpoints/fraud", None).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    stack.stop().await;
}

/// A request with a token where the operation wants one, and a body that most routes refuse.
async fn ask(stack: &Stack, method: &str, path: &str, operation: Option<&Value>) -> Answer {
    let method: Method = method.to_uppercase().parse().unwrap();
    let open = operation.is_some_and(|operation| operation.get("security").is_some());
    let token = [("authorization", format!("Bearer {}", stack.token))];
    let headers: &[_] = if open { &[] } else { &token };
    let body = if method == Method::GET {
        Bytes::new()
    } else {
        json!({}).to_string().into()
    };
    stack.raw(method, path, headers, body).await
}

#[tokio::test]
async fn a_route_without_security_answers_everybody_and_any_other_wants_a_token() {
    let stack = Stack::serving_fraud().await;
    let document = stack
        .raw(Method::GET, "/openapi.json", &[], "")
        .await
        .json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = stack.raw(method, &filled(path, "x"), &[], "{}").await;
            let open = operation.get("security") == Some(&json!([]));
            assert_eq!(answer.status == 401, !open, "{path}: {answer:?}");
        }
    }
    stack.stop().await;
}
