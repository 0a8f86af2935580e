use super::*;

fn names(path: &str) -> Option<(String, Option<String>)> {
    target(path).map(|target| {
        let served_entity = match target.wanted {
            Wanted::Split => None,
            Wanted::Named(name) => Some(name.into_owned()),
            Wanted::Version(version) => panic!("no path of this dialect names {version}"),
        };
        (target.endpoint.into_owned(), served_entity)
    })
}

#[test]
fn an_invocation_is_found_by_its_last_segments() {
    for (path, endpoint) in [
        ("/serving-endpoints/fraud/invocations", "fraud"),
        ("/serving-endpoints/fraud/invocations/", "fraud"),
        ("/serving-endpoints/chat/invocations", "chat"),
        ("/serving-endpoints/pt/invocations", "pt"),
        (
            "/serving-endpoints/served-models/invocations",
            "served-models",
        ),
        ("/serving-endpoints/invocations/invocations", "invocations"),
        (
            "/serving-endpoints/fraud%2Ddetection/invocations",
            "fraud-detection",
        ),
        ("/serving-endpoints/%zz/invocations", "%zz"),
        ("/serving-endpoints/%e9%81/invocations", "%e9%81"),
    ] {
        assert_eq!(names(path), Some((endpoint.to_owned(), None)), "{path}");
    }
    assert_eq!(
        names("/serving-endpoints/fraud/served-models/fraud-3/invocations"),
        Some(("fraud".to_owned(), Some("fraud-3".to_owned())))
    );
}

#[test]
fn other_paths_are_left_to_the_router() {
    for path in [
        "/serving-endpoints/invocations",
        "/serving-endpoints//invocations",
        "/serving-endpoints/chat/completions",
        "/serving-endpoints/a/b/invocations",
        "/serving-endpoints/a/served-models/invocations",
        "/serving-endpoints/a/served-models//invocations",
        "/serving-endpoints/a/served-models/b/c/invocations",
        "/api/2.0/serving-endpoints/a/invocations",
        "/invocations",
        "/",
    ] {
        assert_eq!(names(path), None, "{path}");
    }
}
