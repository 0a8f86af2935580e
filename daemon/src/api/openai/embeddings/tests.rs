use super::*;

#[test]
fn the_path_is_found_under_both_roots() {
    for path in [
        "/v1/embeddings",
        "/v1/embeddings/",
        "/serving-endpoints/embeddings",
    ] {
        assert!(is_at(path), "{path}");
    }
    for path in [
        "/embeddings",
        "/v2/embeddings",
        "/v1/a/embeddings",
        "/serving-endpoints/embeddings/invocations",
    ] {
        assert!(!is_at(path), "{path}");
    }
}

#[test]
fn a_body_is_read_in_all_its_forms() {
    for (json, texts) in [
        (r#"{"model": "m", "input": "a"}"#, 1),
        (r#"{"model": "m", "input": ["a", "b"], "unknown": 1}"#, 2),
        (
            r#"{"model": "m", "input": [1, 2, 3], "encoding_format": "base64"}"#,
            1,
        ),
        (r#"{"model": "m", "input": [[1, 2], [3]]}"#, 2),
    ] {
        struct Each;
        impl Texts for Each {
            fn count(&self, _: &str) -> Result<usize, edgeward_kernels::engine::RunModelError> {
                Ok(1)
            }
            fn decode(
                &self,
                tokens: &[u32],
            ) -> Result<String, edgeward_kernels::engine::RunModelError> {
                Ok(format!("{tokens:?}"))
            }
        }
        let mut request = Request::parse(&Bytes::from_static(json.as_bytes())).unwrap();
        assert_eq!(request.texts(&Each).unwrap().len(), texts, "{json}");
    }
    for (json, message) in [
        ("[]", "no request for embeddings"),
        (r#"{"input": 1}"#, "input must be a text"),
        (r#"{"input": [1, "a"]}"#, "input must be a text"),
        (
            r#"{"input": "a", "encoding_format": "hex"}"#,
            "`float` or `base64`",
        ),
        (
            r#"{"input": "a", "dimensions": -1}"#,
            "no request for embeddings",
        ),
    ] {
        let refused = Request::parse(&Bytes::from_static(json.as_bytes())).unwrap_err();
        assert!(refused.to_string().contains(message), "{refused}");
    }
}

#[test]
fn vectors_are_written_as_numbers_or_as_their_bytes() {
    let mut body = Vec::new();
    write_vector(&mut body, &[0.1, -2.0], Format::Float);
    write_vector(&mut body, &[0.1, -2.0], Format::Base64);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "[0.1,-2.0]\"zczMPQAAAMA=\""
    );
}
