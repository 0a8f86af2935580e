//! Models whose inputs and outputs are maps, on the real engine: a `DictVectorizer` before a
//! classifier with a `ZipMap` behind, as scikit-learn's converter writes them.

use std::error::Error;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{TestBox, input, model};
use crate::model::signature::{ColumnType, Schema};
use crate::model::{Compute, Scorer};

/// The vocabulary of the export, in its order.
const KEYS: [&str; 5] = [
    "visits_fr",
    "visits_mo",
    "visits_sa",
    "visits_th",
    "visits_tu",
];

fn export() -> PathBuf {
    let name = "DictVectorizer_LogisticRegression.zipmap.onnx";
    edgeward_harness::workspace()
        .join("tests/fixtures/exports")
        .join(name)
}

fn predictions(scorer: &Scorer, body: &Value) -> Value {
    let answer = scorer.score(&input(&body.to_string())).unwrap();
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["predictions"].clone()
}

#[tokio::test]
async fn rows_bring_the_keys_they_have_and_get_scores_by_label() {
    let site = TestBox::with(edgeward_kernels::engines());
    let boot = site.boot();
    let wanted = model("main.default.visits/1");
    boot.models.import(&export(), &wanted).await.unwrap();
    let scorer = boot.models.load(&wanted, Compute::Any).unwrap();
    let Schema::Columns(columns) = &scorer.signature().inputs else {
        panic!("{:?}", scorer.signature());
    };
    assert!(columns.iter().map(|column| &column.name).eq(KEYS));
    assert!(
        columns
            .iter()
            .all(|column| !column.required && column.column_type == ColumnType::Double)
    );

    let rows = json!([{"visits_fr": 5, "never seen": 2}, {"visits_mo": 4.0, "visits_tu": null}]);
    let sparse = predictions(&scorer, &json!({"dataframe_records": rows}));
    assert_eq!(sparse["output_label"], json!([1, 0]));
    // By hand: the export's weights are 3.20 for Friday, -3.03 for Monday, and -1.65 beside them.
    let weights = [3.199_484_3, 3.030_480_4, 1.651_661];
    let certain = |sum: f64| 1.0 / (1.0 + (-sum).exp());
    let first = certain(5.0 * weights[0] - weights[2]);
    let second = certain(-4.0 * weights[1] - weights[2]);
    for (row, expected) in [first, second].into_iter().enumerate() {
        let scores = sparse["output_probability"][row].as_object().unwrap();
        assert!(scores.keys().eq(["0", "1"]), "{scores:?}");
        let got = scores["1"].as_f64().unwrap();
        assert!((got - expected).abs() < 1e-6, "{got}, {expected}");
    }
    let dense = json!({"columns": KEYS, "data": [[5, 0, 0, 0, 0], [0, 4, 0, 0, 0]]});
    assert_eq!(
        predictions(&scorer, &json!({"dataframe_split": dense})),
        sparse
    );
    boot.shut().await;
}

#[tokio::test]
async fn a_signature_may_call_scores_a_map() {
    let site = TestBox::with(edgeward_kernels::engines());
    let folder = site.state.path().join("source");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(export(), folder.join("model.onnx")).unwrap();
    let describe = |outputs: Value| {
        let inputs = KEYS.map(|name| json!({"type": "double", "name": name, "required": false}));
        let described = json!({
            "flavors": {"onnx": {"data": "model.onnx"}},
            "signature": {
                "inputs": json!(inputs).to_string(),
                "outputs": outputs.to_string(),
            },
        });
        std::fs::write(folder.join("MLmodel"), described.to_string()).unwrap();
    };
    let label = |kind: &str| json!({"type": kind, "name": "output_label"});
    let scores = json!({"type": "object", "name": "output_probability", "properties": {}});
    let boot = site.boot();

    describe(json!([label("map"), scores]));
    let wanted = model("main.default.visits/1");
    let refused = boot.models.import(&folder, &wanted).await.unwrap_err();
    let mut says = Vec::new();
    let mut cause: Option<&dyn Error> = Some(&refused);
    while let Some(error) = cause {
        says.push(error.to_string());
        cause = error.source();
    }
    let reason = "output \"output_label\" of the signature is a map, and the model does not name";
    assert!(says.iter().any(|said| said.contains(reason)), "{says:?}");

    describe(json!([label("long"), scores]));
    boot.models.import(&folder, &wanted).await.unwrap();
    let scorer = boot.models.load(&wanted, Compute::Any).unwrap();
    let row = &predictions(&scorer, &json!({"dataframe_records": [{"visits_mo": 9}]}))[0];
    assert_eq!(row["output_label"], 0);
    assert!(
        row["output_probability"]["0"].as_f64().unwrap() > 0.99,
        "{row}"
    );
    boot.shut().await;
}
