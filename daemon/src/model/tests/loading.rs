//! Loading: verdicts, the choice among engines, and damage.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_base::error::chain;
use edgeward_kernels::engine::{Engine, Rows};
use edgeward_kernels::tensor::{Tensor, TensorData};
use edgeward_kernels::verify::Verified;

use super::fake::FakeDevice;
use super::{FakeEngine, GOLDEN, TestBox, input, model, write_mlflow};
use crate::model::{Compute, LoadModelVersionError, ModelStore};

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
    let scorer = boot.models.load(&model(SUM), Compute::Any).unwrap();
    assert_eq!(
        (scorer.engine(), scorer.verdict().verified),
        ("sum", Verified::Framework)
    );
    let predictions = scorer.score(&input(r#"{"inputs":[[1.5,2]]}"#)).unwrap();
    assert_eq!(predictions.body(), br#"{"predictions":{"y":[3.5]}}"#);
    let unknown = boot
        .models
        .load(&model("main.default.sum/2"), Compute::Any)
        .unwrap_err();
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
    let rows = boot
        .models
        .load(&model(SUM), Compute::Any)
        .unwrap()
        .session()
        .rows();
    assert_eq!((engine.runs(), engine.loads()), (proved, 2), "proved again");
    assert_eq!(
        rows,
        boot.models
            .load(&model(SUM), Compute::Any)
            .unwrap()
            .verdict()
            .rows
    );
    boot.shut().await;
    site.fingerprint = "another build";
    let boot = site.boot();
    boot.models.load(&model(SUM), Compute::Any).unwrap();
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
    assert_eq!(
        boot.models
            .load(&model(SUM), Compute::Any)
            .unwrap()
            .engine(),
        "quick"
    );
    boot.shut().await;
}

#[tokio::test]
async fn what_only_pretends_to_be_a_card_serves_where_nothing_else_does() {
    let clock = TestClock::at(0);
    let slow = FakeEngine::taking("slow", &clock, Duration::from_millis(5));
    let quick = FakeEngine::taking("quick", &clock, Duration::from_millis(1));
    let rasteriser = FakeDevice::of(quick, true);
    let mut site = TestBox::with(vec![Arc::clone(&rasteriser) as _, slow]);
    site.clock = clock;
    let boot = site.boot();
    import(&site, &boot.models).await;
    assert_eq!(
        boot.models
            .load(&model(SUM), Compute::Any)
            .unwrap()
            .engine(),
        "slow"
    );
    boot.shut().await;
    site.engines = vec![rasteriser];
    let boot = site.boot();
    assert_eq!(
        boot.models
            .load(&model(SUM), Compute::Any)
            .unwrap()
            .engine(),
        "quick"
    );
    // It is all that there is, and not what was asked for.
    let refused = boot.models.load(&model(SUM), Compute::Processor);
    let refused = chain(&refused.unwrap_err());
    assert!(refused.contains("no engine can serve"), "{refused}");
    boot.shut().await;
}

#[tokio::test]
async fn what_is_asked_for_serves_however_slow_it_is() {
    let clock = TestClock::at(0);
    let quick = FakeEngine::taking("quick", &clock, Duration::from_millis(1));
    let slow = FakeEngine::taking("slow", &clock, Duration::from_millis(5));
    let mut site = TestBox::with(vec![FakeDevice::of(slow, true), Arc::clone(&quick) as _]);
    site.clock = clock;
    let boot = site.boot();
    import(&site, &boot.models).await;
    let served_by = |compute| boot.models.load(&model(SUM), compute).unwrap().engine();
    assert_eq!(served_by(Compute::Any), "quick");
    assert_eq!(served_by(Compute::Processor), "quick");
    assert_eq!(served_by(Compute::Device), "slow");
    assert!(boot.models.has_device());
    boot.shut().await;
    site.engines = vec![quick];
    let boot = site.boot();
    assert!(!boot.models.has_device());
    let refused = boot.models.load(&model(SUM), Compute::Device);
    let refused = chain(&refused.unwrap_err());
    assert!(
        refused.contains("quick: computes on the processor"),
        "{refused}"
    );
    boot.shut().await;
}

#[tokio::test]
async fn what_a_card_computes_is_warmed_up_in_each_process_and_nothing_else_is() {
    let engine = FakeEngine::named("sum");
    for (engines, expected) in [
        // The known rows, and batches of 1, 2, 4, 8, 16, 32 and 64.
        (
            vec![FakeDevice::of(Arc::clone(&engine), false) as Arc<dyn Engine>],
            8,
        ),
        (vec![Arc::clone(&engine) as Arc<dyn Engine>], 0),
    ] {
        let site = TestBox::with(engines);
        let boot = site.boot();
        import(&site, &boot.models).await;
        boot.models.load(&model(SUM), Compute::Any).unwrap();
        boot.shut().await;
        let proved = engine.runs();
        let boot = site.boot();
        let scorer = boot.models.load(&model(SUM), Compute::Any).unwrap();
        assert_eq!(engine.runs() - proved, expected);
        assert_eq!(scorer.session().rows(), Rows::Independent);
        boot.shut().await;
    }
}

#[tokio::test]
async fn when_a_card_is_pulled_the_other_engine_answers_even_after_scaling_to_zero() {
    let clock = TestClock::at(0);
    let slow = FakeEngine::taking("slow", &clock, Duration::from_millis(5));
    let quick = FakeEngine::taking("quick", &clock, Duration::from_millis(1));
    let card = FakeDevice::of(quick, false);
    let mut site = TestBox::with(vec![Arc::clone(&card) as _, slow]);
    site.clock = clock;
    let boot = site.boot();
    import(&site, &boot.models).await;
    let scorer = boot.models.load(&model(SUM), Compute::Any).unwrap();
    let row = Tensor::new(vec![1, 2], TensorData::F32(vec![1.0, 2.0])).unwrap();
    let answers = || scorer.session().run(std::slice::from_ref(&row)).unwrap();
    let expected = TensorData::F32(vec![3.0]);
    assert_eq!((answers()[0].data(), scorer.engine()), (&expected, "quick"));
    card.pull();
    assert_eq!((answers()[0].data(), scorer.engine()), (&expected, "slow"));
    let takeover = scorer.session().takeover().unwrap();
    assert!(takeover.reason.contains("the card is gone"), "{takeover:?}");
    assert!(scorer.scale_to_zero());
    assert_eq!((answers()[0].data(), scorer.engine()), (&expected, "slow"));
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
        let refused = boot.models.load(&model(SUM), Compute::Any).unwrap_err();
        assert!(
            matches!(&refused, LoadModelVersionError::Version { source, .. } if source.is_lost()),
            "{refused:?}"
        );
        std::fs::write(&path, sound).unwrap();
        boot.models.load(&model(SUM), Compute::Any).unwrap();
        // Importing again mends what the disk lost.
        std::fs::write(&path, b"lost").unwrap();
        import(&site, &boot.models).await;
        boot.models.load(&model(SUM), Compute::Any).unwrap();
        boot.shut().await;
    }
    let boot = site.boot();
    let path = boot.models.artifacts().path(&record.manifest);
    std::fs::write(path, b"{}").unwrap();
    let refused = boot.models.load(&model(SUM), Compute::Any).unwrap_err();
    assert!(matches!(refused, LoadModelVersionError::Manifest { .. }));
    boot.shut().await;
}
