//! The scoring rules, row by row of the table in the module's documentation.

mod bodies;
mod columns;
mod properties;
mod rendering;
mod tensors;

use bytes::Bytes;
use edgeward_kernels::tensor::DataType;

use super::{Mistake, ScoreError, Scorer, parse_scoring_body};
use crate::model::signature::Signature;
use crate::model::tests::fake::{self, FakeSession, spec};

/// The body of the reply, or the refusal.
fn answer(scorer: &Scorer, body: &str) -> Result<String, ScoreError> {
    let request = parse_scoring_body(&Bytes::copy_from_slice(body.as_bytes()))?;
    let predictions = scorer.score(&request.input)?;
    Ok(String::from_utf8(predictions.into_body()).unwrap())
}

/// What a body gets: the predictions as JSON text, or a refusal that says this.
enum Gets {
    Predictions(&'static str),
    BadRequest(&'static str),
    Invalid(&'static str),
}

use Gets::{BadRequest, Invalid, Predictions};

fn check(scorer: &Scorer, cases: &[(&str, Gets)]) {
    for (body, gets) in cases {
        let got = answer(scorer, body);
        let (mistake, text) = match gets {
            Predictions(expected) => {
                let expected = format!("{{\"predictions\":{expected}}}");
                assert_eq!(got.as_deref(), Ok(expected.as_str()), "{body}");
                continue;
            }
            BadRequest(text) => (Mistake::BadRequest, text),
            Invalid(text) => (Mistake::InvalidParameterValue, text),
        };
        let refused = got.expect_err(body);
        assert_eq!(refused.mistake(), Some(mistake), "{body}: {refused}");
        assert!(
            refused.to_string().contains(text),
            "{body}: {refused}, not {text}"
        );
    }
}

pub(super) fn scorer(
    inputs: &str,
    outputs: Option<&str>,
    session: std::sync::Arc<FakeSession>,
) -> Scorer {
    fake::scorer(Signature::parse(inputs, outputs, None).unwrap(), session).unwrap()
}

/// `amount` and `hour`, both float; the prediction is their sum.
pub(super) fn amount_and_hour() -> Scorer {
    scorer(
        r#"[{"type":"float","name":"amount"},{"type":"float","name":"hour"}]"#,
        Some(r#"[{"type":"float","name":"p"}]"#),
        FakeSession::row_sum(Some(2)),
    )
}

/// One tensor without a name, `[-1, 4]`; the output is `y`.
fn matrix_of_four() -> Scorer {
    scorer(
        r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,4]}}]"#,
        Some(r#"[{"type":"tensor","name":"y","tensor-spec":{"dtype":"float32","shape":[-1]}}]"#),
        FakeSession::row_sum(Some(4)),
    )
}

/// One column of each kind, each fed to an input of its name and given back.
fn every_type() -> Scorer {
    let inputs = r#"[{"type":"boolean","name":"flag","required":true},
        {"type":"integer","name":"small","required":true},
        {"type":"long","name":"big","required":true},
        {"type":"double","name":"real","required":true},
        {"type":"string","name":"text","required":true},
        {"type":"binary","name":"bytes","required":false},
        {"type":"datetime","name":"moment","required":false},
        {"type":"boolean","name":"maybe","required":false},
        {"type":"string","name":"note","required":false}]"#;
    let one = [None, Some(1)];
    let session = FakeSession::echo(vec![
        spec("flag", DataType::Bool, &one),
        spec("small", DataType::I32, &one),
        spec("big", DataType::I64, &one),
        spec("real", DataType::F64, &one),
        spec("text", DataType::String, &one),
        spec("bytes", DataType::String, &one),
        spec("moment", DataType::String, &one),
        spec("maybe", DataType::F32, &one),
        spec("note", DataType::String, &one),
    ]);
    scorer(inputs, Some(inputs), session)
}
