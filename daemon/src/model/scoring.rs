//! Scoring: from the JSON of an invocation to tensors, through a session, and back to JSON.
//!
//! Owns the rules that MLflow's scoring server has for tabular models. Pure but for the session it
//! runs: reads no clock, no disk, no state.
//!
//! # Input
//!
//! A body has exactly one of four forms beside `client_request_id`, `usage_context` and `params`:
//!
//! | form | model with columns | model with tensors |
//! |---|---|---|
//! | `dataframe_split` | `{"columns": [..], "data": [[..]]}` | the data is one matrix; several tensors: one column each |
//! | `dataframe_records` | list of row objects | the same, columns in the order of the first row |
//! | `inputs` | object of columns, or list of row objects | nested lists, or an object of them by name |
//! | `instances` | list of row objects | list of rows: nested lists, or objects by name |
//! | a body of type `text/csv` | a table; the first line names its columns | each column a matrix's column, or a tensor by name |
//!
//! - columns come in any order; columns that the model does not know are ignored;
//! - a column that is not required may be absent or null; a required one that no row has is missing,
//!   and the answer lists all that are missing; absent from some rows means null in those rows;
//! - null is NaN in a column that feeds a floating-point input, and the empty string in a column
//!   that is not required and feeds a string input (ONNX has no null); elsewhere it is refused;
//! - numbers widen (an integer or a boolean for a floating-point column), and `3.0` passes for an
//!   integer; a fraction for an integer, a number out of the type's range and text for a number are
//!   refused, and so is a number for text;
//! - `binary` is base64 of UTF-8 text, `datetime` is ISO 8601 and reaches an int64 input as
//!   nanoseconds since 1970 UTC;
//! - with one input the whole table becomes one matrix, in the order of the names that the model has
//!   for its columns or else of the signature; with several, each column feeds the input of its name;
//! - what the signature calls float32 is rounded to it, also where the model computes in float64.
//!
//! # Output
//!
//! | outputs of the signature | `predictions` |
//! |---|---|
//! | one column | list of values |
//! | several columns | list of row objects |
//! | tensors | object of nested lists, by name; of boosted trees, whose frameworks answer one array, the nested list alone |
//!
//! A row of numbers that the model calls by names, such as the classes of a `ZipMap`, is an object
//! with these names instead of a list.
//!
//! NaN and infinities, which JSON lacks, are null. A float32 prints its shortest text that reads
//! back to the same float32: MLflow prints the digits of its conversion to double, which says the
//! same number in twice the bytes.

mod binding;
mod body;
mod cell;
mod columns;
mod csv;
mod datetime;
mod flat;
mod render;
mod table;
mod tensors;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use edgeward_base::clock::SharedClock;
use edgeward_base::names::ModelRef;
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{RunModelError, Session};
use edgeward_kernels::standby::Standby;
use edgeward_kernels::tensor::{Tensor, TensorData, TensorSpec};
use edgeward_kernels::verify::Verdict;

use super::on_demand::{Load, OnDemand};
use super::signature::{Schema, Signature};

pub use binding::BindModelError;
use binding::{Binding, Interface, TensorPlan};
pub use body::{ScoringRequest, parse_csv_body, parse_scoring_body};
pub use flat::{read_values, write_values};

/// The most texts that a request asks a model of texts about. A short text is three bytes of a body and
/// kilobytes of an answer.
pub const MOST_TEXTS: usize = 2_048;

/// The most bytes of a message that quotes a body, whose values may have megabytes.
const MOST_MESSAGE: usize = 4_096;

/// Which form the rows of a request have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputForm {
    /// `{"columns": [..], "data": [[..]]}`.
    DataframeSplit,
    /// A list of row objects.
    DataframeRecords,
    /// Columns or tensors by name, or one bare tensor.
    Inputs,
    /// A list of rows.
    Instances,
    /// A table as comma-separated text, the whole body.
    Csv,
}

impl InputForm {
    /// The key in the body, or the type of the whole of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataframeSplit => "dataframe_split",
            Self::DataframeRecords => "dataframe_records",
            Self::Inputs => "inputs",
            Self::Instances => "instances",
            Self::Csv => "text/csv",
        }
    }
}

impl fmt::Display for InputForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rows of one request, still as text.
///
/// JSON is checked to be that when it is made, and read once more, straight into tensors of the
/// right type, when the model that answers is known: no tree of values lies between.
#[derive(Debug, Clone)]
pub struct ScoringInput {
    form: InputForm,
    text: Bytes,
}

