//! Call: how a dialect reads one request and writes its answer.
//!
//! Both happen where the model runs, because reading a long body takes long. What a call wrote down
//! for itself while it read, it has when it writes, and gives back to its dialect with the answer.

use bytes::Bytes;
use edgeward_kernels::tensor::Tensor;

use crate::model::{ScoreError, Scorer};

/// What a request says of itself, for its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The client's own name for the request.
    pub client_request_id: Option<String>,
    /// Whatever the client wants to find again.
    pub usage_context: Vec<(String, String)>,
    /// Tokens read, where the model counts tokens.
    pub input_tokens: Option<u64>,
    /// The request as the row shows it, where its body is no text.
    pub request: Option<Bytes>,
}

/// One invocation as a dialect reads and answers it.
pub trait Call: Send + 'static {
    /// Reads the body into one tensor for each input of the session, in its order. What it finds out for
    /// the row counts also when it fails after.
    ///
    /// # Errors
    /// [`ScoreError::Refused`], always.
    fn read(
        &mut self,
        body: &Bytes,
        scorer: &Scorer,
        noted: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError>;

    /// Writes the whole body of the answer.
    ///
    /// # Errors
    /// [`ScoreError::Output`] when the outputs are not those that the session declares.
    fn write(&mut self, scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError>;
}

/// An answer, and the call that wrote it.
#[derive(Debug)]
pub struct Answered<C> {
    /// The whole body of the answer.
    pub body: Bytes,
    /// The call, with what it wrote down.
    pub call: C,
}
