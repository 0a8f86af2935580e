//! Calls that are no inferences, who may make them, and what every call has in common.

use std::sync::Arc;

use super::*;
use crate::api::open_inference::grpc::messages::{
    DataType, ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyResponse,
};

fn ready(name: &str, version: &str) -> ModelReadyRequest {
    ModelReadyRequest {
        name: name.to_owned(),
        version: version.to_owned(),
    }
}

#[tokio::test]
async fn models_say_what_they_are_and_how_they_do() {
    let stack = Stack::two_versions().await;
    for _ in 0..3 {
        call(&stack, "ModelInfer", &raw()).await.probability();
    }
    let server: ServerMetadataResponse = call(&stack, "ServerMetadata", &ServerMetadataRequest {})
        .await
        .message();
    assert_eq!(server.name, "edgeward");
    let name = "fraud".to_owned();
    let metadata = ModelMetadataRequest {
        name: name.clone(),
        version: String::new(),
    };
    let metadata: ModelMetadataResponse = call(&stack, "ModelMetadata", &metadata).await.message();
    assert_eq!(metadata.versions, ["3", "4"]);
    let second = &metadata.inputs[1];
    assert_eq!(
        (second.name.as_str(), second.datatype.as_str()),
        ("merchant_category", "BYTES")
    );
    assert_eq!(second.shape, [-1, 1]);
    let config = ModelConfigRequest {
        name: name.clone(),
        version: "4".to_owned(),
    };
    let config: ModelConfigResponse = call(&stack, "ModelConfig", &config).await.message();
    let config = config.config.unwrap();
    assert_eq!(config.input[1].data_type(), DataType::TypeString);
    assert_eq!(config.output[0].data_type(), DataType::TypeFp32);
    let statistics = ModelStatisticsRequest {
        name,
        version: "3".to_owned(),
    };
    let statistics: ModelStatisticsResponse =
        call(&stack, "ModelStatistics", &statistics).await.message();
    assert_eq!(statistics.model_stats[0].inference_count, 3);
    let parts = statistics.model_stats[0].inference_stats.unwrap();
    assert_eq!(parts.success.unwrap().count, 3);
    assert!(parts.compute_infer.unwrap().ns > 0);
    let all = ModelStatisticsRequest::default();
    let all: ModelStatisticsResponse = call(&stack, "ModelStatistics", &all).await.message();
    assert_eq!(all.model_stats.len(), 2);
    for (model, expected) in [
        (ready("fraud", ""), true),
        (ready("fraud", "4"), true),
        (ready("fraud", "9"), false),
        (ready("stranger", ""), false),
    ] {
        let answer: ModelReadyResponse = call(&stack, "ModelReady", &model).await.message();
        assert_eq!(answer.ready, expected, "{model:?}");
    }
    stack.stop().await;
}

