//! What an engine is: something that loads a model file into a session, and a session that runs.
//!
//! Owns the two traits and their errors. Knows no engine by name.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use edgeward_base::digest::Digest;
use edgeward_base::units::ByteCount;
use serde::{Deserialize, Serialize};

use crate::chain::TextChain;
use crate::tensor::{DataType, Tensor, TensorSpec};
use crate::tolerance::Rounding;

/// A model file on disk whose digest the caller has already verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Where it lies. External data, where the model has any, lies beside it.
    pub path: PathBuf,
    /// The digest of the file's bytes; names the model in logs.
    pub digest: Digest,
    /// What the file is.
    pub form: ModelForm,
    /// What makes a model of texts of it, where it is an encoder. [`crate::load`] puts it around the
    /// session; an engine does not see it.
    pub text: Option<TextChain>,
}

/// What a model file is, and what is asked of it. Each engine says which forms it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelForm {
    /// An ONNX graph.
    Onnx,
    /// A model that `XGBoost` saved, as JSON or UBJSON.
    XgBoost(Predictor),
    /// A model that `LightGBM` saved, as text.
    LightGbm(Predictor),
}

impl ModelForm {
    /// What the form is called in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "ONNX",
            Self::XgBoost(_) => "XGBoost",
            Self::LightGbm(_) => "LightGBM",
        }
    }
}

/// Whose `predict` is answered: a file of boosted trees does not say by what it was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predictor {
    /// The booster itself: probabilities or values, of all trees.
    Booster,
    /// An estimator of the scikit-learn interface that answers values: up to its best iteration.
    Estimator,
    /// A classifier of the scikit-learn interface: class labels, up to its best iteration.
    Classifier,
}

/// Whether the rows of a batch may be computed together with rows that nobody asked for.
///
/// Row `i` of every output must depend on row `i` of the inputs alone. One operator is enough to
/// break that (`DynamicQuantizeLinear` takes its range over the whole tensor), so it is never
/// assumed: [`crate::verify::verify`] measures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Each row answers the same alone, padded and beside others: batching and padding are allowed.
    Independent,
    /// Rows influence one another, or were never shown not to: every call runs exactly as given.
    Together,
}

/// One way to compute a model.
pub trait Engine: Debug + Send + Sync {
    /// The name in logs, rows and reported state, for example `tract`.
    fn name(&self) -> &'static str;

    /// Whether it loads models of that form.
    fn takes(&self, form: ModelForm) -> bool;

    /// What it computes on beside the processor, with what decides on its answers: the driver's version.
    fn hardware(&self) -> Option<String> {
        None
    }

    /// Whether it computes on a device, be there one now or not.
    fn is_for_device(&self) -> bool {
        self.hardware().is_some()
    }

    /// Whether it computes on a processor that only pretends to be the device it is for. Such an engine is
    /// never chosen where another passes.
    fn is_software(&self) -> bool {
        false
    }

    /// Parses, checks and prepares a model. Blocking, and as slow as the model is big.
    ///
    /// # Errors
    /// [`LoadModelError`], naming the operator or the tensor that stood in the way.
    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError>;
}

/// A loaded model. Runs concurrently from any number of threads.
pub trait Session: Debug + Send + Sync {
    /// The inputs in the order in which [`Session::run`] wants them.
    fn inputs(&self) -> &[TensorSpec];

    /// The outputs in the order in which [`Session::run`] returns them.
    fn outputs(&self) -> &[TensorSpec];

    /// What the model calls the columns of its one matrix input, in their order; empty where it
    /// calls them nothing.
    fn columns(&self) -> &[String] {
        &[]
    }

    /// Whether a row may lack any of [`Session::columns`]: the matrix then has NaN, or the empty text,
    /// which count as nothing.
    fn has_sparse_columns(&self) -> bool {
        false
    }

    /// Of each output what the model calls the numbers of a row, such as the classes whose scores they
    /// are; empty, or missing, where it calls them nothing.
    fn labels(&self) -> &[Vec<String>] {
        &[]
    }

    /// Whether the one output is the whole answer, as the training framework's `predict` returns an
    /// array, rather than one tensor by its name.
    fn answers_array(&self) -> bool {
        false
    }

    /// What the session knows of tokens, where it is a model of texts.
    fn texts(&self) -> Option<&dyn Texts> {
        None
    }

    /// Inputs that the model has a meaning for; `None` where any of its types will do. They are run
    /// where nobody brought others.
    fn example(&self) -> Option<Vec<Tensor>> {
        None
    }

    /// What rounding to 8 bits lies before each output, in their order; outputs that are missing here
    /// went through none. It widens how far [`crate::verify::verify`] lets them lie from the expected.
    fn roundings(&self) -> &[Rounding] {
        &[]
    }

    /// Computes the outputs. Blocking. Never pads or batches unless [`Session::permit_rows`] was
    /// told that rows are independent.
    ///
    /// # Errors
    /// [`RunModelError::is_input_mistake`] tells the caller's mistakes from the engine's failures.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError>;

