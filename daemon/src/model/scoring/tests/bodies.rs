//! The body around the rows.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::scoring::{InputForm, Mistake, parse_scoring_body};

#[test]
fn the_form_and_what_rides_along_are_read() {
    let body = br#" {"client_request_id":"r1","usage_context":{"team":"x"},"params":{"k":[1]},
        "inputs": {"a": [1]} } "#;
    let request = parse_scoring_body(&Bytes::from_static(body)).unwrap();
    assert_eq!(request.input.form(), InputForm::Inputs);
    assert_eq!(request.input.text(), br#"{"a": [1]}"#);
    assert_eq!(request.client_request_id.as_deref(), Some("r1"));
    assert_eq!(
        request.usage_context,
        BTreeMap::from([("team".to_owned(), "x".to_owned())])
    );
    let body = br#"{"instances":[],"client_request_id":null,"usage_context":null}"#;
    let request = parse_scoring_body(&Bytes::from_static(body)).unwrap();
    assert_eq!(
        (request.client_request_id, request.usage_context),
        (None, BTreeMap::new())
    );
}

#[test]
fn anything_but_one_form_is_a_bad_request() {
    for (body, says) in [
        ("", "empty"),
        ("  \n", "empty"),
        ("{}", "none of the input forms"),
        ("[]", "must be a JSON object"),
        ("[{\"a\":1}]", "must be a JSON object"),
        ("3", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{\"inputs\":", "not valid JSON"),
        ("{\"inputs\":[1,]}", "not valid JSON"),
        ("{\"inputs\":[1]} x", "not valid JSON"),
        ("amount,hour\n1,2\n", "not valid JSON"),
        ("{\"inputs\":NaN}", "not valid JSON"),
        ("{\"inputs\":[1],\"instances\":[1]}", "inputs and instances"),
        ("{\"inputs\":[1],\"inputs\":[1]}", "inputs and inputs"),
        ("{\"messages\":[]}", "unknown key \"messages\""),
        ("{\"inputs\":[1],\"input\":[1]}", "unknown key \"input\""),
        ("{\"params\":{}}", "none of the input forms"),
        (
            "{\"inputs\":[1],\"client_request_id\":1}",
            "client_request_id must be a string",
        ),
        (
            "{\"inputs\":[1],\"usage_context\":{\"a\":1}}",
            "usage_context must be an object of strings",
        ),
        ("{\"inputs\":[1],\"usage_context\":[]}", "usage_context"),
        ("\u{feff}{\"inputs\":[1]}", "not valid JSON"),
    ] {
        let refused = parse_scoring_body(&Bytes::copy_from_slice(body.as_bytes()))
            .map(|request| request.input.form())
            .expect_err(body);
        assert_eq!(refused.mistake(), Some(Mistake::BadRequest), "{body}");
        assert!(refused.to_string().contains(says), "{body}: {refused}");
    }
    let refused = parse_scoring_body(&Bytes::from_static(b"{\"inputs\":[\"\xff\"]}")).unwrap_err();
    assert_eq!(refused.mistake(), Some(Mistake::BadRequest));
}

#[test]
fn hostile_nesting_is_refused_without_a_crash() {
    for body in [
        format!("{{\"inputs\":{}", "[".repeat(1_000_000)),
        format!(
            "{{\"inputs\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
    ] {
        let scorer = super::matrix_of_four();
        let refused = super::answer(&scorer, &body).unwrap_err();
        assert_eq!(refused.mistake(), Some(Mistake::BadRequest));
    }
}

/// A message quotes what a client sent, and a client may send megabytes.
#[test]
fn a_refusal_is_brief_whatever_it_quotes() {
    let long = "ä\u{85}".repeat(100_000);
    for body in [
        format!("{{\"inputs\":{{\"X\":[[\"{long}\"]]}}}}"),
        format!("{{\"dataframe_split\":\"{long}\"}}"),
        format!("{{\"dataframe_split\":{{\"columns\":\"{long}\"}}}}"),
        format!("{{\"{long}\":1}}"),
        format!("\"{long}\""),
    ] {
        let scorer = super::matrix_of_four();
        let refused = super::answer(&scorer, &body).unwrap_err();
        assert_eq!(refused.mistake(), Some(Mistake::BadRequest));
        let length = refused.to_string().len();
        assert!(length < 5_000, "{length} bytes of {}", body.len());
    }
}