#[tokio::test]
async fn the_repository_says_what_is_served_and_changes_nothing() {
    let stack = Stack::two_versions().await;
    let index: RepositoryIndexResponse = call(
        &stack,
        "RepositoryIndex",
        &RepositoryIndexRequest::default(),
    )
    .await
    .message();
    let entry = &index.models[1];
    assert_eq!(
        (entry.name.as_str(), entry.version.as_str()),
        ("fraud", "4")
    );
    assert_eq!((entry.state.as_str(), entry.reason.as_str()), ("READY", ""));
    let load = RepositoryModelLoadRequest {
        model_name: "fraud".to_owned(),
        ..RepositoryModelLoadRequest::default()
    };
    let given = call(&stack, "RepositoryModelLoad", &load).await;
    let RepositoryModelLoadResponse {} = given.message();
    let mut configured = load.clone();
    configured
        .parameters
        .insert("config".to_owned(), Default::default());
    let given = call(&stack, "RepositoryModelLoad", &configured).await;
    given.refused(Code::InvalidArgument, "import a model version");
    let other = RepositoryModelLoadRequest {
        repository_name: "r".to_owned(),
        ..load
    };
    let given = call(&stack, "RepositoryModelLoad", &other).await;
    given.refused(Code::InvalidArgument, "repository_name must be empty");
    let unload = RepositoryModelUnloadRequest {
        model_name: "fraud".to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    let given = call(&stack, "RepositoryModelUnload", &unload).await;
    let RepositoryModelUnloadResponse {} = given.message();
    let scorer = |stack: &Stack| {
        let snapshot = stack.services.endpoints.snapshot();
        Arc::clone(&snapshot.endpoint("fraud").unwrap().entities()[0].scorer)
    };
    assert!(scorer(&stack).is_at_zero());
    let given = call(&stack, "ModelInfer", &raw()).await;
    let ModelInferResponse { .. } = given.message();
    assert!(!scorer(&stack).is_at_zero());
    stack.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_is_said() {
    let stack = Stack::two_versions().await;
    let unknown = ModelInferRequest {
        model_name: "stranger".to_owned(),
        ..raw()
    };
    let given = call(&stack, "ModelInfer", &unknown).await;
    given.refused(Code::NotFound, "\"stranger\" does not exist");
    let (table, row) = stack.row();
    assert_eq!(
        (table.to_string().as_str(), row.status_code),
        ("edgeward.system._unmatched", 404)
    );
    let version = ModelInferRequest {
        model_version: "9".to_owned(),
        ..raw()
    };
    let given = call(&stack, "ModelInfer", &version).await;
    given.refused(Code::NotFound, "serves no version \"9\"");
    let metadata = ModelMetadataRequest {
        name: "stranger".to_owned(),
        version: String::new(),
    };
    let given = call(&stack, "ModelMetadata", &metadata).await;
    given.refused(Code::NotFound, "does not exist");
    for (name, message) in [
        ("SystemSharedMemoryRegister", "not through shared memory"),
        ("CudaSharedMemoryStatus", "not through shared memory"),
        ("TraceSetting", "TraceSetting is not answered"),
        ("LogSettings", "LogSettings is not answered"),
        ("Stranger", "no API is served"),
    ] {
        let given = send(&stack, name, &[], framed(b"", false)).await;
        given.refused(Code::Unimplemented, message);
    }
    let given = send(&stack, "ModelMetadata", &[], framed(b"\x0a\x09", false)).await;
    given.refused(Code::InvalidArgument, "cannot be read");
    let long = framed(&vec![0; 2 << 20], false);
    let given = send(&stack, "RepositoryIndex", &[], long).await;
    given.refused(Code::ResourceExhausted, "over the limit");
    stack.stop().await;
}

#[tokio::test]
async fn a_token_and_time_are_needed() {
    let stack = Stack::two_versions().await;
    let body = || Body::from(framed(&raw().encode_to_vec(), false));
    let given = bare(&stack, "ModelInfer", &[], body()).await;
    given.refused(Code::Unauthenticated, "send a token");
    assert_eq!(stack.row().1.status_code, 401);
    let wrong = [("authorization", "Bearer edgeward_wrong")];
    let given = bare(&stack, "ModelInfer", &wrong, body()).await;
    given.refused(Code::PermissionDenied, "");
    let given = bare(
        &stack,
        "RepositoryIndex",
        &[],
        Body::from(framed(b"", false)),
    )
    .await;
    given.refused(Code::Unauthenticated, "send a token");
    for name in ["ServerLive", "ServerReady"] {
        let given = bare(&stack, name, &[], Body::from(framed(b"", false))).await;
        let answer: ServerReadyResponse = given.message();
        assert!(answer.ready, "{name}");
    }
    stack.rows();
    let body = framed(&raw().encode_to_vec(), false);
    let token = format!("Bearer {}", stack.token);
    let late = [("authorization", token.as_str()), ("grpc-timeout", "20m")];
    let (_sender, never) = hostile::held();
    let given = bare(&stack, "ModelInfer", &late, never).await;
    given.refused(Code::DeadlineExceeded, "took longer than 20ms");
    assert_eq!(stack.row().1.status_code, 504);
    let odd = [("grpc-timeout", "1h")];
    let given = send(&stack, "ModelInfer", &odd, body.clone()).await;
    given.refused(Code::InvalidArgument, "grpc-timeout");
    assert_eq!(stack.row().1.status_code, 400);
    let long = [("grpc-timeout", "99999999H")];
    send(&stack, "ModelInfer", &long, body).await.probability();
    stack.stop().await;
}

#[tokio::test]
async fn limits_and_permissions_hold() {
    let stack = Stack::two_versions().await;
    let limits =
        json!({"rate_limits": [{"calls": 2, "key": "endpoint", "renewal_period": "minute"}]});
    let path = format!("{ENDPOINTS}/fraud/rate-limits");
    let answer = stack.send(Method::PUT, &path, &limits).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut last = call(&stack, "ModelInfer", &raw()).await;
    // Three are too many for a minute, and at most one change of minutes lies among five.
    for _ in 0..4 {
        if last.status.code() == Code::Ok {
            last = call(&stack, "ModelInfer", &raw()).await;
        }
    }
    last.refused(Code::ResourceExhausted, "2 calls");
    let wait = last.status.metadata().get("retry-after").unwrap();
    let wait: u32 = wait.to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let rows = stack.rows();
    assert_eq!(rows.last().unwrap().1.status_code, 429);
    stack.stop().await;
}

#[tokio::test]
async fn what_is_no_call_is_told_how_to_call() {
    let stack = Stack::two_versions().await;
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let answer = stack.send(Method::POST, path, &json!({})).await;
    assert!(answer.error(415, "BAD_REQUEST").contains("HTTP/2"));
    // REST over HTTP/2 is what it is over HTTP/1.1, without what only that has.
    let mut connection = stack.connect_two().await;
    let token = format!("Bearer {}", stack.token);
    let request = Request::get(format!("http://test{ENDPOINTS}/fraud"))
        .header("authorization", token)
        .body(Body::empty());
    let answer = connection.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let one = stack.get(&format!("{ENDPOINTS}/fraud")).await;
    let two = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(one.body, two);
    stack.services.serving.begin_drain();
    let request = Request::post("http://test/serving-endpoints/fraud/invocations")
        .header("authorization", format!("Bearer {}", stack.token))
        .body(Body::from(transaction().to_string()));
    let answer = connection.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(!answer.headers().contains_key("connection"), "{answer:?}");
    stack.stop().await;
}
