//! Text in, vectors out: a tokenizer, an encoder and pooling, chained into one session.
//!
//! ```text
//! texts [rows] -> tokens -> encoder [rows, tokens] -> [rows, tokens, width] -> pooling -> [rows, width]
//! ```
//!
//! Owns the chain. The encoder is a session of any engine; rows of like length run together, padded to
//! a length that the engine has a plan for, with a mask that takes the padding out again. Must never
//! let a text's answer depend on the texts beside it, beyond rounding.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_base::units::ByteCount;

use crate::chain::{Pooling, TextChain};
use crate::engine::{LoadModelError, ModelFile, Rows, RunModelError, Session, Texts};
use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

mod encoder;
mod groups;
mod pooling;
mod tokens;

use encoder::{Encoder, Hidden};
use tokens::{Tokenizer, Tokens};

/// Why a chain cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChainTextError {
    /// The tokenizer's file is none.
    #[error("cannot read tokenizer {path}: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
    /// The encoder takes an input that no text has.
    #[error(
        "encoder takes \"{name}\"; a text gives input_ids, attention_mask, token_type_ids and position_ids, each int64 [rows, tokens]"
    )]
    Input {
        /// The input.
        name: String,
    },
    /// The encoder gives no vectors.
    #[error(
        "encoder has no f32 output of shape [rows, tokens, width], nor a sentence_embedding [rows, width]"
    )]
    Output,
}

/// `session`, with the chain around it that `model` asks for.
///
/// # Errors
/// [`LoadModelError::Chain`].
pub fn chained(
    model: &ModelFile,
    session: Arc<dyn Session>,
) -> Result<Arc<dyn Session>, LoadModelError> {
    let Some(chain) = &model.text else {
        return Ok(session);
    };
    match TextSession::new(session, chain) {
        Ok(session) => Ok(Arc::new(session)),
        Err(error) => Err(LoadModelError::Chain {
            reason: error.to_string(),
        }),
    }
}

/// A chain that is loaded.
#[derive(Debug)]
pub struct TextSession {
    tokenizer: Tokenizer,
    encoder: Encoder,
    pooling: Pooling,
    normalise: bool,
    inputs: [TensorSpec; 1],
    outputs: [TensorSpec; 1],
    roundings: [Rounding; 1],
    independent: AtomicBool,
}

impl TextSession {
    /// Puts the tokenizer before `encoder` and the pooling behind it.
    ///
    /// # Errors
    /// [`ChainTextError`].
    pub fn new(encoder: Arc<dyn Session>, chain: &TextChain) -> Result<Self, ChainTextError> {
        let encoder = Encoder::new(encoder)?;
        let rounding = match encoder.rounding() {
            // No pooling brings two vectors further apart, but a division by their lengths may.
            Rounding::Steps(_) if chain.normalise => Rounding::Range,
            rounding => rounding,
        };
        Ok(Self {
            roundings: [rounding],
            tokenizer: Tokenizer::open(chain)?,
            inputs: [TensorSpec {
                name: "text".to_owned(),
                data_type: DataType::String,
                shape: vec![None],
            }],
            outputs: [TensorSpec {
                name: "embedding".to_owned(),
                data_type: DataType::F32,
                shape: vec![None, encoder.width()],
            }],
            encoder,
            pooling: chain.pooling,
            normalise: chain.normalise,
            independent: AtomicBool::new(false),
        })
    }

    /// The vector of each text, one after the other.
    fn embed(&self, texts: &[String]) -> Result<(usize, Vec<f32>), RunModelError> {
        let tokens = texts
            .iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<Result<Vec<Tokens>, _>>()?;
        let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
        for group in groups::of(&tokens, self.tokenizer.longest()) {
            let hidden = self
                .encoder
                .run(&tokens, &group, self.tokenizer.padding())?;
            for (place, row) in group.rows.iter().enumerate() {
                let mut vector = self.vector(&hidden, place, tokens.get(*row))?;
                if self.normalise {
                    pooling::normalise(&mut vector);
                }
                if let Some(slot) = vectors.get_mut(*row) {
                    *slot = vector;
                }
            }
        }
        let width = vectors.first().map_or(0, Vec::len);
        Ok((width, vectors.concat()))
    }

    /// The vector of row `place` of a group.
    fn vector(
        &self,
        hidden: &Hidden,
        place: usize,
        tokens: Option<&Tokens>,
    ) -> Result<Vec<f32>, RunModelError> {
        let count = tokens.map_or(0, |tokens| tokens.ids.len());
        let row = hidden.row(place).ok_or_else(|| RunModelError::Engine {
            reason: "encoder gives fewer rows than it was given".to_owned(),
        })?;
        Ok(match hidden {
            Hidden::Sentences { .. } => row.to_vec(),
            Hidden::Tokens { width, .. } => self.pooling.pool(row, *width, count),
        })
    }
}

impl Session for TextSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn roundings(&self) -> &[Rounding] {
        &self.roundings
    }

    fn texts(&self) -> Option<&dyn Texts> {
        Some(self)
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let [input] = inputs else {
            return Err(RunModelError::InputCount {
                expected: 1,
                got: inputs.len(),
            });
        };
        let TensorData::String(texts) = input.data() else {
            return Err(RunModelError::InputType {
                name: "text".to_owned(),
                expected: DataType::String,
                got: input.data_type(),
            });
        };
        if input.shape().len() != 1 {
            return Err(RunModelError::InputShape {
                name: "text".to_owned(),
                expected: vec![None],
                got: input.shape().to_vec(),
            });
        }
        let (width, vectors) = self.embed(texts)?;
        let width = self.encoder.width().unwrap_or(width);
        let vectors = Tensor::new(vec![texts.len(), width], TensorData::F32(vectors));
        Ok(vec![vectors.map_err(|error| RunModelError::Engine {
            reason: error.to_string(),
        })?])
    }

    fn host_nodes(&self) -> Vec<String> {
        self.encoder.host_nodes()
    }

    fn on_device(&self) -> Option<ByteCount> {
        self.encoder.on_device()
    }

    fn permit_rows(&self, rows: Rows) {
        self.independent
            .store(rows == Rows::Independent, Ordering::Relaxed);
    }

    fn rows(&self) -> Rows {
        if self.independent.load(Ordering::Relaxed) {
            Rows::Independent
        } else {
            Rows::Together
        }
    }

    fn resident(&self) -> ByteCount {
        let ByteCount(encoder) = self.encoder.resident();
        ByteCount(encoder.saturating_add(self.tokenizer.bytes()))
    }
}

impl Texts for TextSession {
    fn count(&self, text: &str) -> Result<usize, RunModelError> {
        Ok(self.tokenizer.encode(text)?.ids.len())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, RunModelError> {
        self.tokenizer.decode(tokens)
    }
}

#[cfg(test)]
mod tests;
