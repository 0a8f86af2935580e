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
        ("something_new", "only flavours onnx, xgboost and lightgbm"),
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
fn boosters_are_taken_as_their_frameworks_save_them() {
    let json = br#"{"learner":{"attributes":{}}}"#;
    let ubjson = b"{L\0\0\0\0\0\0\0\x07learner{";
    let text = b"tree\nversion=v4\n";
    for (name, bytes, path) in [
        ("any.json", json.as_slice(), "model.xgboost"),
        ("any.ubj", ubjson, "model.xgboost"),
        ("any.xgb", ubjson, "model.xgboost"),
        ("any.txt", text, "model.lightgbm"),
        ("any.lgb", text, "model.lightgbm"),
    ] {
        let folder = folder(&[(name, bytes)]);
        assert_eq!(paths(&collect(&folder.path().join(name)).unwrap()), [path]);
    }
    for (name, bytes, says) in [
        (
            "old.xgb",
            b"binf\0\0\0?".as_slice(),
            "save_model(\"model.ubj\")",
        ),
        ("old.lgb", b"\x80\x04", "never loaded"),
        ("other.json", b"{\"a\":1}", "neither"),
        ("tree.txt", b"trees are green", "neither"),
    ] {
        let folder = folder(&[(name, bytes)]);
        let refused = refusal(&folder.path().join(name));
        assert!(refused.contains(says), "{name}: {refused}");
    }
}

#[test]
fn a_directory_of_a_booster_brings_its_file() {
    for (flavor, file) in [("xgboost", "model.json"), ("lightgbm", "data/model.lgb")] {
        let described = format!("flavors: {{{flavor}: {{data: {file}}}, python_function: {{}}}}\n");
        let folder = folder(&[
            ("MLmodel", described.as_bytes()),
            (file, b"{"),
            ("golden.json", b"{}"),
        ]);
        let mut expected = ["MLmodel", "golden.json", file];
        expected.sort_unstable();
        assert_eq!(paths(&collect(folder.path()).unwrap()), expected);
    }
    let described = "flavors: {lightgbm: {data: model.pkl, model_class: lightgbm.LGBMClassifier}}";
    let pickled = folder(&[
        ("MLmodel", described.as_bytes()),
        ("model.pkl", b"\x80\x04"),
    ]);
    let refused = refusal(pickled.path());
    assert!(refused.contains("model.booster_.save_model"), "{refused}");
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
    assert!(refusal(empty.path()).contains("nor a directory of sentence-transformers"));
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
