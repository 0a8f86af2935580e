//! Loading: verdicts, the choice among engines, and damage.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_kernels::engine::Engine;
use edgeward_kernels::verify::Verified;

use super::{FakeEngine, GOLDEN, TestBox, input, model, write_mlflow};
use crate::model::{LoadModelVersionError, ModelStore};

const SUM: &str = "main.default.sum/1";

async fn import(site: &TestBox, models: &ModelStore) {
    let source = site.state.path().join("source");
    write_mlflow(&source, GOLDEN);
    models.import(&source, &model(SUM)).await.unwrap();
}

#[tokio::test]
async fn a_loaded_version_scores() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    import(&site, &boot.models).await;
    let scorer = boot.models.load(&model(SUM)).unwrap();
    assert_eq!(
        (scorer.engine(), scorer.verdict().verified),
        ("sum", Verified::Framework)
    );
    let predictions = scorer.score(&input(r#"{"inputs":[[1.5,2]]}"#)).unwrap();
    assert_eq!(predictions.body(), br#"{"predictions":{"y":[3.5]}}"#);
    let unknown = boot.models.load(&model("main.default.sum/2")).unwrap_err();
    assert!(matches!(unknown, LoadModelVersionError::Unknown { .. }));
    boot.shut().await;
}

#[tokio::test]
async fn a_verdict_holds_for_this_build_and_processor() {
    let engine = FakeEngine::named("sum");
    let mut site = TestBox::with(vec![Arc::clone(&engine) as Arc<dyn Engine>]);
    let boot = site.boot();
    import(&site, &boot.models).await;
    boot.shut().await;
    let proved = engine.runs();
    assert!(proved > 0);
    let boot = site.boot();
    let rows = boot.models.load(&model(SUM)).unwrap().session().rows();
    assert_eq!((engine.runs(), engine.loads()), (proved, 2), "proved again");
    assert_eq!(rows, boot.models.load(&model(SUM)).unwrap().verdict().rows);
    boot.shut().await;
    site.fingerprint = "another build";
    let boot = site.boot();
    boot.models.load(&model(SUM)).unwrap();
    assert!(engine.runs() > proved, "not proved again");
    boot.shut().await;
}

#[tokio::test]
async fn of_several_engines_the_quickest_that_is_right_serves() {
    let clock = TestClock::at(0);
    let slow = FakeEngine::taking("slow", &clock, Duration::from_millis(5));
    let quick = FakeEngine::taking("quick", &clock, Duration::from_millis(1));
    let mut site = TestBox::with(vec![slow, FakeEngine::wrong_by("wrong", 1.0), quick]);
    site.clock = clock;
    let boot = site.boot();
    import(&site, &boot.models).await;
    assert_eq!(boot.models.load(&model(SUM)).unwrap().engine(), "quick");
    boot.shut().await;
}

#[tokio::test]
async fn damage_is_found_by_digest_before_anything_is_loaded() {
    let site = TestBox::with(vec![FakeEngine::named("sum")]);
    let boot = site.boot();
    import(&site, &boot.models).await;
    let record = boot.models.get(&model(SUM)).unwrap().unwrap();
    let manifest = boot.models.manifest(&record.manifest).unwrap();
    boot.shut().await;
    for file in &manifest.files {
        let boot = site.boot();
        let path = boot.models.artifacts().path(&file.digest);
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        damaged[0] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let refused = boot.models.load(&model(SUM)).unwrap_err();
        assert!(
            matches!(&refused, LoadModelVersionError::Version { source, .. } if source.is_lost()),
            "{refused:?}"
        );
        std::fs::write(&path, sound).unwrap();
        boot.models.load(&model(SUM)).unwrap();
        // Importing again mends what the disk lost.
        std::fs::write(&path, b"lost").unwrap();
        import(&site, &boot.models).await;
        boot.models.load(&model(SUM)).unwrap();
        boot.shut().await;
    }
    let boot = site.boot();
    let path = boot.models.artifacts().path(&record.manifest);
    std::fs::write(path, b"{}").unwrap();
    let refused = boot.models.load(&model(SUM)).unwrap_err();
    assert!(matches!(refused, LoadModelVersionError::Manifest { .. }));
    boot.shut().await;
}
