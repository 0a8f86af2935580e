//! The known answers that a model version brings: golden outputs, or an input example.
//!
//! ```json
//! {"framework": "scikit-learn 1.9.1",
//!  "inputs": {"columns": ["amount"], "data": [[153.84]]},
//!  "outputs": {"fraud_probability": [0.12]}}
//! ```
//!
//! `inputs` is a split table, or an object of tensors by name; `outputs` has one entry per ONNX
//! output, of its shape. Both are read by the rules of scoring.

use bytes::Bytes;
use edgeward_kernels::engine::Session;
use edgeward_kernels::tensor::Tensor;
use edgeward_kernels::verify::KnownAnswers;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::scoring::{
    InputForm, ScoreError, Scorer, ScoringInput, parse_scoring_body, read_outputs,
};
use super::version::{GOLDEN, INPUT_EXAMPLE, SERVING_EXAMPLE, Version};

/// Why known answers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadKnownAnswersError {
    /// Not JSON of the right form.
    #[error("{file} does not have its form")]
    Json {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Inputs or outputs that the model does not take or give.
    #[error("{file} does not fit the model")]
    Fit {
        /// The file.
        file: &'static str,
        /// What does not fit.
        #[source]
        source: ScoreError,
    },
}

/// What a version brings to be held against.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) golden: Option<KnownAnswers>,
    pub(super) example: Option<Vec<Tensor>>,
}

#[derive(Deserialize)]
struct Golden<'a> {
    #[serde(borrow)]
    inputs: &'a RawValue,
    #[serde(borrow)]
    outputs: &'a RawValue,
}

/// A split table, if it has these keys.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether the keys are there is asked")]
struct SplitTable {
    columns: IgnoredAny,
    data: IgnoredAny,
}

/// Reads what a version brings: golden outputs, else the serving example, else the input example.
pub(super) fn read(
    version: &Version,
    scorer: &Scorer,
    session: &dyn Session,
) -> Result<Known, ReadKnownAnswersError> {
    if let Some(bytes) = &version.golden {
        let golden = golden(bytes, scorer, session)?;
        return Ok(Known {
            golden: Some(golden),
            example: None,
        });
    }
    let example = if let Some(bytes) = &version.serving_example {
        let body = Bytes::from(bytes.clone());
        let fit = |source| ReadKnownAnswersError::Fit {
            file: SERVING_EXAMPLE,
            source,
        };
        let request = parse_scoring_body(&body).map_err(fit)?;
        Some(scorer.prepare(&request.input).map_err(fit)?)
    } else if let Some(bytes) = &version.input_example {
        let text: &RawValue =
            serde_json::from_slice(bytes).map_err(|source| ReadKnownAnswersError::Json {
                file: INPUT_EXAMPLE,
                source,
            })?;
        Some(
            scorer
                .prepare(&input_of(text))
                .map_err(|source| ReadKnownAnswersError::Fit {
                    file: INPUT_EXAMPLE,
                    source,
                })?,
        )
    } else {
        None
    };
    Ok(Known {
        golden: None,
        example,
    })
}

fn golden(
    bytes: &[u8],
    scorer: &Scorer,
    session: &dyn Session,
) -> Result<KnownAnswers, ReadKnownAnswersError> {
    let golden: Golden<'_> =
        serde_json::from_slice(bytes).map_err(|source| ReadKnownAnswersError::Json {
            file: GOLDEN,
            source,
        })?;
    let fit = |source| ReadKnownAnswersError::Fit {
        file: GOLDEN,
        source,
    };
    let outputs = Bytes::copy_from_slice(golden.outputs.get().as_bytes());
    Ok(KnownAnswers {
        inputs: scorer.prepare(&input_of(golden.inputs)).map_err(fit)?,
        outputs: read_outputs(session.outputs(), outputs).map_err(fit)?,
    })
}

fn input_of(text: &RawValue) -> ScoringInput {
    let split = serde_json::from_str::<SplitTable>(text.get()).is_ok();
    let form = if split {
        InputForm::DataframeSplit
    } else {
        InputForm::Inputs
    };
    ScoringInput::new(form, Bytes::copy_from_slice(text.get().as_bytes()))
}
