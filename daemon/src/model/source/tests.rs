//! What can be imported and what cannot.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::onnx_files::tests::with_external;

const ONNX: &str = "flavors: {onnx: {data: model.onnx}}\n";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn paths(found: &[SourceFile]) -> Vec<&str> {
    found.iter().map(|file| file.path.as_str()).collect()
}

/// The refusal and everything below it.
fn refusal(path: &Path) -> String {
    let error = collect(path).unwrap_err();
    let below = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{error}: {below}")
}

#[test]
fn a_directory_gives_the_files_that_matter() {
    let graph = with_external(&["weights.bin", "more/weights.bin"]);
    let folder = folder(&[
        ("MLmodel", ONNX.as_bytes()),
        ("model.onnx", &graph),
        ("weights.bin", b"w"),
        ("more/weights.bin", b"w"),
        ("unused.bin", b"u"),
        ("serving_input_example.json", b"{}"),
        ("requirements.txt", b"onnx"),
    ]);
    let found = collect(folder.path()).unwrap();
    assert_eq!(
        paths(&found),
        [
            "MLmodel",
            "model.onnx",
            "more/weights.bin",
            "serving_input_example.json",
            "weights.bin"
        ]
    );
    assert_eq!(collect(&folder.path().join("MLmodel")).unwrap(), found);
}

#[test]
fn a_bare_graph_brings_its_external_data() {
    let folder = folder(&[
        ("net.onnx", &with_external(&["net.data"])),
        ("net.data", b"w"),
    ]);
    let found = collect(&folder.path().join("net.onnx")).unwrap();
    assert_eq!(paths(&found), ["model.onnx", "net.data"]);
}

#[test]
fn what_must_be_converted_is_refused_with_what_to_convert_it_to() {
    for (name, bytes, says) in [
        ("model.pkl", b"\x80\x04".as_slice(), "skl2onnx"),
        ("model.joblib", b"x", "skl2onnx"),
        ("model.skops", b"PK\x03\x04", "skl2onnx"),
        ("model.pth", b"PK\x03\x04", "torch.onnx.export"),
        ("model.onnx", b"\x80\x05\x95", "skl2onnx"),
        ("model.onnx", b"PK\x03\x04zip", "torch.onnx.export"),
        ("model.ubj", b"{", "convert_xgboost"),
        ("model.lgb", b"tree", "convert_lightgbm"),
    ] {
        let folder = folder(&[(name, bytes)]);
        let refused = refusal(&folder.path().join(name));
        assert!(refused.contains(says), "{name}: {refused}");
        if !name.ends_with(".onnx") {
            assert!(
                refusal(folder.path()).contains(says),
                "a directory with {name}"
            );
        }
    }
    for (flavor, says) in [
        ("sklearn", "skl2onnx"),
        ("pytorch", "torch.onnx.export"),
        ("xgboost", "convert_xgboost"),
        ("something_new", "only flavour onnx"),
    ] {
        let text = format!("flavors: {{{flavor}: {{data: x}}, python_function: {{data: x}}}}\n");
        let text = if flavor == "something_new" {
            "flavors: {something_new: {}}\n".to_owned()
        } else {
            text
        };
        let folder = folder(&[("MLmodel", text.as_bytes()), ("x", b"x")]);
        let refused = refusal(folder.path());
        assert!(
            refused.contains(flavor) && refused.contains(says),
            "{refused}"
        );
    }
}

#[test]
fn nothing_outside_the_directory_is_read() {
    let outside = folder(&[("secret", b"s")]);
    let secret = outside.path().join("secret");
    for name in [
        "../secret",
        "/etc/hostname",
        "a/../../secret",
        "./model.onnx/..",
    ] {
        let text = format!("flavors: {{onnx: {{data: {name}}}}}\n");
        let refused = refusal(folder(&[("MLmodel", text.as_bytes())]).path());
        assert!(
            refused.contains("leaves the model's directory"),
            "{name}: {refused}"
        );
    }
    let linked = folder(&[("MLmodel", ONNX.as_bytes())]);
    symlink(&secret, linked.path().join("model.onnx")).unwrap();
    assert!(refusal(linked.path()).contains("leaves"));
    for location in ["../secret", "/etc/hostname"] {
        let graph = with_external(&[location]);
        let refused =
            refusal(folder(&[("MLmodel", ONNX.as_bytes()), ("model.onnx", &graph)]).path());
        assert!(refused.contains("leaves"), "{location}: {refused}");
    }
}

#[test]
fn what_is_no_model_says_so() {
    let empty = folder(&[("readme.txt", b"hello")]);
    assert!(refusal(empty.path()).contains("neither an .onnx file nor an MLflow"));
    assert!(refusal(&empty.path().join("readme.txt")).contains("neither"));
    assert!(refusal(&empty.path().join("nothing.onnx")).contains("cannot read"));
    let broken = folder(&[("model.onnx", b"not a protobuf at all")]);
    assert!(refusal(&broken.path().join("model.onnx")).contains("is not an ONNX graph"));
    let missing = folder(&[("MLmodel", ONNX.as_bytes())]);
    assert!(refusal(missing.path()).contains("cannot read"));
}

proptest! {
    #[test]
    fn any_mlmodel_file_is_read_or_refused(text in "\\PC{0,200}") {
        let folder = folder(&[("MLmodel", text.as_bytes())]);
        prop_assert!(collect(folder.path()).is_err());
    }
}
