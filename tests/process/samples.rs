//! The sample models, and what the framework that trained them answers.

use std::fs;
use std::path::PathBuf;

use edgeward_harness::device::Device;
use edgeward_harness::http::Reply;
use serde_json::{Value, json};

/// The MLflow directory of a sample version.
pub(crate) fn folder(model: &str, version: u64) -> PathBuf {
    edgeward_harness::workspace().join(format!("daemon/samples/{model}/{version}"))
}

/// Imports the convolutional network and serves it at the endpoint `digits`, its entity `reader`.
pub(crate) fn serve_digits(device: &mut Device) {
    serve_digits_with(device, &json!({}));
}

/// As [`serve_digits`], with more fields of the entity.
pub(crate) fn serve_digits_with(device: &mut Device, fields: &Value) {
    let path = folder("digits", 1);
    let import = ["model", "import", path.to_str().unwrap(), "--name"];
    let version = ["main.default.digits", "--version", "1"];
    device
        .edgeward(&[&import[..], &version[..]].concat())
        .success();
    let mut entity = json!({
        "name": "reader", "entity_name": "main.default.digits", "entity_version": "1",
    });
    for (field, value) in fields.as_object().unwrap() {
        entity[field] = value.clone();
    }
    let config = json!({"served_entities": [entity]});
    let created = device.client().post(
        "/api/2.0/serving-endpoints",
        &json!({"name": "digits", "config": config}),
    );
    assert_eq!(created.status, 200, "{}", created.text());
}

/// Rows, and the framework's own answers to them.
pub(crate) struct Golden {
    /// A body for an invocation.
    pub(crate) body: Value,
    predictions: Vec<f64>,
    /// What may be off however small a prediction is.
    absolute: f64,
}

impl Golden {
    pub(crate) fn of(model: &str, version: u64) -> Self {
        let text = fs::read_to_string(folder(model, version).join("golden.json")).unwrap();
        let content: Value = serde_json::from_str(&text).unwrap();
        let step = content["step"].as_f64();
        Self {
            body: json!({ "dataframe_split": content["inputs"] }),
            predictions: numbers(&content["outputs"]),
            absolute: step.map_or(1e-6, |step| 1e-4 + step),
        }
    }

    /// A body with the first row alone.
    pub(crate) fn first_row(&self) -> Value {
        let split = &self.body["dataframe_split"];
        json!({ "dataframe_split": { "columns": split["columns"], "data": [split["data"][0]] } })
    }

    /// Asserts that `reply` has exactly these predictions, as close as the engines agree.
    pub(crate) fn assert_answers(&self, reply: &Reply) {
        let found = predictions(reply);
        assert_eq!(found.len(), self.predictions.len());
        for (found, expected) in found.iter().zip(&self.predictions) {
            assert!(self.is_close(*found, *expected), "{found} for {expected}");
        }
    }

    /// The same, as close as a device comes that computes in single precision, in an order of its own.
    pub(crate) fn assert_answers_in_single_precision(&self, reply: &Reply) {
        let found = predictions(reply);
        assert_eq!(found.len(), self.predictions.len());
        for (found, expected) in found.iter().zip(&self.predictions) {
            let allowed = 1e-4 * expected.abs() + 1e-4;
            assert!(
                (found - expected).abs() <= allowed,
                "{found} for {expected}"
            );
        }
    }

    /// Whether the reply to [`first_row`](Self::first_row) is this version's.
    pub(crate) fn is_answered_by(&self, reply: &Reply) -> bool {
        matches!(predictions(reply).as_slice(), [found] if self.is_close(*found, self.predictions[0]))
    }

    /// What `daemon/samples/README.md` calls equal.
    fn is_close(&self, found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 1e-5 * expected.abs() + self.absolute
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

fn predictions(reply: &Reply) -> Vec<f64> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert!(answer["predictions"].is_array(), "no predictions: {answer}");
    numbers(&answer["predictions"])
}

/// `auto_capture_config` for rows in `main.default.{prefix}_payload`.
pub(crate) fn capture(prefix: &str) -> Value {
    json!({
        "enabled": true,
        "catalog_name": "main",
        "schema_name": "default",
        "table_name_prefix": prefix,
    })
}

/// An endpoint's configuration: fraud 3 as `champion`, fraud 4 as `challenger`, rows in the table
/// `fraud`.
pub(crate) fn fraud_endpoint(champion: u8) -> Value {
    json!({
        "served_entities": [
            {"name": "champion", "entity_name": "main.default.fraud", "entity_version": "3"},
            {"name": "challenger", "entity_name": "main.default.fraud", "entity_version": "4"},
        ],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": champion},
            {"served_entity_name": "challenger", "traffic_percentage": 100 - champion},
        ]},
        "auto_capture_config": capture("fraud"),
    })
}
