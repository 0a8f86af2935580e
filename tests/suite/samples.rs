//! The sample models through the whole serving path, against the framework that trained them and
//! against onnxruntime.

use bytes::Bytes;
use edgeward::model::samples::{SampleModel, samples};
use edgeward_harness::{floors, workspace};
use serde_json::{Value, json};

use crate::rooms::{Rooms, invoke};

/// A sample that an endpoint of its own serves.
struct Served<'rooms> {
    rooms: &'rooms Rooms,
    sample: &'static SampleModel,
    endpoint: String,
}

impl<'rooms> Served<'rooms> {
    async fn configure(rooms: &'rooms Rooms, sample: &'static SampleModel) -> Self {
        let (entity_name, version) = sample.reference.split_once('/').unwrap();
        let endpoint = format!("{}-{version}", entity_name.rsplit('.').next().unwrap());
        let config = json!({"served_entities": [
            {"name": "only", "entity_name": entity_name, "entity_version": version},
        ]});
        rooms.configure(&endpoint, &config).await;
        Self {
            rooms,
            sample,
            endpoint,
        }
    }

    /// A file that `daemon/samples/README.md` describes.
    fn file(&self, name: &str) -> Value {
        let folder = self.sample.reference.trim_start_matches("main.default.");
        let path = workspace().join("daemon/samples").join(folder).join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The predictions for a `dataframe_split`.
    async fn predict(&self, split: &Value) -> Vec<f64> {
        let body = Bytes::from(json!({ "dataframe_split": split }).to_string());
        let (_, reply) = invoke(&self.rooms.serving, &self.endpoint, &body)
            .await
            .unwrap();
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        numbers(&reply["predictions"])
    }

    /// Asserts that each prediction is the expected one, as `daemon/samples/README.md` calls equal.
    /// `absolute` is what may be off however small the expected one is.
    fn assert_close(&self, got: &[f64], expected: &[f64], absolute: f64, whose: &str) {
        let sample = self.sample.reference;
        assert_eq!(got.len(), expected.len(), "{sample}");
        for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() <= 1e-5 * expected.abs() + absolute,
                "{sample}, row {row}: {got}, and {expected} by {whose}"
            );
        }
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

/// The one output of a sample.
fn output(file: &Value) -> &Value {
    file["outputs"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()
}

/// How good the answers are, by the measure that the file has: the share of rows whose label is
/// `probability >= 0.5`, or the share of the variance that values explain.
fn quality(answers: &[f64], held_out: &Value) -> (&'static str, f64) {
    let labels = numbers(&held_out["labels"]);
    assert_eq!(answers.len(), labels.len());
    let pairs = || answers.iter().zip(&labels);
    let rows = labels.len() as f64;
    if held_out["accuracy"].is_object() {
        let right = pairs().filter(|(said, label)| (**said >= 0.5) == (**label == 1.0));
        return ("accuracy", right.count() as f64 / rows);
    }
    let mean = labels.iter().sum::<f64>() / rows;
    let left: f64 = pairs().map(|(said, label)| (said - label).powi(2)).sum();
    let all: f64 = labels.iter().map(|label| (label - mean).powi(2)).sum();
    ("r2", 1.0 - left / all)
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_as_accurate_as_their_framework_on_held_out_rows() {
    let rooms = Rooms::open(1).await;
    let mut rows = 0;
    for sample in samples() {
        let served = Served::configure(&rooms, sample).await;
        let held_out = served.file("heldout.json");
        let got = served.predict(&held_out["inputs"]).await;
        let (measure, found) = quality(&got, &held_out);
        let recorded = &held_out[measure];
        // To the six digits that the files have.
        assert_eq!(
            format!("{found:.6}"),
            format!("{:.6}", recorded["framework"].as_f64().unwrap()),
            "{}",
            sample.reference
        );
        assert_eq!(recorded["rows"], got.len(), "{}", sample.reference);
        served.assert_close(&got, &numbers(output(&held_out)), 0.0, "its framework");
        rows += got.len() as u64;
    }
    floors::reached("suite.samples.heldout_rows", rows);
    rooms.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_answer_as_onnxruntime_does() {
    let rooms = Rooms::open(1).await;
    let mut rows = 0;
    for sample in samples() {
        let served = Served::configure(&rooms, sample).await;
        let got = served.predict(&served.file("golden.json")["inputs"]).await;
        let recorded = served.file("ort.json");
        served.assert_close(
            &got,
            &numbers(&output(&recorded)["data"]),
            1e-6,
            "onnxruntime",
        );
        rows += got.len() as u64;
    }
    floors::reached("suite.samples.onnxruntime_rows", rows);
    rooms.close().await;
}
