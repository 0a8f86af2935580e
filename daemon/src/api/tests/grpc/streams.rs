//! Inferences over one call.

use super::hostile::held;
use super::*;
use crate::api::open_inference::grpc::messages::ModelStreamInferResponse;

/// The messages of an answer.
fn answers(mut body: &[u8]) -> Vec<ModelStreamInferResponse> {
    let mut answers = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
        let (message, rest) = body[5..].split_at(length.try_into().unwrap());
        answers.push(ModelStreamInferResponse::decode(message).unwrap());
        body = rest;
    }
    answers
}

#[tokio::test]
async fn each_message_of_a_stream_has_its_answer_and_its_row() {
    let stack = Stack::two_versions().await;
    let good = framed(&raw().encode_to_vec(), false);
    let unknown = ModelInferRequest {
        model_name: "stranger".to_owned(),
        ..raw()
    };
    let unknown = framed(&unknown.encode_to_vec(), false);
    let gzip = framed(
        &Encoding::Gzip
            .compress(&raw().encode_to_vec().repeat(20))
            .unwrap(),
        true,
    );
    let broken = framed(&gzip[5..50], true);
    // Refused at its first bytes: the others are passed over.
    let garbage = framed(&[b'x'; 100], true);
    let body = [
        good.clone(),
        unknown,
        broken,
        framed(b"\xff", false),
        garbage,
        good,
    ]
    .concat();
    // As it comes off a network: in pieces that begin and end anywhere.
    let (sender, pieces) = held();
    let token = format!("Bearer {}", stack.token);
    let headers = [("authorization", token.as_str()), ("grpc-encoding", "gzip")];
    let asked = bare(&stack, "ModelStreamInfer", &headers, pieces);
    let sent = async {
        for piece in body.chunks(7) {
            sender.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        drop(sender);
    };
    let (given, ()) = tokio::join!(asked, sent);
    assert_eq!(given.status.code(), Code::Ok, "{given:?}");
    let answers = answers(&given.body);
    let errors: Vec<&str> = answers
        .iter()
        .map(|answer| answer.error_message.as_str())
        .collect();
    assert_eq!(errors.len(), 6, "{errors:?}");
    assert!(errors[0].is_empty() && errors[5].is_empty(), "{errors:?}");
    assert!(
        errors[1].contains("\"stranger\" does not exist"),
        "{errors:?}"
    );
    assert!(errors[2].contains("cannot be expanded"), "{errors:?}");
    assert!(errors[3].contains("no ModelInferRequest"), "{errors:?}");
    assert!(errors[4].contains("cannot be expanded"), "{errors:?}");
    let first = answers[0].infer_response.as_ref().unwrap();
    assert_eq!(answers[5].infer_response.as_ref(), Some(first));
    assert_eq!(first.id, "r-7");
    let rows = stack.rows();
    let statuses: Vec<u16> = rows.iter().map(|(_, row)| row.status_code).collect();
    assert_eq!(statuses, [200, 404, 400, 400, 400, 200]);
    let (request, response) = texts(&rows[0].1);
    assert_eq!(request["header"]["id"], "r-7");
    assert_eq!(response["header"]["model_version"], "3");
    let (request, response) = texts(&rows[1].1);
    assert_eq!(request["header"], Value::Null);
    assert!(response["error"].as_str().unwrap().contains("stranger"));
    stack.stop().await;
}

#[tokio::test]
async fn a_stream_whose_next_message_is_lost_ends_with_a_status() {
    let stack = Stack::two_versions().await;
    let good = framed(&raw().encode_to_vec(), false);
    for (tail, code, message) in [
        (
            &b"\x07\0\0\0\0"[..],
            Code::InvalidArgument,
            "its first byte is 7",
        ),
        (
            b"\0\0\0\0\x09abc",
            Code::InvalidArgument,
            "claims 6 bytes more",
        ),
        (
            b"\0\xff\xff\xff\xff",
            Code::ResourceExhausted,
            "over the limit",
        ),
    ] {
        let body = [&good[..], tail].concat().into();
        let given = send(&stack, "ModelStreamInfer", &[], body).await;
        assert_eq!(given.status.code(), code, "{given:?}");
        assert!(given.status.message().contains(message), "{given:?}");
        assert_eq!(answers(&given.body).len(), 1);
        assert_eq!(stack.rows().len(), 2);
    }
    let given = bare(&stack, "ModelStreamInfer", &[], Body::from(good)).await;
    given.refused(Code::Unauthenticated, "send a token");
    stack.stop().await;
}

#[tokio::test]
async fn a_stream_that_waits_ends_with_its_time_or_with_the_process() {
    let stack = Stack::two_versions().await;
    let token = format!("Bearer {}", stack.token);
    let (_sender, body) = held();
    let headers = [("authorization", token.as_str()), ("grpc-timeout", "20m")];
    let given = bare(&stack, "ModelStreamInfer", &headers, body).await;
    assert_eq!(given.status.code(), Code::DeadlineExceeded, "{given:?}");

    let (sender, body) = held();
    let asked = bare(&stack, "ModelStreamInfer", &headers[..1], body);
    let stopped = async {
        sender
            .send(framed(&raw().encode_to_vec(), false))
            .await
            .unwrap();
        while stack.rows().is_empty() {
            tokio::task::yield_now().await;
        }
        stack.services.serving.begin_drain();
    };
    let (given, ()) = tokio::join!(asked, stopped);
    assert_eq!(given.status.code(), Code::Unavailable, "{given:?}");
    assert_eq!(answers(&given.body).len(), 1);
    stack.stop().await;
}
