//! The sample models on the real engines, against their training framework. How accurate they are on
//! held-out rows is tested where they are served, in `tests/suite`.

use std::path::PathBuf;
use std::sync::Arc;

use edgeward_kernels::verify::Verified;
use serde_json::{Value, json};

use super::{TestBox, input, model};
use crate::model::samples::{SampleModel, samples};
use crate::model::{Compute, Scorer};

/// Imports every sample and answers its scorer.
async fn scorers(site: &TestBox) -> Vec<(&'static SampleModel, Arc<Scorer>)> {
    let boot = site.boot();
    let mut loaded = Vec::new();
    for sample in samples() {
        let wanted = model(sample.reference);
        assert_eq!(sample.model().unwrap(), wanted);
        let directory = site.state.path().join("sample").join(sample.reference);
        sample.write_to(&directory).unwrap();
        boot.models.import(&directory, &wanted).await.unwrap();
        loaded.push((sample, boot.models.load(&wanted, Compute::Any).unwrap()));
    }
    boot.shut().await;
    loaded
}

fn site() -> TestBox {
    TestBox::with(edgeward_kernels::engines())
}

fn read(sample: &SampleModel, name: &str) -> Value {
    let folder = sample.reference.trim_start_matches("main.default.");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("samples")
        .join(folder)
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn predictions(scorer: &Scorer, body: &Value) -> Vec<f64> {
    let answer = scorer.score(&input(&body.to_string())).unwrap();
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    numbers(&answer["predictions"])
}

/// All numbers of a value, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        Value::Object(object) => object.values().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// The framework's outputs; each sample has one.
fn outputs(file: &Value) -> Vec<f64> {
    numbers(&file["outputs"])
}

/// As `daemon/samples/README.md` calls equal: `golden` may say that outputs are made of steps.
fn assert_close(got: &[f64], golden: &Value, what: &str) {
    let expected = outputs(golden);
    let absolute = golden["step"].as_f64().map_or(1e-6, |step| 1e-4 + step);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = 1e-5 * expected.abs() + absolute;
        assert!(
            (got - expected).abs() <= allowed,
            "{what}, row {row}: {got}, not {expected}"
        );
    }
}

/// A split table as each of the other forms.
fn forms(split: &Value) -> [Value; 4] {
    let columns: Vec<&str> = split["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_str().unwrap())
        .collect();
    let rows: Vec<&Vec<Value>> = split["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_array().unwrap())
        .collect();
    let records: Vec<Value> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .copied()
                .map(str::to_owned)
                .zip(row.iter().cloned())
                .collect()
        })
        .collect();
    let by_column: Value = columns
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells: Value = rows.iter().map(|row| row[at].clone()).collect();
            ((*name).to_owned(), cells)
        })
        .collect();
    [
        json!({ "dataframe_split": split }),
        json!({ "dataframe_records": records }),
        json!({ "instances": records }),
        json!({ "inputs": by_column }),
    ]
}

#[tokio::test]
async fn samples_answer_as_their_framework_in_every_form() {
    let site = site();
    for (sample, scorer) in scorers(&site).await {
        assert_eq!(
            scorer.verdict().verified,
            Verified::Framework,
            "{}",
            sample.reference
        );
        let golden = read(sample, "golden.json");
        for body in forms(&golden["inputs"]) {
            assert_close(&predictions(&scorer, &body), &golden, sample.reference);
        }
    }
}

#[tokio::test]
async fn samples_bring_a_body_to_try_them_with() {
    let site = site();
    for (sample, scorer) in scorers(&site).await {
        assert!(!sample.curl_body().is_empty() && !sample.curl_body().contains(['\n', '\'']));
        assert!(
            scorer.score(&input(sample.curl_body())).is_ok(),
            "{}",
            sample.reference
        );
    }
}

#[tokio::test]
async fn the_fraud_samples_need_no_is_foreign() {
    let site = site();
    let transaction = json!({ "amount": 1250.0, "merchant_category": "online", "hour": 3 });
    let mut said = transaction.clone();
    for (sample, scorer) in scorers(&site).await {
        if !sample.reference.contains("fraud") {
            continue;
        }
        let silent = predictions(&scorer, &json!({ "dataframe_records": [transaction] }));
        said["is_foreign"] = Value::Bool(false);
        assert_eq!(
            silent,
            predictions(&scorer, &json!({ "dataframe_records": [said] }))
        );
        said["is_foreign"] = Value::Null;
        assert_eq!(
            silent,
            predictions(&scorer, &json!({ "dataframe_records": [said] }))
        );
    }
}
