//! No model serves before it has proved itself.
//!
//! [`verify`] holds a freshly loaded session against known answers: golden outputs that came with
//! the model from its training framework, else answers of the reference evaluation (node by node,
//! no optimisation) over the model's input example, else over rows made from its input specs or by the session. It
//! then measures whether the model's rows are independent of one another, and tells the session.
//!
//! The tolerance is the one table of [`crate::tolerance`]; nothing here can widen it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, LoadModelError, ModelFile, ModelForm, Rows, RunModelError, Session};
use crate::tensor::Tensor;
use crate::text;
use crate::tolerance::{self, Difference, Rounding};

mod rows;
mod seeded;

/// Inputs with the outputs that the training framework gave for them.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownAnswers {
    /// One tensor per input, in the session's order, of the session's types.
    pub inputs: Vec<Tensor>,
    /// One tensor per output, in the session's order, of the session's types.
    pub outputs: Vec<Tensor>,
}

/// What a session was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verified {
    /// The training framework's own outputs.
    Framework,
    /// Node-by-node evaluation of the same file, without any optimisation.
    Reference,
}

impl Verified {
    /// The word in reports: `framework` or `reference`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Framework => "framework",
            Self::Reference => "reference",
        }
    }
}

/// What was found out about a model on an engine. Holds as long as the model's digest, the engine
/// and the machine stay the same; a session loaded later is told [`Verdict::rows`] through
/// [`Session::permit_rows`] instead of being verified again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What the session was held against.
    pub verified: Verified,
    /// Whether its rows are independent.
    pub rows: Rows,
}

/// Why a session may not serve.
#[derive(Debug, thiserror::Error)]
pub enum VerifyModelError {
    /// This build has no reference evaluation, and the model brought no golden outputs.
    #[error("model has no golden outputs, and this build has no reference evaluation")]
    NoReference,
    /// The reference evaluation could not load the model.
    #[error("reference evaluation cannot load the model")]
    LoadReference(#[source] LoadModelError),
    /// The reference evaluation failed on the inputs.
    #[error("reference evaluation failed")]
    RunReference(#[source] RunModelError),
    /// The engine failed on the inputs.
    #[error("engine {engine} failed on the known inputs")]
    Run {
        /// The engine.
        engine: &'static str,
        /// What it said.
        #[source]
        source: RunModelError,
    },
    /// Another number of outputs than expected.
    #[error("engine {engine} gives {got} outputs, expected {expected}")]
    OutputCount {
        /// The engine.
        engine: &'static str,
        /// How many are expected.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// An output outside the tolerance of its type.
    #[error("engine {engine}, output \"{output}\": {difference}")]
    Mismatch {
        /// The engine.
        engine: &'static str,
        /// The output.
        output: String,
        /// The first place where the two differ.
        difference: Difference,
        /// Both outputs in full: expected, got.
        tensors: Box<(Tensor, Tensor)>,
    },
}

/// Inputs for a session whose model brought none: its own, else seeded ones, the same on every machine.
#[must_use]
pub fn made_inputs(session: &dyn Session) -> Vec<Tensor> {
    let own = session.example();
    own.unwrap_or_else(|| seeded::inputs(session.inputs()))
}

/// Holds `session`, loaded by `engine` from `model`, against known answers: `golden` if given, else
/// the reference evaluation over `example` if given, else over 16 rows made here or by the session.
/// Then measures whether
/// rows are independent over the same inputs, and tells the session by [`Session::permit_rows`].
///
/// # Errors
/// [`VerifyModelError`]; the session must then not serve.
pub fn verify(
    engine: &dyn Engine,
    session: &dyn Session,
    model: &ModelFile,
    golden: Option<&KnownAnswers>,
    example: Option<&[Tensor]>,
) -> Result<Verdict, VerifyModelError> {
    session.permit_rows(Rows::Together);
    let (verified, inputs) = if let Some(known) = golden {
        hold(engine.name(), session, &known.inputs, &known.outputs)?;
        (Verified::Framework, known.inputs.clone())
    } else {
        let inputs = example.map_or_else(|| made_inputs(session), <[Tensor]>::to_vec);
        let expected = reference_outputs(model, &inputs)?;
        hold(engine.name(), session, &inputs, &expected)?;
        (Verified::Reference, inputs)
    };
    let rows = rows::measure(session, &inputs).map_err(|source| VerifyModelError::Run {
        engine: engine.name(),
        source,
    })?;
    session.permit_rows(rows);
    // A session that knows better than sixteen rows can show keeps to it.
    let rows = session.rows();
    Ok(Verdict { verified, rows })
}

/// Runs the session and compares every output.
fn hold(
    engine: &'static str,
    session: &dyn Session,
    inputs: &[Tensor],
    expected: &[Tensor],
) -> Result<(), VerifyModelError> {
    let run = || match session.run(inputs) {
        // Answered right in parts, they may be: what is expected was computed together.
        Err(RunModelError::TooLarge { .. }) => {
            session.permit_rows(Rows::Independent);
            let parts = session.run(inputs);
            session.permit_rows(Rows::Together);
            parts
        }
        whole => whole,
    };
    let got = run().map_err(|source| VerifyModelError::Run { engine, source })?;
    if got.len() != expected.len() {
        return Err(VerifyModelError::OutputCount {
            engine,
            expected: expected.len(),
            got: got.len(),
        });
    }
    let roundings = session.roundings().iter().copied();
    let roundings = roundings.chain(std::iter::repeat(Rounding::None));
    let pairs = expected.iter().zip(got);
    for (((expected, got), spec), rounding) in pairs.zip(session.outputs()).zip(roundings) {
        if let Err(difference) = tolerance::compare_rounded(expected, &got, rounding) {
            return Err(VerifyModelError::Mismatch {
                engine,
                output: spec.name.clone(),
                difference,
                tensors: Box::new((expected.clone(), got)),
            });
        }
    }
    Ok(())
}

/// What the reference evaluation of the model's form answers.
fn reference_outputs(
    model: &ModelFile,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, VerifyModelError> {
    let session = text::chained(model, reference(model)?);
    session
        .map_err(VerifyModelError::LoadReference)?
        .run(inputs)
        .map_err(VerifyModelError::RunReference)
}

fn reference(model: &ModelFile) -> Result<Arc<dyn Session>, VerifyModelError> {
    match model.form {
        #[cfg(feature = "tract")]
        ModelForm::Onnx => crate::tract::reference(model).map_err(VerifyModelError::LoadReference),
        #[cfg(feature = "trees")]
        ModelForm::XgBoost(_) | ModelForm::LightGbm(_) => match crate::boosted::reference(model) {
            Ok(session) => Ok(Arc::new(session)),
            Err(error) => Err(VerifyModelError::LoadReference(error)),
        },
        #[cfg(not(all(feature = "tract", feature = "trees")))]
        _ => Err(VerifyModelError::NoReference),
    }
}
