use super::*;

fn names(path: &str) -> Option<(String, Option<String>)> {
    target(path).map(|target| {
        let version = match target.wanted {
            Version::Split => None,
            Version::Version(version) => Some(version.into_owned()),
            Version::Named(name) => panic!("no path of this dialect names {name}"),
        };
        (target.endpoint.into_owned(), version)
    })
}

#[test]
fn an_inference_is_found_by_its_last_segment() {
    for (path, endpoint, version) in [
        ("/v2/models/fraud/infer", "fraud", None),
        ("/v2/models/fraud/infer/", "fraud", None),
        ("/v2/models/infer/infer", "infer", None),
        ("/v2/models/stats/infer", "stats", None),
        (
            "/v2/models/fraud%2Ddetection/infer",
            "fraud-detection",
            None,
        ),
        ("/v2/models/fraud/versions/3/infer", "fraud", Some("3")),
    ] {
        let expected = (endpoint.to_owned(), version.map(str::to_owned));
        assert_eq!(names(path), Some(expected), "{path}");
    }
    for path in [
        "/v2/models/infer",
        "/v2/models//infer",
        "/v2/models/fraud",
        "/v2/models/a/b/infer",
        "/v2/models/a/versions/infer",
        "/v2/models/a/versions//infer",
        "/v2/models/a/versions/1/2/infer",
        "/v2/infer",
    ] {
        assert_eq!(names(path), None, "{path}");
    }
}

#[test]
fn raw_tensors_are_shown_as_text_until_a_row_would_not_keep_them() {
    let text = shown(br#"{"inputs":[]}"#, &[0, 255]).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"header": {"inputs": []}, "binary_data": "AP8="})
    );
    assert_eq!(shown(b"{}", &vec![0; MOST_SHOWN + 1]), None);
}
