//! Importing and installing.

use std::collections::BTreeSet;
use std::error::Error as _;

use edgeward_base::digest::Digest;
use edgeward_base::durable::{FaultFs, RealFs};

use super::{FakeEngine, GOLDEN, TestBox, model, write_mlflow};
use crate::model::{Compute, FinishedArtifact, ImportModelError, ModelOrigin, RemoveModelError};

#[tokio::test]
async fn a_version_is_catalogued_with_the_files_that_matter() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    let source = site.state.path().join("source");
    write_mlflow(&source, GOLDEN);
    let wanted = model("main.default.sum/1");
    let record = boot.models.import(&source, &wanted).await.unwrap();
    assert_eq!(
        (&record.model, record.origin),
        (&wanted, ModelOrigin::Local)
    );
    assert_eq!(record.imported_at, 1_700_000_000_000_000);
    let manifest = boot.models.manifest(&record.manifest).unwrap();
    let paths: Vec<&str> = manifest
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(paths, ["MLmodel", "golden.json", "model.onnx"]);
    assert_eq!(
        record.size,
        manifest.files.iter().map(|file| file.size).sum::<u64>()
    );
    assert_eq!(boot.models.list().unwrap(), std::slice::from_ref(&record));
    assert!(boot.models.has(&record.manifest).unwrap());
    boot.shut().await;
    let boot = site.boot();
    assert_eq!(boot.models.get(&wanted).unwrap(), Some(record));
    boot.shut().await;
}

#[tokio::test]
async fn a_bare_graph_is_a_model_too() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    let path = site.state.path().join("anything.onnx");
    std::fs::write(&path, [8, 7]).unwrap();
    // Without golden outputs the reference evaluates the graph, and this is none.
    let refused = boot
        .models
        .import(&path, &model("main.default.bare/1"))
        .await
        .unwrap_err();
    assert!(matches!(refused, ImportModelError::Prove(_)), "{refused:?}");
    assert_eq!(boot.models.list().unwrap(), []);
    boot.shut().await;
}

#[tokio::test]
async fn a_version_never_changes() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    let source = site.state.path().join("source");
    let wanted = model("main.default.sum/1");
    write_mlflow(&source, GOLDEN);
    let first = boot.models.import(&source, &wanted).await.unwrap();
    assert_eq!(boot.models.import(&source, &wanted).await.unwrap(), first);
    write_mlflow(&source, r#"{"inputs":{"X":[[1,1]]},"outputs":{"y":[2]}}"#);
    let refused = boot.models.import(&source, &wanted).await.unwrap_err();
    assert!(
        matches!(&refused, ImportModelError::Immutable { there, .. } if *there == first.manifest)
    );
    assert!(refused.is_final() && refused.to_string().contains("another version"));
    assert_eq!(boot.models.list().unwrap(), [first]);
    assert!(
        boot.models
            .import(&source, &model("main.default.sum/2"))
            .await
            .is_ok()
    );
    boot.shut().await;
}

#[tokio::test]
async fn an_engine_that_is_wrong_is_refused_by_name() {
    let site = TestBox::with(vec![FakeEngine::wrong_by("drifter", 0.5)]);
    let boot = site.boot();
    let source = site.state.path().join("source");
    write_mlflow(&source, GOLDEN);
    let refused = boot
        .models
        .import(&source, &model("main.default.sum/1"))
        .await
        .unwrap_err();
    let why = refused.source().unwrap().to_string();
    assert!(
        why.contains("drifter") && why.contains("expected 3.0, got 3.5"),
        "{why}"
    );
    assert!(refused.is_final());
    assert_eq!(boot.models.list().unwrap(), []);
    boot.shut().await;
}

#[tokio::test]
async fn known_answers_that_do_not_fit_are_refused() {
    for (golden, says) in [
        ("[]", "golden.json does not have its form"),
        (
            r#"{"inputs":{"X":[[1]]},"outputs":{"y":[1]}}"#,
            "Shape of input (1, 1)",
        ),
        (
            r#"{"inputs":{"X":[[1,2]]},"outputs":{"z":[3]}}"#,
            "missing inputs [\"y\"]",
        ),
        (
            r#"{"inputs":{"X":[[1,2]]},"outputs":{"y":["3"]}}"#,
            "must hold a number",
        ),
    ] {
        let site = TestBox::with(vec![FakeEngine::named("sum")]);
        let boot = site.boot();
        let source = site.state.path().join("source");
        write_mlflow(&source, golden);
        let refused = boot
            .models
            .import(&source, &model("main.default.sum/1"))
            .await
            .unwrap_err();
        let why = refused.source().unwrap().to_string();
        assert!(why.contains(says), "{why}");
        boot.shut().await;
    }
}

