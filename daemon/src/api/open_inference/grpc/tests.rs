use super::*;

const PROTO: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proto/inference.proto"
));

#[test]
fn the_messages_are_made_of_the_file_that_stands_beside_them() {
    let text = include_str!("messages.rs");
    let hash = blake3::hash(PROTO).to_hex();
    let command = "cargo run --manifest-path daemon/proto/generate/Cargo.toml && cargo fmt --all";
    assert!(
        text.contains(hash.as_str()),
        "made of another file; run: {command}"
    );
}

#[test]
fn every_call_of_the_service_is_known() {
    let text = std::str::from_utf8(PROTO).unwrap();
    let source = include_str!("service.rs");
    let calls = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc "));
    let names: Vec<&str> = calls.filter_map(|call| call.split('(').next()).collect();
    assert_eq!(names.len(), 12);
    for name in names.iter().filter(|name| !name.ends_with("Infer")) {
        assert!(source.contains(&format!("\"{name}\" =>")), "{name}");
    }
}

#[test]
fn times_are_read_as_grpc_writes_them() {
    for (text, millis) in [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("4m", 4)] {
        assert_eq!(
            duration(text),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    assert_eq!(duration("5u"), Some(Duration::from_micros(5)));
    assert_eq!(
        duration("99999999n"),
        Some(Duration::from_nanos(99_999_999))
    );
    for text in ["", "S", "1", "1s", "123456789S", "+1S", "1.5S", "-1S", "1é"] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn a_call_is_known_by_its_head() {
    let head = |version: Version, method: Method, content_type: &str| {
        let request = hyper::Request::builder()
            .version(version)
            .method(method)
            .header(CONTENT_TYPE, content_type)
            .body(());
        request.unwrap().into_parts().0
    };
    for good in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;x=y",
    ] {
        assert!(is_at(&head(Version::HTTP_2, Method::POST, good)), "{good}");
    }
    for wrong in [
        "application/grpc-web",
        "application/grpc+json",
        "application/json",
    ] {
        assert!(
            !is_at(&head(Version::HTTP_2, Method::POST, wrong)),
            "{wrong}"
        );
    }
    assert!(!is_at(&head(
        Version::HTTP_11,
        Method::POST,
        "application/grpc"
    )));
    assert!(!is_at(&head(
        Version::HTTP_2,
        Method::GET,
        "application/grpc"
    )));
}
