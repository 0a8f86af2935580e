use super::*;

fn manifest(paths: &[&str]) -> Manifest {
    Manifest {
        name: "main.default.fraud".parse().unwrap(),
        version: ModelVersion::new(3).unwrap(),
        files: paths
            .iter()
            .map(|path| ManifestFile {
                path: (*path).to_owned(),
                size: 4,
                digest: Digest::of(path.as_bytes()),
            })
            .collect(),
    }
}

#[test]
fn a_manifest_survives_its_canonical_bytes() {
    let manifest = manifest(&["MLmodel", "data/golden.json", "model.onnx"]);
    assert_eq!(Manifest::parse(&manifest.bytes()).unwrap(), manifest);
}

#[test]
fn other_spellings_of_the_same_manifest_are_refused() {
    let spaced = [b" ".as_slice(), &manifest(&["a"]).bytes()].concat();
    assert!(matches!(
        Manifest::parse(&spaced),
        Err(ParseManifestError::NotCanonical)
    ));
}

#[test]
fn paths_stay_inside_and_in_order() {
    for bad in [
        "", "/a", "../a", "a/../b", "a//b", "a/", "..", ".", "a\\b", "a b", "...", "ü",
    ] {
        assert!(manifest(&[bad]).validate().is_err(), "{bad}");
    }
    assert!(manifest(&["b", "a"]).validate().is_err());
    assert!(manifest(&["a", "a"]).validate().is_err());
    assert!(manifest(&[]).validate().is_err());
    assert!(manifest(&[".hidden", "a..b"]).validate().is_ok());
}
