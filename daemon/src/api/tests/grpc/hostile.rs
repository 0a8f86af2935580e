//! Messages and frames that are not what they say.

use super::*;

/// Sends an inference as it is given, which is refused and leaves its row.
async fn refuse(stack: &Stack, headers: &[(&str, &str)], body: Bytes, code: Code, message: &str) {
    let given = send(stack, "ModelInfer", headers, body).await;
    given.refused(code, message);
    let (_, row) = stack.row();
    let status = match code {
        Code::ResourceExhausted => 413,
        Code::Unimplemented => 415,
        _ => 400,
    };
    assert_eq!(row.status_code, status, "{row:?}");
    let error: Value = serde_json::from_slice(row.response.as_ref().unwrap()).unwrap();
    assert!(
        error["error"].as_str().unwrap().contains(message),
        "{error}"
    );
    let request = row.request.unwrap_or_default();
    assert!(std::str::from_utf8(&request).is_ok(), "{request:?}");
    assert_eq!(stack.services.serving.admission().bytes().0, 0);
}

type Change = fn(&mut ModelInferRequest);

fn parameter() -> InferParameter {
    InferParameter {
        parameter_choice: Some(ParameterChoice::BoolParam(true)),
    }
}

fn asking(r: &mut ModelInferRequest, name: &str, choice: ParameterChoice) {
    r.outputs = vec![output("fraud_probability", &[(name, choice)])];
}

/// Shapes and elements that do not fit, and what is said of them.
const ELEMENTS: [(Change, &str); 12] = [
    (
        |r| r.inputs[0].shape = vec![1, 1_000_000_000],
        "the model takes [-1, 1]",
    ),
    (
        |r| r.inputs[0].shape = vec![1_000_000_000, 1],
        "takes 2000000000",
    ),
    (
        |r| r.inputs[0].shape = vec![i64::MAX, 1],
        "takes 18446744073709551614",
    ),
    (
        |r| r.inputs[2].shape = vec![i64::MAX, 1],
        "more than any memory",
    ),
    (|r| r.inputs[0].shape = vec![-1, 1], "has shape [-1, 1]"),
    (|r| r.inputs[0].shape = vec![0, 1], "at least one row"),
    (|r| r.inputs[0].shape = Vec::new(), "has shape []"),
    (
        |r| r.raw_input_contents[0] = Bytes::from_static(b"abc"),
        "of length 3; shape [1, 1] of FP16 takes 2",
    ),
    (
        |r| r.raw_input_contents[1] = Bytes::from_static(b"\x09\0\0\0online"),
        "claims 9 bytes and 6 are left",
    ),
    (|r| r.inputs[0].datatype = "FP99".into(), "use one of BOOL"),
    (
        |r| r.inputs[0].datatype = "INT16".into(),
        "the model takes FP32",
    ),
    (|r| r.raw_input_contents.clear(), "raw_input_contents"),
];

/// Parts that are too many, too few or not the model's.
const PARTS: [(Change, &str); 14] = [
    (
        |r| drop(r.raw_input_contents.pop()),
        "has 3 parts, and there are 4 inputs",
    ),
    (
        |r| r.raw_input_contents.push(Bytes::new()),
        "5 raw_input_contents, 4 is the most",
    ),
    (
        |r| r.inputs = vec![InferInputTensor::default(); 5000],
        "5000 inputs, 4 is the most",
    ),
    (
        |r| r.inputs[0].contents = typed().inputs[0].contents.clone(),
        "has contents, and the request raw_input_contents",
    ),
    (
        |r| r.inputs[0].name = "stranger".into(),
        "the model has no input \"stranger\"",
    ),
    (|r| r.inputs[3].name = "amount".into(), "is given twice"),
    (
        |r| {
            r.inputs.pop();
            r.raw_input_contents.pop();
        },
        "[\"is_foreign\"] are missing",
    ),
    (|r| r.outputs = vec![output("z", &[])], "no output \"z\""),
    (
        |r| r.outputs = vec![output("z", &[]); 2],
        "2 outputs, 1 is the most",
    ),
    (
        |r| asking(r, "binary_data", ParameterChoice::BoolParam(true)),
        "classification is",
    ),
    (
        |r| asking(r, "classification", ParameterChoice::Int64Param(-1)),
        "whole number",
    ),
    (
        |r| drop(r.parameters.insert("priority".into(), parameter())),
        "\"priority\" of the request",
    ),
    (
        |r| {
            let parameters = &mut r.inputs[0].parameters;
            parameters.insert("shared_memory_region".into(), parameter());
        },
        "is not supported here",
    ),
    (
        |r| r.parameters = (0..500).map(|n| (n.to_string(), parameter())).collect(),
        "500 parameters, 256 is the most",
    ),
];

