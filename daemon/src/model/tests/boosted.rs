//! Files of XGBoost and LightGBM on the real engines, as MLflow and the frameworks write them.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_kernels::engine::{Engine, ModelForm};
use edgeward_kernels::verify::Verified;
use serde_json::{Value, json};

use super::{TestBox, input, model};
use crate::model::{Compute, FinishedArtifact, ImportModelError, Scorer};

/// A model that the kernels' tests trained, or what its framework answered.
fn trained(name: &str) -> PathBuf {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    kernels.join("tests/boosted").join(name)
}

fn answers(name: &str) -> Value {
    let text = std::fs::read_to_string(trained(&format!("{name}.answers"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The rows that were asked, NaN as null.
fn rows(answers: &Value) -> Vec<Vec<Value>> {
    let features = &answers["inputs"]["features"];
    let width = usize::try_from(features["shape"][1].as_u64().unwrap()).unwrap();
    let cells = features["data"].as_array().unwrap();
    cells.chunks(width).map(<[Value]>::to_vec).collect()
}

fn column(name: &str, kind: &str) -> Value {
    json!({"type": kind, "name": name, "required": true})
}

/// An MLflow directory with a model that the kernels' tests trained.
fn directory(site: &TestBox, file: &str, flavor: &str, class: &str, columns: &Value) -> PathBuf {
    let folder = site.state.path().join("source");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(trained(file), folder.join(file)).unwrap();
    let outputs = json!([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]);
    let described = json!({
        "flavors": {
            flavor: {"data": file, "model_class": class, "code": null},
            "python_function": {"loader_module": format!("mlflow.{flavor}"), "data": file},
        },
        "signature": {"inputs": columns.to_string(), "outputs": outputs.to_string()},
    });
    std::fs::write(folder.join("MLmodel"), described.to_string()).unwrap();
    folder
}

fn site() -> TestBox {
    TestBox::with(edgeward_kernels::engines())
}

async fn imported(site: &TestBox, path: &Path) -> Arc<Scorer> {
    let boot = site.boot();
    let wanted = model("main.default.boosted/1");
    boot.models.import(path, &wanted).await.unwrap();
    let scorer = boot.models.load(&wanted, Compute::Any).unwrap();
    boot.shut().await;
    scorer
}

async fn refusal(site: &TestBox, path: &Path) -> String {
    let boot = site.boot();
    let wanted = model("main.default.boosted/1");
    let refused = boot.models.import(path, &wanted).await.unwrap_err();
    assert!(refused.is_final(), "{refused:?}");
    assert_eq!(boot.models.list().unwrap(), []);
    let why = refused.source().map(ToString::to_string);
    boot.shut().await;
    why.unwrap_or_default()
}

fn predictions(scorer: &Scorer, body: &Value) -> Value {
    let answer = scorer.score(&input(&body.to_string())).unwrap();
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["predictions"].clone()
}

fn assert_close(got: &Value, expected: &Value) {
    let (got, expected) = (got.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
        assert!(
            (got - expected).abs() <= 1e-6 * expected.abs(),
            "{got}, {expected}"
        );
    }
}

const FEATURES: [&str; 5] = ["income", "age", "debt", "years", "kind"];

#[tokio::test]
async fn a_directory_of_xgboost_answers_a_table_with_nulls_in_any_order() {
    let site = site();
    let answers = answers("xgb_named");
    // The signature has the columns in another order than the model has its features.
    let columns: Vec<Value> = FEATURES
        .iter()
        .rev()
        .map(|name| column(name, "double"))
        .collect();
    let class = "xgboost.core.Booster";
    let folder = directory(&site, "xgb_named.ubj", "xgboost", class, &json!(columns));
    let table = json!({"columns": FEATURES, "data": rows(&answers)});
    let expected = &answers["outputs"]["predictions"]["data"];
    let golden = json!({
        "framework": "xgboost 3.2.0",
        "inputs": table,
        "outputs": {"predictions": expected},
    });
    std::fs::write(folder.join("golden.json"), golden.to_string()).unwrap();
    let scorer = imported(&site, &folder).await;
    assert_eq!(
        (scorer.engine(), scorer.verdict().verified),
        ("trees", Verified::Framework)
    );
    assert_close(
        &predictions(&scorer, &json!({"dataframe_split": table})),
        expected,
    );
    let records: Vec<Value> = rows(&answers)
        .into_iter()
        .map(|row| {
            FEATURES
                .iter()
                .copied()
                .map(str::to_owned)
                .zip(row)
                .collect()
        })
        .collect();
    assert_close(
        &predictions(&scorer, &json!({"dataframe_records": records})),
        expected,
    );
}

#[tokio::test]
async fn a_classifier_answers_labels() {
    let site = site();
    let answers = answers("xgb_classifier_classes");
    let columns: Vec<Value> = (0..5)
        .map(|_| json!({"type": "double", "required": true}))
        .collect();
    let class = "xgboost.sklearn.XGBClassifier";
    let file = "xgb_classifier_classes.ubj";
    let folder = directory(&site, file, "xgboost", class, &json!(columns));
    let scorer = imported(&site, &folder).await;
    assert_eq!(scorer.verdict().verified, Verified::Reference);
    let body = json!({"dataframe_split": {"columns": [0, 1, 2, 3, 4], "data": rows(&answers)}});
    assert_eq!(
        predictions(&scorer, &body),
        answers["outputs"]["predictions"]["data"]
    );
}

#[tokio::test]
async fn a_bare_file_of_lightgbm_takes_categories_by_name() {
    let site = site();
    let answers = answers("lgb_words");
    let scorer = imported(&site, &trained("lgb_words.txt")).await;
    let names = ["a", "kind", "level", "d"];
    assert_eq!(scorer.input_names(), names);
    let mut records = Vec::new();
    for row in 0..24 {
        let cell = |name: &&str| {
            let cell = answers["inputs"][*name]["data"][row].clone();
            // The empty text stands for a missing category.
            let cell = if cell == "" { Value::Null } else { cell };
            ((*name).to_owned(), cell)
        };
        records.push(names.iter().map(cell).collect::<Value>());
    }
    assert!(records.iter().any(|record| record["kind"].is_null()));
    let got = predictions(&scorer, &json!({ "dataframe_records": records }));
    assert_close(&got, &answers["outputs"]["predictions"]["data"]);
}

#[tokio::test]
async fn tensors_of_other_numbers_reach_the_model_and_several_scores_are_rows() {
    let site = site();
    let answers = answers("lgb_multiclass");
    let columns =
        json!([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 5]}}]);
    let class = "lightgbm.basic.Booster";
    let folder = directory(&site, "lgb_multiclass.txt", "lightgbm", class, &columns);
    let scorer = imported(&site, &folder).await;
    let got = predictions(&scorer, &json!({"inputs": rows(&answers)}));
    let flat: Vec<Value> = got
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap().clone())
        .collect();
    let expected = answers["outputs"]["predictions"]["data"]
        .as_array()
        .unwrap();
    assert_eq!(flat.len(), expected.len());
    // 0.1 is no float32: read as what the signature says, it is a little more.
    let one = |x: Value| predictions(&scorer, &json!({"inputs": [[x, 0, 0, 0, 0]]}));
    assert_eq!(one(json!(0.1)), one(json!(f64::from(0.1_f32))));
}

