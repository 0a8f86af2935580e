//! The admin socket through its client.

use hyper::Method;
use serde_json::{Value, json};

use super::stack::{ENDPOINTS, Stack, fraud};
use crate::api::admin::client::{AdminClient, CallAdminError};
use crate::api::admin::{CreateToken, ImportModel};
use crate::model::samples::samples;

fn refused(error: &CallAdminError) -> (u16, &str, &str) {
    match error {
        CallAdminError::Refused {
            status,
            error_code,
            message,
        } => (*status, error_code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let made = admin
        .create_token(&CreateToken {
            principal: "bob".parse().unwrap(),
            expires: None,
            groups: vec![],
            service_principal: false,
        })
        .await
        .unwrap();
    let headers = [("authorization", format!("Bearer {}", made.token))];
    let ask = async || stack.raw(Method::GET, ENDPOINTS, &headers, "").await.status;
    assert_eq!(ask().await, 200);
    let listed = admin.tokens().await.unwrap().tokens;
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&made.view));
    admin.revoke_token(&made.view.id).await.unwrap();
    assert_eq!(ask().await, 403);
    let again = admin.revoke_token(&made.view.id).await.unwrap_err();
    assert_eq!(refused(&again).0, 404);
    let expired = admin
        .create_token(&CreateToken {
            principal: "bob".parse().unwrap(),
            expires: Some(1),
            groups: vec![],
            service_principal: false,
        })
        .await
        .unwrap_err();
    assert_eq!(refused(&expired).1, "INVALID_PARAMETER_VALUE");
    stack.stop().await;
}

#[tokio::test]
async fn a_model_is_imported_once_and_listed() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let sample = samples()
        .iter()
        .find(|sample| sample.reference == "main.default.tumour/1")
        .unwrap();
    let path = stack.folder.path().join("tumour");
    sample.write_to(&path).unwrap();
    let mut wanted = ImportModel {
        path,
        name: "main.default.tumour".parse().unwrap(),
        version: 1,
    };
    let imported = admin.import_model(&wanted).await.unwrap();
    assert_eq!(imported.model.model.to_string(), "main.default.tumour/1");
    assert_eq!(admin.import_model(&wanted).await.unwrap(), imported);
    let listed: Value = admin.get("/models").await.unwrap();
    let names: Vec<_> = listed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["model"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"main.default.tumour/1"), "{names:?}");

    wanted.version = 0;
    let zero = admin.import_model(&wanted).await.unwrap_err();
    assert!(refused(&zero).2.contains("version"), "{zero}");
    wanted.version = 2;
    wanted.path = stack.folder.path().join("absent");
    let absent = admin.import_model(&wanted).await.unwrap_err();
    assert_eq!(refused(&absent).1, "INVALID_PARAMETER_VALUE");
    wanted.path = "relative".into();
    let relative = admin.import_model(&wanted).await.unwrap_err();
    assert!(refused(&relative).2.contains("absolute"), "{relative}");
    stack.stop().await;
}

#[tokio::test]
async fn status_shows_endpoints_models_and_what_the_process_adds() {
    let stack = Stack::start().await;
    let created = stack.send(Method::POST, ENDPOINTS, &fraud()).await;
    assert_eq!(created.status, 200);
    let admin = stack.admin();
    let status = admin.status().await.unwrap();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(status.endpoints[0].name.as_str(), "fraud");
    assert_eq!(status.endpoints[0].ready, "READY");
    assert_eq!(status.endpoints[0].config_version, Some(1));
    assert_eq!(status.models.len(), 2);
    assert_eq!(status.process["boot_id"], "00000000000000ff");
    let one: Value = admin.get("/endpoints/fraud").await.unwrap();
    assert_eq!(one, created.json());
    let all: Value = admin.get("/endpoints").await.unwrap();
    assert_eq!(all, json!({"endpoints": [one]}));
    let absent = admin.get::<Value>("/endpoints/absent").await.unwrap_err();
    assert_eq!(refused(&absent).1, "RESOURCE_DOES_NOT_EXIST");
    stack.stop().await;
}

#[tokio::test]
async fn log_verbs_reach_the_process() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    assert_eq!(admin.seal_logs().await.unwrap(), json!({"rows": 7}));
    let damaged = admin.get::<Value>("/logs/verify").await.unwrap_err();
    assert!(refused(&damaged).2.contains("damaged"), "{damaged}");
    let unknown = admin.get::<Value>("/unknown").await.unwrap_err();
    assert_eq!(refused(&unknown).1, "ENDPOINT_NOT_FOUND");
    stack.stop().await;
}

#[tokio::test]
async fn a_daemon_that_does_not_run_is_said_to_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let client = AdminClient::new(&folder.path().join("admin.sock"));
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, CallAdminError::Connect { .. }));
    assert!(error.to_string().contains("edgeward serve"), "{error}");
}