#[tokio::test]
async fn what_the_message_says_is_compared_with_the_model() {
    let stack = Stack::two_versions().await;
    for (change, message) in ELEMENTS.into_iter().chain(PARTS) {
        let mut request = raw();
        change(&mut request);
        let body = framed(&request.encode_to_vec(), false);
        refuse(&stack, &[], body, Code::InvalidArgument, message).await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn frames_that_are_none_are_refused() {
    let stack = Stack::two_versions().await;
    let good = framed(&raw().encode_to_vec(), false);
    let claiming = |length: u32| {
        [&[0], &length.to_be_bytes()[..], &good[5..]]
            .concat()
            .into()
    };
    let length = u32::try_from(good.len() - 5).unwrap();
    let flagged = |flag: u8| [&[flag], &good[1..]].concat().into();
    for (body, message) in [
        (Bytes::new(), "the call has no message"),
        (good.slice(..3), "ends after 3 of the 5 bytes"),
        (
            good.slice(..good.len() - 1),
            "claims 1 bytes more than there are",
        ),
        (claiming(length + 9), "claims 9 bytes more"),
        (claiming(15_000_000), "bytes more than there are"),
        // Cut a byte too early, and what is left behind the message is none.
        (claiming(length - 1), "bytes follow it"),
        ([&good[..], &good[..]].concat().into(), "bytes follow it"),
        (flagged(2), "its first byte is 2"),
        (flagged(1), "no grpc-encoding says how"),
        (framed(b"\xff\xff", false), "no ModelInferRequest"),
        (framed(b"{\"inputs\": []}", false), "no ModelInferRequest"),
    ] {
        refuse(&stack, &[], body, Code::InvalidArgument, message).await;
    }
    refuse(
        &stack,
        &[],
        claiming(u32::MAX),
        Code::ResourceExhausted,
        "over the limit",
    )
    .await;
    stack.stop().await;
}

#[tokio::test]
async fn a_message_that_expands_beyond_the_limit_is_refused() {
    let stack = Stack::two_versions().await;
    let limit = usize::try_from(stack.services.serving.limits().body.0).unwrap();
    let bomb = Encoding::Gzip.compress(&vec![0; 2 * limit]).unwrap();
    assert!(bomb.len() < limit / 100);
    let gzip = [("grpc-encoding", "gzip")];
    let code = Code::ResourceExhausted;
    refuse(&stack, &gzip, framed(&bomb, true), code, "over the limit").await;
    let code = Code::InvalidArgument;
    refuse(
        &stack,
        &gzip,
        framed(&bomb[..100], true),
        code,
        "cannot be expanded",
    )
    .await;
    let brotli = [("grpc-encoding", "br")];
    let code = Code::Unimplemented;
    refuse(&stack, &brotli, framed(&bomb, true), code, "gzip, deflate").await;
    stack.stop().await;
}

#[tokio::test]
async fn nothing_is_admitted_for_what_is_only_claimed() {
    let stack = Stack::two_versions().await;
    let (sender, body) = held();
    let token = format!("Bearer {}", stack.token);
    let headers = [("authorization", token.as_str())];
    let asked = bare(&stack, "ModelInfer", &headers, body);
    let admission = stack.services.serving.admission();
    let watched = async {
        let claim = [&[0][..], &15_000_000_u32.to_be_bytes(), &[0; 100]].concat();
        sender.send(claim.into()).await.unwrap();
        while admission.bytes().0 == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.bytes().0, 100);
        drop(sender);
    };
    let (given, ()) = tokio::join!(asked, watched);
    given.refused(Code::InvalidArgument, "claims 14999900 bytes more");
    assert_eq!(admission.bytes().0, 0);
    stack.stop().await;
}

#[tokio::test]
async fn what_a_client_says_at_length_is_not_said_back() {
    let stack = Stack::two_versions().await;
    let changes: [(Change, &str); 6] = [
        (
            |r| r.inputs[0].shape = vec![1; 60],
            "and 44 more, the model takes [-1, 1]",
        ),
        (|r| r.inputs[0].shape = vec![1; 1 << 20], "64 extents"),
        (
            |r| r.inputs[0].datatype = "F".repeat(1 << 20),
            "use one of BOOL",
        ),
        (
            |r| {
                asking(r, "priority", ParameterChoice::BoolParam(true));
                r.outputs[0].name = "z".repeat(1 << 20);
            },
            "is not supported here",
        ),
        (|r| r.model_name = "m".repeat(1 << 20), "255 is the most"),
        (|r| r.model_version = "1".repeat(256), "255 is the most"),
    ];
    for (change, message) in changes {
        let mut request = raw();
        change(&mut request);
        let given = call(&stack, "ModelInfer", &request).await;
        given.refused(Code::InvalidArgument, message);
        assert!(given.status.message().len() < 500, "{given:?}");
    }
    let mut lying = typed();
    let many = [&[0x1a, 0x80, 0x80, 0x40][..], &[7; 1 << 20]].concat();
    lying.inputs[2].contents = Some(Message::decode(&many[..]).unwrap());
    let given = call(&stack, "ModelInfer", &lying).await;
    given.refused(Code::InvalidArgument, "1048576 elements in its contents");
    stack.stop().await;
}

#[tokio::test]
async fn refused_calls_leave_their_connection_to_the_good_ones() {
    let stack = Stack::two_versions().await;
    let mut connection = stack.connect_two().await;
    let long = framed(&vec![0; 200 << 10], false);
    for _ in 0..3 {
        let calls = (0..100).map(|_| {
            let request = request("ModelInfer", &[], Body::from(long.clone()));
            connection.send_request(request)
        });
        for answer in futures_util::future::join_all(calls).await {
            let status = Status::from_header_map(answer.unwrap().headers());
            assert_eq!(status.unwrap().code(), Code::Unauthenticated);
        }
    }
    let token = format!("Bearer {}", stack.token);
    let good = framed(&raw().encode_to_vec(), false);
    let good = request("ModelInfer", &[("authorization", &token)], good.into());
    let answer = connection.send_request(good).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    let status = Status::from_header_map(answer.trailers().unwrap());
    assert_eq!(status.unwrap().code(), Code::Ok);
    stack.stop().await;
}

/// A body that is sent piece by piece.
pub(super) fn held() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((
            Ok::<_, std::convert::Infallible>(Frame::data(piece)),
            receiver,
        ))
    });
    (sender, Body::new(StreamBody::new(frames)))
}
