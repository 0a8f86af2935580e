//! The sample models, through the real model store.

use tempfile::TempDir;

use super::*;
use crate::model::samples::samples;
use crate::model::{ModelRecord, ModelStore, ModelStoreOptions, VerdictRecord, parse_scoring_body};

struct Start {
    tasks: Tasks,
    store: Store,
    models: ModelStore,
    endpoints: Endpoints,
}

impl Start {
    fn of(state: &TempDir) -> Self {
        let tasks = Tasks::new(Handle::current());
        let clock = TestClock::at(1_700_000_000_000_000);
        let store_options = StoreOptions::new(
            state.path().to_path_buf(),
            tasks.clone(),
            clock.clone(),
            RealFs::shared(),
        )
        .with_table::<EndpointRecord>()
        .with_table::<AppliedDesired>()
        .with_table::<ModelRecord>()
        .with_table::<VerdictRecord>();
        let (store, _) = Store::open(store_options).unwrap();
        let models = ModelStore::open(ModelStoreOptions {
            directory: state.path().join("models"),
            store: store.clone(),
            tasks: tasks.clone(),
            fs: RealFs::shared(),
            clock: clock.clone(),
            engines: edgeward_kernels::engines(),
        })
        .unwrap();
        let source: Arc<dyn ModelSource> = Arc::new(models.clone());
        let endpoints = Endpoints::open(options(), store.clone(), source, &tasks, clock).unwrap();
        Self {
            tasks,
            store,
            models,
            endpoints,
        }
    }

    async fn stop(self) {
        self.tasks.begin_shutdown();
        self.store.close().await.unwrap();
        drop((self.endpoints, self.models, self.store));
        self.tasks.join_all(PATIENCE).await.unwrap();
    }
}

fn served(model: &str, versions: [&str; 2], percents: [i64; 2]) -> EndpointConfigInput {
    let entity = |version: &str| json!({"name": format!("v{version}"), "entity_name": model, "entity_version": version});
    let route = |version: &str, percent: i64| json!({"served_model_name": format!("v{version}"), "traffic_percentage": percent});
    input(&json!({
        "served_entities": versions.map(entity),
        "traffic_config": {"routes": [
            route(versions[0], percents[0]), route(versions[1], percents[1]),
        ]},
    }))
}

/// Answers of every served entity to the examples that came with the models.
fn answers(endpoints: &Endpoints) -> Vec<String> {
    let mut answers = Vec::new();
    for sample in samples() {
        let model = sample.model().unwrap();
        let snapshot = endpoints.snapshot();
        let entity = snapshot
            .endpoints()
            .flat_map(|endpoint| endpoint.entities())
            .find(|entity| entity.model == model)
            .unwrap();
        let body = bytes::Bytes::from_static(sample.curl_body().as_bytes());
        let body = parse_scoring_body(&body).unwrap();
        let predictions = entity.scorer.score(&body.input).unwrap();
        answers.push(String::from_utf8(predictions.body().to_vec()).unwrap());
    }
    answers
}

#[tokio::test]
async fn the_samples_serve_and_are_back_after_a_restart() {
    let state = TempDir::new().unwrap();
    let first = Start::of(&state);
    for sample in samples() {
        let folder = TempDir::new().unwrap();
        sample.write_to(folder.path()).unwrap();
        let model = sample.model().unwrap();
        first.models.import(folder.path(), &model).await.unwrap();
    }
    let fraud = served("main.default.fraud", ["3", "4"], [80, 20]);
    let tumour = served("main.default.tumour", ["1", "2"], [50, 50]);
    let digits = served("main.default.digits", ["1", "2"], [50, 50]);
    let single = |name: &str, model: &str, version: &str| json!({"name": name, "entity_name": model, "entity_version": version});
    let boosted = input(&json!({
        "served_entities": [
            single("tumour", "main.default.tumour", "3"),
            single("diabetes", "main.default.diabetes", "1"),
        ],
        "traffic_config": {"routes": [
            {"served_model_name": "tumour", "traffic_percentage": 50},
            {"served_model_name": "diabetes", "traffic_percentage": 50},
        ]},
    }));
    let all = [
        ("fraud-detection", fraud),
        ("tumour", tumour),
        ("digits", digits),
        ("boosted", boosted),
    ];
    for (name, config) in all {
        let view = first
            .endpoints
            .create(NewEndpoint::new(
                endpoint(name),
                config,
                Creator::Principal(somebody()),
            ))
            .await
            .unwrap();
        assert_eq!(standing(&view), SERVES);
    }
    let before = answers(&first.endpoints);
    first.stop().await;

    let second = Start::of(&state);
    second.endpoints.restored().await;
    assert_eq!(answers(&second.endpoints), before);
    second.stop().await;
}

#[tokio::test]
async fn a_version_whose_file_is_damaged_is_not_ready_and_says_why() {
    let state = TempDir::new().unwrap();
    let first = Start::of(&state);
    let sample = &samples()[0];
    let folder = TempDir::new().unwrap();
    sample.write_to(folder.path()).unwrap();
    let model = sample.model().unwrap();
    let record = first.models.import(folder.path(), &model).await.unwrap();
    let graph = first
        .models
        .manifest(&record.manifest)
        .unwrap()
        .files
        .iter()
        .find(|file| file.path == "model.onnx")
        .unwrap()
        .digest;
    let view = first
        .endpoints
        .create(NewEndpoint::new(
            endpoint("fraud"),
            input(&champion("3")),
            Creator::Principal(somebody()),
        ))
        .await
        .unwrap();
    assert_eq!(standing(&view), SERVES);
    let path = first.models.artifacts().path(&graph);
    first.stop().await;

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"not the graph").unwrap();
    let second = Start::of(&state);
    second.endpoints.restored().await;
    let view = second.endpoints.get("fraud").unwrap();
    assert_eq!(standing(&view), NOT_READY);
    let why = view.failure.as_ref().unwrap();
    assert!(why.contains("champion: MISSING_ARTIFACT: "), "{why}");
    second.stop().await;
}
