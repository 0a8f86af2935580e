//! Answers.

use edgeward_kernels::engine::RunModelError;
use edgeward_kernels::tensor::{DataType, Tensor, TensorData};

use super::{Predictions, answer, check, scorer};
use crate::model::scoring::ScoreError;
use crate::model::signature::Signature;
use crate::model::tests::fake::{self, FakeSession, spec};

const INPUT: &str = r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,1]}}]"#;
const BODY: &str = r#"{"inputs":[[0]]}"#;

/// A session that answers these outputs, whatever it is asked.
fn answering(
    outputs: Vec<(&'static str, DataType, Vec<Option<usize>>)>,
    tensors: Vec<Tensor>,
) -> std::sync::Arc<FakeSession> {
    let outputs = outputs
        .into_iter()
        .map(|(name, kind, shape)| spec(name, kind, &shape))
        .collect();
    FakeSession::new(
        vec![spec("X", DataType::F32, &[None, Some(1)])],
        outputs,
        move |_| tensors.clone(),
    )
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), TensorData::F32(values.to_vec())).unwrap()
}

#[test]
fn a_float32_prints_its_shortest_form_and_what_json_lacks_is_null() {
    let values = [
        0.87,
        1.0,
        -0.0,
        1e-7,
        3.402_823_5e38,
        f32::NAN,
        f32::INFINITY,
        16_777_216.0,
    ];
    let session = answering(
        vec![("y", DataType::F32, vec![None])],
        vec![f32s(&[values.len()], &values)],
    );
    check(
        &scorer(INPUT, Some(r#"[{"type":"float","name":"y"}]"#), session),
        &[(
            BODY,
            Predictions("[0.87,1.0,-0.0,1e-7,3.4028235e+38,null,null,16777216.0]"),
        )],
    );
}

#[test]
fn the_signatures_outputs_give_the_form() {
    let label = Tensor::new(vec![2], TensorData::I64(vec![1, 0])).unwrap();
    let probabilities = f32s(&[2, 2], &[0.25, 0.75, 0.5, 0.5]);
    let specs = vec![
        ("label", DataType::I64, vec![None]),
        ("probabilities", DataType::F32, vec![None, Some(2)]),
    ];
    let session = || answering(specs.clone(), vec![label.clone(), probabilities.clone()]);
    let matrix = || {
        answering(
            vec![("p", DataType::F32, vec![None, Some(2)])],
            vec![probabilities.clone()],
        )
    };
    let cases = [
        (
            session(),
            None,
            r#"{"label":[1,0],"probabilities":[[0.25,0.75],[0.5,0.5]]}"#,
        ),
        (
            session(),
            Some(r#"[{"type":"long","name":"label"}]"#),
            "[1,0]",
        ),
        (
            session(),
            Some(r#"[{"type":"double","name":"probabilities"}]"#),
            "[[0.25,0.75],[0.5,0.5]]",
        ),
        (
            session(),
            Some(
                r#"[{"type":"tensor","name":"label","tensor-spec":{"dtype":"int64","shape":[-1]}}]"#,
            ),
            r#"{"label":[1,0]}"#,
        ),
        (
            matrix(),
            Some(r#"[{"type":"float","name":"no"},{"type":"float","name":"yes"}]"#),
            r#"[{"no":0.25,"yes":0.75},{"no":0.5,"yes":0.5}]"#,
        ),
        (
            matrix(),
            Some(r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,2]}}]"#),
            r#"{"p":[[0.25,0.75],[0.5,0.5]]}"#,
        ),
    ];
    for (session, outputs, expected) in cases {
        let got = answer(&scorer(INPUT, outputs, session), BODY).unwrap();
        assert_eq!(
            got,
            format!("{{\"predictions\":{expected}}}"),
            "{outputs:?}"
        );
    }
}

#[test]
fn a_column_of_one_is_a_list_of_values() {
    let session = answering(
        vec![("p", DataType::F32, vec![None, Some(1)])],
        vec![f32s(&[2, 1], &[0.5, 1.5])],
    );
    let outputs = Some(r#"[{"type":"float","name":"other"}]"#);
    check(
        &scorer(INPUT, outputs, session),
        &[(BODY, Predictions("[0.5,1.5]"))],
    );
}

#[test]
fn text_is_escaped() {
    let words = TensorData::String(vec!["a\"\\\n".into(), "\u{1}\u{e9}".into()]);
    let session = answering(
        vec![("w\"", DataType::String, vec![None])],
        vec![Tensor::new(vec![2], words).unwrap()],
    );
    check(
        &scorer(INPUT, None, session),
        &[(
            BODY,
            Predictions("{\"w\\\"\":[\"a\\\"\\\\\\n\",\"\\u0001\u{e9}\"]}"),
        )],
    );
}

#[test]
fn a_failing_model_is_not_the_clients_mistake() {
    let failing = |error: RunModelError| {
        let inputs = vec![spec("X", DataType::F32, &[None, Some(1)])];
        let session = FakeSession::failing(inputs.clone(), inputs, move |_| Err(error.clone()));
        fake::scorer(Signature::parse(INPUT, None, None).unwrap(), session).unwrap()
    };
    let engine = RunModelError::Engine {
        reason: "broken".into(),
    };
    let refused = answer(&failing(engine.clone()), BODY).unwrap_err();
    assert_eq!(refused, ScoreError::Model(engine));
    assert_eq!(refused.mistake(), None);
    let input = RunModelError::InputCount {
        expected: 2,
        got: 1,
    };
    assert!(
        answer(&failing(input), BODY)
            .unwrap_err()
            .mistake()
            .is_some()
    );
    let silent = answering(vec![("y", DataType::F32, vec![None])], vec![]);
    let refused = answer(&scorer(INPUT, None, silent), BODY).unwrap_err();
    assert!(matches!(refused, ScoreError::Output { .. }), "{refused}");
}
