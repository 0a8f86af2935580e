use std::path::Path;

use super::*;

/// The root of the workspace that this crate stands in.
fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_house_is_tidy() {
    let findings = check(&workspace().canonicalize().unwrap()).unwrap();
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        report.len(),
        report.join("\n")
    );
}

/// A small tree with every crate that a case needs, each clean.
struct SmallTree(tempfile::TempDir);

impl SmallTree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"*\", \"outside/*\"]\n",
        );
        for (folder, name) in [
            ("daemon", "edgeward"),
            ("kernels", "edgeward-kernels"),
            ("outside/sled", "sled"),
            ("outside/openssl", "openssl"),
        ] {
            tree.write_crate(folder, name, "");
        }
        // The folder that holds the outside crates is none itself.
        tree.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"daemon\", \"kernels\"]\n",
        );
        tree
    }

    fn write_crate(&self, folder: &str, name: &str, dependencies: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{dependencies}"
        );
        self.write(&format!("{folder}/Cargo.toml"), &manifest);
        self.write(&format!("{folder}/src/lib.rs"), "//! A crate.\n");
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The rules that the tree breaks.
    fn broken(&self) -> Vec<(&'static str, String)> {
        let root = self.0.path().canonicalize().unwrap();
        check(&root)
            .unwrap()
            .into_iter()
            .map(|found| (found.rule, found.file))
            .collect()
    }

    fn assert_breaks(&self, rule: &'static str, file: &str) {
        assert_eq!(self.broken(), [(rule, file.to_owned())]);
    }
}

#[test]
fn a_clean_tree_breaks_nothing() {
    assert_eq!(SmallTree::new().broken(), []);
}

#[test]
fn an_edge_that_is_not_drawn_is_found() {
    let tree = SmallTree::new();
    tree.write_crate(
        "kernels",
        "edgeward-kernels",
        "[dependencies]\nedgeward = { path = \"../daemon\" }\n",
    );
    tree.assert_breaks("edge", "kernels/Cargo.toml");
}

#[test]
fn an_outside_crate_on_the_wrong_side_of_its_wall_is_found() {
    let tree = SmallTree::new();
    tree.write_crate(
        "kernels",
        "edgeward-kernels",
        "[dependencies]\nsled = { path = \"../outside/sled\" }\n",
    );
    tree.assert_breaks("wall", "kernels/Cargo.toml");
}

#[test]
fn a_banned_crate_is_found() {
    let tree = SmallTree::new();
    tree.write_crate(
        "daemon",
        "edgeward",
        "[dependencies]\nopenssl = { path = \"../outside/openssl\" }\n",
    );
    tree.assert_breaks("banned", "Cargo.lock");
}

#[test]
fn a_use_of_a_layer_above_is_found_in_every_spelling() {
    for text in [
        "use crate::api::Server;",
        "use crate::{api::Server, tasks};",
        "use super::api as above;",
        "fn f() -> crate::api::Server { crate::api::Server }",
        "fn f() { println!(\"{}\", crate::api::COUNT); }",
        "mod inside { use super::super::api::Server; }",
    ] {
        let tree = SmallTree::new();
        tree.write("daemon/src/store.rs", &format!("//! Store.\n{text}\n"));
        tree.assert_breaks("layer", "daemon/src/store.rs");
    }
}

#[test]
fn a_sideways_use_is_found_and_the_one_arrow_is_not() {
    let tree = SmallTree::new();
    tree.write(
        "daemon/src/endpoint.rs",
        "//! Endpoint.\nuse crate::model::Scorer;\n",
    );
    assert_eq!(tree.broken(), []);
    tree.write(
        "daemon/src/model.rs",
        "//! Model.\nuse crate::gateway::Token;\n",
    );
    tree.assert_breaks("layer", "daemon/src/model.rs");
}

#[test]
fn tests_may_look_anywhere() {
    let tree = SmallTree::new();
    tree.write(
        "daemon/src/store.rs",
        "//! Store.\n#[cfg(test)]\nmod tests {\n    use crate::api::Server;\n}\n",
    );
    assert_eq!(tree.broken(), []);
}

#[test]
fn a_file_declared_for_tests_is_test_code_and_one_that_is_not_is_none() {
    let tree = SmallTree::new();
    tree.write(
        "kernels/src/golden.rs",
        "//! Golden.\nfn f(v: Option<u8>) { v.unwrap(); }\n",
    );
    tree.write(
        "kernels/src/lib.rs",
        "//! A crate.\n#[cfg(test)]\nmod golden;\n",
    );
    assert_eq!(tree.broken(), []);
    tree.write("kernels/src/lib.rs", "//! A crate.\nmod golden;\n");
    tree.assert_breaks("panic", "kernels/src/golden.rs");
}