#[tokio::test]
async fn a_failing_disk_leaves_all_of_a_version_or_nothing() {
    let wanted = model("main.default.sum/1");
    let mut failures = 0;
    loop {
        let mut site = TestBox::with(vec![FakeEngine::named("sum")]);
        let source = site.state.path().join("source");
        write_mlflow(&source, GOLDEN);
        site.boot().shut().await;
        let faulty = FaultFs::dying(RealFs::shared(), 0);
        site.fs = std::sync::Arc::new(faulty.clone());
        let boot = site.boot();
        faulty.fail_in(failures + 1);
        let imported = boot.models.import(&source, &wanted).await;
        let listed = boot.models.list().unwrap();
        if let Ok(record) = imported {
            assert_eq!(listed, [record]);
            assert!(failures > 10, "{failures}");
            boot.shut().await;
            break;
        }
        assert_eq!(listed, [], "after {failures} operations");
        assert!(boot.models.load(&wanted, Compute::Any).is_err());
        boot.shut().await;
        // The next attempt is not in the way of what the first one left.
        site.fs = RealFs::shared();
        let boot = site.boot();
        boot.models.import(&source, &wanted).await.unwrap();
        boot.models.load(&wanted, Compute::Any).unwrap();
        boot.shut().await;
        failures += 1;
    }
}

#[tokio::test]
async fn a_fetched_version_is_installed_when_all_of_it_is_there() {
    let (central, site) = (
        TestBox::with(vec![FakeEngine::named("sum")]),
        TestBox::with(vec![FakeEngine::named("sum")]),
    );
    let (from, to) = (central.boot(), site.boot());
    let source = central.state.path().join("source");
    write_mlflow(&source, GOLDEN);
    let wanted = model("main.default.sum/1");
    let sent = from.models.import(&source, &wanted).await.unwrap();
    let manifest = from.models.manifest(&sent.manifest).unwrap();
    let early = to.models.install(&manifest).await.unwrap_err();
    assert!(early.is_lost() && !early.is_final(), "{early:?}");
    for file in &manifest.files {
        let bytes = from
            .models
            .artifacts()
            .read(&file.digest, 0, 1 << 20)
            .unwrap();
        let mut writer = to
            .models
            .artifacts()
            .writer(&file.digest, file.size)
            .unwrap();
        writer.write_at(0, &bytes).unwrap();
        assert_eq!(writer.finish().unwrap(), FinishedArtifact::Complete);
    }
    let installed = to.models.install(&manifest).await.unwrap();
    assert_eq!(
        (installed.manifest, installed.origin),
        (sent.manifest, ModelOrigin::Registry)
    );
    assert_eq!(to.models.install(&manifest).await.unwrap(), installed);
    to.models.load(&wanted, Compute::Any).unwrap();
    from.shut().await;
    to.shut().await;
}

#[tokio::test]
async fn removing_keeps_what_is_in_use_and_what_others_share() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    let source = site.state.path().join("source");
    let (one, two) = (model("main.default.sum/1"), model("main.default.sum/2"));
    write_mlflow(&source, GOLDEN);
    let first = boot.models.import(&source, &one).await.unwrap();
    boot.models.import(&source, &two).await.unwrap();
    let in_use = BTreeSet::from([one.clone()]);
    let refused = boot.models.remove(&one, &in_use).await.unwrap_err();
    assert!(matches!(refused, RemoveModelError::InUse { .. }));
    boot.models.remove(&one, &BTreeSet::new()).await.unwrap();
    assert!(boot.models.get(&one).unwrap().is_none());
    assert_eq!(boot.models.artifacts().size(&first.manifest).unwrap(), None);
    boot.models.load(&two, Compute::Any).unwrap();
    boot.models.remove(&two, &BTreeSet::new()).await.unwrap();
    let graph = Digest::of(&[8, 7]);
    assert_eq!(boot.models.artifacts().size(&graph).unwrap(), None);
    let refused = boot
        .models
        .remove(&two, &BTreeSet::new())
        .await
        .unwrap_err();
    assert!(matches!(refused, RemoveModelError::Unknown { .. }));
    boot.shut().await;
}
