//! What holds for any rows and any JSON.

use bytes::Bytes;
use edgeward_kernels::tensor::{DataType, Tensor};
use proptest::prelude::*;
use proptest::sample::SizeRange;
use serde_json::{Map, Value, json};

use super::{amount_and_hour, every_type, matrix_of_four, scorer};
use crate::model::scoring::{Scorer, parse_scoring_body};
use crate::model::tests::fake::{FakeSession, spec};

/// A string column, a long one and an optional boolean one that feeds floats, as the fraud samples.
fn mixed() -> Scorer {
    let columns = r#"[{"type":"double","name":"amount"},{"type":"string","name":"merchant"},
        {"type":"long","name":"hour"},{"type":"boolean","name":"foreign","required":false}]"#;
    let one = [None, Some(1)];
    let session = FakeSession::echo(vec![
        spec("amount", DataType::F32, &one),
        spec("merchant", DataType::String, &one),
        spec("hour", DataType::I64, &one),
        spec("foreign", DataType::F32, &one),
    ]);
    scorer(columns, None, session)
}

fn tensors(scorer: &Scorer, body: &Value) -> Vec<Tensor> {
    let body = Bytes::from(serde_json::to_vec(body).unwrap());
    scorer
        .prepare(&parse_scoring_body(&body).unwrap().input)
        .unwrap()
}

/// Rows in the order amount, merchant, hour, foreign.
fn rows() -> impl Strategy<Value = Vec<[Value; 4]>> {
    let row = (
        prop_oneof![
            (-1e6..1e6).prop_map(Value::from),
            any::<i32>().prop_map(Value::from)
        ],
        any::<String>(),
        any::<i64>(),
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)],
    )
        .prop_map(|(amount, merchant, hour, foreign)| {
            [amount, Value::from(merchant), Value::from(hour), foreign]
        });
    prop::collection::vec(row, SizeRange::from(1..20))
}

const NAMES: [&str; 4] = ["amount", "merchant", "hour", "foreign"];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("columns"),
        Just("data"),
        Just("index"),
        Just("amount"),
        Just("hour"),
        Just("X"),
        Just("flag"),
        Just("text"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<Map<_, _>>()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn the_four_forms_and_any_column_order_give_the_same_tensors(
        rows in rows(),
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let scorer = mixed();
        let records: Vec<Value> = rows
            .iter()
            .map(|row| Value::Object(
                order.iter().map(|&at| (NAMES[at].to_owned(), row[at].clone())).collect()
            ))
            .collect();
        let columns: Vec<&str> = order.iter().map(|&at| NAMES[at]).collect();
        let data: Vec<Vec<Value>> =
            rows.iter().map(|row| order.iter().map(|&at| row[at].clone()).collect()).collect();
        let by_column: Map<String, Value> = order
            .iter()
            .map(|&at| {
                let cells: Vec<Value> = rows.iter().map(|row| row[at].clone()).collect();
                (NAMES[at].to_owned(), Value::from(cells))
            })
            .collect();
        let expected = tensors(&scorer, &json!({ "dataframe_records": records }));
        prop_assert_eq!(expected[0].shape(), &[rows.len(), 1]);
        for body in [
            json!({ "instances": records }),
            json!({ "inputs": by_column }),
            json!({ "dataframe_split": { "columns": columns, "data": data } }),
        ] {
            // NaN differs from itself, so the texts are compared.
            prop_assert_eq!(format!("{:?}", tensors(&scorer, &body)), format!("{expected:?}"));
        }
    }

    #[test]
    fn any_json_is_answered_or_refused(value in any_json(), form in 0_usize..4) {
        let form = ["dataframe_records", "dataframe_split", "inputs", "instances"][form];
        let body = Bytes::from(serde_json::to_vec(&json!({ form: value })).unwrap());
        let input = parse_scoring_body(&body).unwrap().input;
        for scorer in [amount_and_hour(), matrix_of_four(), every_type(), mixed()] {
            if let Err(refused) = scorer.score(&input) {
                prop_assert!(refused.mistake().is_some(), "{refused}");
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(refused) = parse_scoring_body(&Bytes::from(bytes)) {
            prop_assert!(refused.mistake().is_some());
        }
    }

    #[test]
    fn predictions_are_json_for_any_float(values in prop::collection::vec(any::<f32>(), 1..20)) {
        let body = json!({ "inputs": values.iter().map(|v| [f64::from(*v)]).collect::<Vec<_>>() });
        let echo = FakeSession::echo(vec![spec("X", DataType::F32, &[None, Some(1)])]);
        let signature = r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,1]}}]"#;
        let scorer = scorer(signature, Some(r#"[{"type":"float","name":"X"}]"#), echo);
        let got: Value = serde_json::from_str(&super::answer(&scorer, &body.to_string()).unwrap()).unwrap();
        for (got, sent) in got["predictions"].as_array().unwrap().iter().zip(&values) {
            #[expect(clippy::cast_possible_truncation, reason = "what was a float32 is one again")]
            let read = got.as_f64().map(|value| value as f32);
            prop_assert_eq!(read, sent.is_finite().then_some(*sent));
        }
    }
}