impl ScoringInput {
    /// Takes the JSON value under the key of `form`, or the text that it names.
    #[must_use]
    pub fn new(form: InputForm, text: Bytes) -> Self {
        Self { form, text }
    }

    /// The form.
    #[must_use]
    pub fn form(&self) -> InputForm {
        self.form
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// What kind of mistake a client made: it decides the error code, the status is 400 for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The body does not have its form, or a value is not of its column's type: `BAD_REQUEST`.
    BadRequest,
    /// What is there does not fit the signature: missing columns, another shape, no names: MLflow's
    /// `INVALID_PARAMETER_VALUE`.
    InvalidParameterValue,
}

/// Why there is no prediction.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// The client's mistake. The message is for the client.
    #[error("{message}")]
    Refused {
        /// What kind of mistake.
        mistake: Mistake,
        /// Names the field and what is allowed.
        message: String,
    },
    /// The model failed on rows that fit it.
    #[error("model failed")]
    Model(#[source] RunModelError),
    /// The model was let go while nobody asked, and cannot be loaded again.
    #[error("model version {model} cannot be loaded again: {reason}")]
    Load {
        /// The version.
        model: ModelRef,
        /// Why.
        reason: String,
    },
    /// The session gave other outputs than it declares.
    #[error("model gave no usable output {name:?}")]
    Output {
        /// The output of the signature.
        name: String,
    },
}

impl ScoreError {
    /// The message may quote the body: what of it is beyond [`MOST_MESSAGE`] is left out.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MOST_MESSAGE {
            message.truncate(message.floor_char_boundary(MOST_MESSAGE));
            message.push('…');
        }
        Self::Refused {
            mistake: Mistake::BadRequest,
            message,
        }
    }

    /// The message names what the model has, however much that is, and quotes nothing of the body.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Refused {
            mistake: Mistake::InvalidParameterValue,
            message: message.into(),
        }
    }

    /// The client's mistake, or `None` when it is the model that failed.
    #[must_use]
    pub fn mistake(&self) -> Option<Mistake> {
        match self {
            Self::Refused { mistake, .. } => Some(*mistake),
            Self::Model(_) | Self::Load { .. } | Self::Output { .. } => None,
        }
    }
}

/// An answer: the whole reply body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predictions {
    body: Vec<u8>,
}

impl Predictions {
    /// `{"predictions": ...}`, as compact JSON.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same, given up.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// A loaded model version that answers invocations. Shared by any number of threads.
#[derive(Debug)]
pub struct Scorer {
    model: ModelRef,
    engine: &'static str,
    verdict: Verdict,
    signature: Signature,
    session: Arc<dyn Session>,
    /// The session, where it can be let go.
    on_demand: Option<Arc<OnDemand>>,
    binding: Binding,
}

impl Scorer {
    /// Ties a signature to a session that has proved itself.
    ///
    /// # Errors
    /// [`BindModelError`] when the signature does not fit the graph.
    pub fn bind(
        model: ModelRef,
        engine: &'static str,
        verdict: Verdict,
        signature: Signature,
        session: Arc<dyn Session>,
    ) -> Result<Self, BindModelError> {
        let binding = Binding::new(&signature, Interface::of(session.as_ref()))?;
        Ok(Self {
            model,
            engine,
            verdict,
            signature,
            session,
            on_demand: None,
            binding,
        })
    }

    /// The same, with a session of `engine` that takes over when this one fails.
    pub(super) fn with_standby(self, other: &Self) -> Self {
        let (first, second) = (self.session, Arc::clone(&other.session));
        let session = Arc::new(Standby::new(first, second, other.engine));
        let rows = session.rows();
        session.permit_rows(rows);
        Self {
            verdict: Verdict {
                rows,
                ..self.verdict
            },
            session,
            ..self
        }
    }

    /// The same, with a session that can be let go: `load` makes another one of it.
    pub(super) fn on_demand(self, clock: SharedClock, load: Load) -> Self {
        let on_demand = Arc::new(OnDemand::new(self.session, clock, load));
        Self {
            session: Arc::clone(&on_demand) as Arc<dyn Session>,
            on_demand: Some(on_demand),
            ..self
        }
    }

    /// Lets the session go until the next request, where it can be loaded again. Whether there was one.
    /// Blocking: it is big.
    pub fn scale_to_zero(&self) -> bool {
        let on_demand = self.on_demand.as_ref();
        on_demand.is_some_and(|session| session.let_go())
    }

    /// Whether the session was let go.
    #[must_use]
    pub fn is_at_zero(&self) -> bool {
        let on_demand = self.on_demand.as_ref();
        on_demand.is_some_and(|session| session.is_at_zero())
    }