#[test]
fn a_module_without_a_layer_is_found() {
    let tree = SmallTree::new();
    tree.write("daemon/src/attic.rs", "//! Attic.\n");
    tree.assert_breaks("layer", "daemon/src/attic.rs");
}

#[test]
fn a_cycle_of_modules_is_found() {
    let tree = SmallTree::new();
    tree.write("kernels/src/a.rs", "//! A.\nuse crate::b::B;\n");
    tree.write("kernels/src/b.rs", "//! B.\nuse crate::c::C;\n");
    tree.write("kernels/src/c.rs", "//! C.\nuse crate::a::A;\n");
    tree.assert_breaks("cycle", "kernels/src");
}

#[test]
fn long_files_and_functions_are_found() {
    let tree = SmallTree::new();
    let lines = |count| "    let _ = 1;\n".repeat(count);
    tree.write(
        "kernels/src/a.rs",
        &format!("//! A.\nfn f() {{\n{}}}\n", lines(68)),
    );
    assert_eq!(tree.broken(), []);
    tree.write(
        "kernels/src/a.rs",
        &format!("//! A.\nfn f() {{\n{}}}\n", lines(69)),
    );
    tree.assert_breaks("size", "kernels/src/a.rs");
    tree.write(
        "kernels/src/a.rs",
        &format!("//! A.\n{}", "// line\n".repeat(600)),
    );
    tree.assert_breaks("size", "kernels/src/a.rs");
}

#[test]
fn a_bare_unwrap_is_found_and_a_stated_one_is_not() {
    let tree = SmallTree::new();
    tree.write(
        "kernels/src/a.rs",
        "//! A.\n#[expect(clippy::unwrap_used, reason = \"never empty\")]\nfn f(v: Option<u8>) { v.unwrap(); }\n\
         #[cfg(test)]\nmod tests { fn g(v: Option<u8>) { v.unwrap(); } }\n",
    );
    assert_eq!(tree.broken(), []);
    for text in ["v.unwrap();", "v.expect(\"there\");"] {
        tree.write(
            "kernels/src/a.rs",
            &format!("//! A.\nfn f(v: Option<u8>) {{ {text} }}\n"),
        );
        tree.assert_breaks("panic", "kernels/src/a.rs");
    }
}

#[test]
fn names_and_heads_are_checked() {
    let tree = SmallTree::new();
    tree.write("kernels/src/a/mod.rs", "//! A.\n");
    tree.assert_breaks("name", "kernels/src/a/mod.rs");
    let tree = SmallTree::new();
    tree.write("kernels/src/utils.rs", "//! Utils.\n");
    tree.assert_breaks("name", "kernels/src/utils.rs");
    let tree = SmallTree::new();
    tree.write("kernels/src/a.rs", "fn f() {}\n");
    tree.assert_breaks("head", "kernels/src/a.rs");
}

#[test]
fn spawning_naming_the_database_and_stubs_are_found() {
    for (rule, text) in [
        ("spawn", "fn f() { tokio::spawn(async {}); }"),
        ("spawn", "fn f() { std::thread::spawn(|| {}); }"),
        ("database", "fn f(tree: sled::Tree) {}"),
        ("stub", "fn f() { todo!(); }"),
    ] {
        let tree = SmallTree::new();
        tree.write("daemon/src/api.rs", &format!("//! Api.\n{text}\n"));
        tree.assert_breaks(rule, "daemon/src/api.rs");
    }
}

#[test]
fn documents_that_name_missing_files_are_found() {
    let tree = SmallTree::new();
    tree.write(
        "README.md",
        "See `daemon/src/lib.rs` and [it](daemon/Cargo.toml).\n",
    );
    assert_eq!(tree.broken(), []);
    for text in [
        "See `daemon/src/gone.rs`.",
        "See [it](gone.md).",
        "See `GONE.md`.",
    ] {
        tree.write("README.md", text);
        tree.assert_breaks("prose", "README.md");
    }
}

#[test]
fn a_path_of_one_machine_is_found() {
    let tree = SmallTree::new();
    tree.write(
        "kernels/src/a.rs",
        "//! A.\nconst P: &str = \"/home/somebody/box\";\n",
    );
    tree.assert_breaks("machine", "kernels/src/a.rs");
}