#[tokio::test]
async fn columns_that_are_not_the_models_features_are_refused_by_name() {
    let site = site();
    let mut columns: Vec<Value> = FEATURES.iter().map(|name| column(name, "double")).collect();
    columns[2] = column("credit", "double");
    let class = "xgboost.core.Booster";
    let folder = directory(&site, "xgb_named.ubj", "xgboost", class, &json!(columns));
    let why = refusal(&site, &folder).await;
    assert!(
        why.contains("trees: column \"credit\" of the signature is no feature of the model"),
        "{why}"
    );
}

#[tokio::test]
async fn a_box_without_the_engine_says_which_engines_it_has() {
    let mut engines: Vec<Arc<dyn Engine>> = edgeward_kernels::engines();
    engines.retain(|engine| engine.takes(ModelForm::Onnx));
    let site = TestBox::with(engines);
    let why = refusal(&site, &trained("xgb_named.ubj")).await;
    assert!(why.contains("tract: takes no XGBoost models"), "{why}");
}

#[tokio::test]
async fn a_fetched_booster_is_installed_by_its_manifest() {
    let (central, box_) = (site(), site());
    let (from, to) = (central.boot(), box_.boot());
    let wanted = model("main.default.boosted/1");
    let path = trained("xgb_squarederror.json");
    let sent = from.models.import(&path, &wanted).await.unwrap();
    let manifest = from.models.manifest(&sent.manifest).unwrap();
    let early = to.models.install(&manifest).await.unwrap_err();
    assert!(matches!(early, ImportModelError::Version(_)) && early.is_lost());
    for file in &manifest.files {
        let bytes = from.models.artifacts().read_whole(&file.digest).unwrap();
        let artifacts = to.models.artifacts();
        let mut writer = artifacts.writer(&file.digest, file.size).unwrap();
        writer.write_at(0, &bytes).unwrap();
        assert_eq!(writer.finish().unwrap(), FinishedArtifact::Complete);
    }
    to.models.install(&manifest).await.unwrap();
    let answers = answers("xgb_squarederror");
    let scorer = to.models.load(&wanted, Compute::Any).unwrap();
    let got = predictions(&scorer, &json!({"inputs": rows(&answers)}));
    assert_close(&got, &answers["outputs"]["predictions"]["data"]);
    from.shut().await;
    to.shut().await;
}