    /// Loads the session, if it was let go. Blocking, and as slow as the model is big.
    ///
    /// # Errors
    /// [`ScoreError::Load`] when that cannot be done any more.
    pub fn wake(&self) -> Result<(), ScoreError> {
        let Some(session) = self.on_demand.as_ref() else {
            return Ok(());
        };
        let woken = session.wake();
        woken.map(drop).map_err(|reason| ScoreError::Load {
            model: self.model.clone(),
            reason,
        })
    }

    /// The model version.
    #[must_use]
    pub fn model(&self) -> &ModelRef {
        &self.model
    }

    /// The engine that computes it now, such as `tract`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        let takeover = self.session.takeover();
        takeover.map_or(self.engine, |takeover| takeover.engine)
    }

    /// What it was held against before it could serve, and whether its rows are independent.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What it takes and gives.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The session beneath.
    #[must_use]
    pub fn session(&self) -> &Arc<dyn Session> {
        &self.session
    }

    /// An estimate of the memory it holds.
    #[must_use]
    pub fn resident(&self) -> ByteCount {
        self.session.resident()
    }

    /// Answers one request: [`Scorer::prepare`], [`Scorer::run`], [`Scorer::render`].
    ///
    /// # Errors
    /// [`ScoreError`], which tells the client's mistakes from the model's failures.
    pub fn score(&self, input: &ScoringInput) -> Result<Predictions, ScoreError> {
        let inputs = self.prepare(input)?;
        let outputs = self.run(&inputs)?;
        self.render(&outputs)
    }

    /// Reads the rows into one tensor per ONNX input, in the session's order.
    ///
    /// # Shapes
    /// Axis 0 counts rows.
    ///
    /// # Errors
    /// [`ScoreError::Refused`], always.
    pub fn prepare(&self, input: &ScoringInput) -> Result<Vec<Tensor>, ScoreError> {
        let tensors = self.binding.read(input)?;
        for (tensor, spec) in tensors.iter().zip(self.session.inputs()) {
            if !spec.admits(tensor.shape()) {
                return Err(tensors::wrong_shape(tensor.shape(), &spec.shape));
            }
        }
        Ok(tensors)
    }

    /// Computes the outputs. Blocking.
    ///
    /// # Errors
    /// [`ScoreError::Refused`] when the engine says that the inputs do not fit the model,
    /// [`ScoreError::Model`] when it failed.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
        self.session.run(inputs).map_err(|error| {
            if error.is_input_mistake() {
                ScoreError::bad_request(error.to_string())
            } else {
                ScoreError::Model(error)
            }
        })
    }

    /// The tokens of a request, where the model is one of texts.
    ///
    /// # Errors
    /// [`ScoreError::Refused`] when there are more than [`MOST_TEXTS`] texts, [`ScoreError::Model`] when the
    /// tokenizer fails.
    pub fn count_tokens(&self, inputs: &[Tensor]) -> Result<Option<u64>, ScoreError> {
        let texts = inputs.first().map(Tensor::data);
        let (Some(model), Some(TensorData::String(texts))) = (self.session.texts(), texts) else {
            return Ok(None);
        };
        if texts.len() > MOST_TEXTS {
            let count = texts.len();
            return Err(ScoreError::bad_request(format!(
                "a request has at most {MOST_TEXTS} texts, this one has {count}"
            )));
        }
        let counts = texts.iter().map(|text| model.count(text));
        let total: usize = counts.sum::<Result<_, _>>().map_err(ScoreError::Model)?;
        Ok(Some(u64::try_from(total).unwrap_or(u64::MAX)))
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// [`ScoreError::Output`] when the outputs are not those that the session declares.
    pub fn render(&self, outputs: &[Tensor]) -> Result<Predictions, ScoreError> {
        self.binding.outputs().render(outputs)
    }

    /// The names of the columns or tensors that a request brings.
    #[must_use]
    pub fn input_names(&self) -> Vec<&str> {
        match &self.signature.inputs {
            Schema::Columns(columns) => columns.iter().map(|c| c.name.as_str()).collect(),
            Schema::Tensors(tensors) => tensors.iter().filter_map(|t| t.name.as_deref()).collect(),
        }
    }
}

/// Reads an object of tensors by name, such as golden outputs, into one tensor per spec.
pub(super) fn read_outputs(specs: &[TensorSpec], json: Bytes) -> Result<Vec<Tensor>, ScoreError> {
    tensors::read(
        &TensorPlan::of(specs),
        &ScoringInput::new(InputForm::Inputs, json),
    )
}

#[cfg(test)]
mod tests;