    /// What [`crate::verify::verify`] found out about this model's rows. A new session holds
    /// [`Rows::Together`].
    fn permit_rows(&self, rows: Rows);

    /// What was last permitted.
    fn rows(&self) -> Rows;

    /// The nodes of the model that are computed on the processor because the engine's device has no form
    /// for them, each as `Operator (name)`; of the plan with most of them. Empty for an engine without
    /// a device.
    fn host_nodes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Which engine answers instead of the one that the session was loaded by, and why; `None` while that
    /// one does.
    fn takeover(&self) -> Option<Takeover> {
        None
    }

    /// An estimate of the processor's memory that the session holds now: weights, plans and buffers.
    fn resident(&self) -> ByteCount;

    /// What its weights take now of the memory of the device that computes the next call; `None` where
    /// that is the processor.
    fn on_device(&self) -> Option<ByteCount> {
        None
    }
}

/// An engine that took over from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The engine that answers now.
    pub engine: &'static str,
    /// Why the other does not.
    pub reason: String,
}

/// The tokens of a model of texts, whose one input is texts `[rows]` and whose one output their vectors
/// `[rows, width]`.
pub trait Texts {
    /// How many tokens the model sees of `text`, those that begin and end it included.
    ///
    /// # Errors
    /// [`RunModelError::Engine`] when the tokenizer fails.
    fn count(&self, text: &str) -> Result<usize, RunModelError>;

    /// The text that these tokens of the model's own vocabulary make.
    ///
    /// # Errors
    /// [`RunModelError::Engine`] when one of them is none.
    fn decode(&self, tokens: &[u32]) -> Result<String, RunModelError>;
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadModelError {
    /// The file could not be read.
    #[error("cannot read model file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not a model of the form, or a part of it is damaged.
    #[error("not a valid {} model: {reason}", form.as_str())]
    Parse {
        /// What the file should be.
        form: ModelForm,
        /// What is wrong with it.
        reason: String,
    },
    /// The model uses operators that this engine does not have.
    #[error("unsupported operator: {}", operators.join(", "))]
    Unsupported {
        /// Each operator with the node that uses it, as `SVMClassifier (node "svc")`.
        operators: Vec<String>,
    },
    /// The model uses something that is not computed here.
    #[error("unsupported: {what}")]
    NotServed {
        /// What it is, and what to do instead.
        what: String,
    },
    /// An input or output has an element type that does not cross the engine boundary.
    #[error("{place} \"{name}\" has element type {data_type}, which is not supported")]
    ElementType {
        /// `input` or `output`.
        place: &'static str,
        /// The tensor.
        name: String,
        /// The type found.
        data_type: String,
    },
    /// The shapes in the model contradict one another, or an operator's attributes are wrong.
    #[error("the model's graph does not type: {reason}")]
    Shape {
        /// The node and what is wrong with it.
        reason: String,
    },
    /// The encoder loads, and does not fit the tokenizer and the pooling around it.
    #[error("not a model of texts: {reason}")]
    Chain {
        /// What does not fit.
        reason: String,
    },
    /// The engine gave up for a reason of its own, or panicked.
    #[error("engine failed to prepare the model: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
}

/// Why a run gave no outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunModelError {
    /// Too many or too few inputs.
    #[error("model takes {expected} inputs, got {got}")]
    InputCount {
        /// What the model takes.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// An input of the wrong element type.
    #[error("input \"{name}\" is {expected}, got {got}")]
    InputType {
        /// The input.
        name: String,
        /// What the model takes.
        expected: DataType,
        /// What was given.
        got: DataType,
    },
    /// An input of the wrong rank or extent.
    #[error("input \"{name}\" has shape {}, got {got:?}", show_shape(expected))]
    InputShape {
        /// The input.
        name: String,
        /// What the model takes; `None` where any extent will do.
        expected: Vec<Option<usize>>,
        /// What was given.
        got: Vec<usize>,
    },
    /// An element that the model has no meaning for.
    #[error("input \"{name}\", row {row}: {reason}")]
    InputValue {
        /// The input, or the column of it.
        name: String,
        /// The row, from 0.
        row: usize,
        /// What is wrong with the element.
        reason: String,
    },
    /// The engine failed on inputs that fit the model.
    #[error("engine failed: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
    /// The engine cannot hold what it computes of so many rows, or of rows this long, at once.
    #[error("engine has no room: {reason}")]
    TooLarge {
        /// What the engine said.
        reason: String,
    },
    /// The engine panicked on this or an earlier call: the session answers nothing any more and
    /// has to be loaded again.
    #[error("session is dead: {reason}")]
    Dead {
        /// The message of the panic.
        reason: String,
    },
}

impl RunModelError {
    /// Whether the inputs were wrong, rather than the engine.
    #[must_use]
    pub fn is_input_mistake(&self) -> bool {
        matches!(
            self,
            Self::InputCount { .. }
                | Self::InputType { .. }
                | Self::InputShape { .. }
                | Self::InputValue { .. }
        )
    }
}

/// Writes a shape with `-1` for a free axis, as ONNX tools do.
fn show_shape(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| dim.map_or_else(|| "-1".to_owned(), |dim| dim.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}
