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

/// All numbers of a value, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        Value::Object(object) => object.values().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// What may be off however small a number is: scores of a network are sums of some size, and those of
/// one that is quantised are made of steps.
fn absolute(file: &Value, otherwise: f64) -> f64 {
    file["step"].as_f64().map_or(otherwise, |step| 1e-4 + step)
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

/// What each of `rows` rows is taken for: 1 if the one probability is at least 0.5, or the place of the
/// largest score.
fn decided(outputs: &[f64], rows: usize) -> Vec<usize> {
    assert_eq!(outputs.len() % rows, 0);
    let of_row = |row: &[f64]| match row {
        [probability] => usize::from(*probability >= 0.5),
        scores => (0..scores.len())
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)))
            .unwrap(),
    };
    outputs.chunks(outputs.len() / rows).map(of_row).collect()
}

/// The share of rows that are taken for what they are, to the six digits that the files have.
fn accuracy(outputs: &[f64], labels: &Value) -> String {
    let labels = labels.as_array().unwrap();
    let decided = decided(outputs, labels.len()).into_iter();
    let right = decided.zip(labels).filter(|(said, label)| **label == *said);
    let (right, rows) = (right.count(), labels.len());
    format!("{:.6}", right as f64 / rows as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_as_accurate_as_their_framework_on_held_out_rows() {
    let rooms = Rooms::open(1).await;
    let mut rows = 0;
    for sample in samples() {
        let served = Served::configure(&rooms, sample).await;
        let held_out = served.file("heldout.json");
        let got = served.predict(&held_out["inputs"]).await;
        let recorded = &held_out["accuracy"];
        let count = held_out["labels"].as_array().unwrap().len();
        assert_eq!(
            accuracy(&got, &held_out["labels"]),
            format!("{:.6}", recorded["framework"].as_f64().unwrap()),
            "{}",
            sample.reference
        );
        assert_eq!(recorded["rows"], count, "{}", sample.reference);
        let expected = numbers(output(&held_out));
        let absolute = absolute(&held_out, 0.0);
        served.assert_close(&got, &expected, absolute, "its framework");
        let same = decided(&got, count)
            .into_iter()
            .zip(decided(&expected, count));
        let same = same.filter(|(got, expected)| got == expected).count();
        assert!(same as f64 >= 0.995 * count as f64, "{same} of {count}");
        rows += count as u64;
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
        let golden = served.file("golden.json");
        let got = served.predict(&golden["inputs"]).await;
        let recorded = served.file("ort.json");
        let output = output(&recorded);
        let absolute = absolute(&golden, 1e-6);
        served.assert_close(&got, &numbers(&output["data"]), absolute, "onnxruntime");
        rows += output["shape"][0].as_u64().unwrap();
    }
    floors::reached("suite.samples.onnxruntime_rows", rows);
    rooms.close().await;
}
