//! The session in the middle: from token numbers to vectors.

use std::sync::Arc;

use edgeward_base::units::ByteCount;

use super::ChainTextError;
use super::groups::Group;
use super::tokens::Tokens;
use crate::engine::{RunModelError, Session};
use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

/// What an encoder is given for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// Its number.
    Ids,
    /// 1, and 0 for padding.
    Mask,
    /// Which of two sentences it belongs to.
    Types,
    /// Where it stands in its text.
    Positions,
}

impl Given {
    fn of(spec: &TensorSpec) -> Option<Self> {
        if spec.data_type != DataType::I64 || spec.shape.len() != 2 {
            return None;
        }
        Some(match spec.name.as_str() {
            "input_ids" => Self::Ids,
            "attention_mask" => Self::Mask,
            "token_type_ids" => Self::Types,
            "position_ids" => Self::Positions,
            _ => return None,
        })
    }

    /// The row of one text, padded to `length`.
    fn row(self, tokens: &Tokens, length: usize, padding: i64) -> Vec<i64> {
        let count = tokens.ids.len();
        let mut row = match self {
            Self::Ids => tokens.ids.clone(),
            Self::Mask => vec![1; count],
            Self::Types => tokens.types.clone(),
            Self::Positions => (0..).take(count).collect(),
        };
        row.resize(length, if self == Self::Ids { padding } else { 0 });
        row
    }
}

/// What an encoder answers.
#[derive(Debug)]
pub(super) enum Hidden {
    /// `[rows, tokens, width]`.
    Tokens {
        vectors: Vec<f32>,
        tokens: usize,
        width: usize,
    },
    /// `[rows, width]`: the graph pools by itself.
    Sentences { vectors: Vec<f32>, width: usize },
}

impl Hidden {
    /// The elements of one row.
    pub(super) fn row(&self, place: usize) -> Option<&[f32]> {
        let (vectors, size) = match self {
            Self::Tokens {
                vectors,
                tokens,
                width,
            } => (vectors, tokens * width),
            Self::Sentences { vectors, width } => (vectors, *width),
        };
        vectors.chunks_exact(size.max(1)).nth(place)
    }
}

/// An encoder whose inputs and output are known.
#[derive(Debug)]
pub(super) struct Encoder {
    session: Arc<dyn Session>,
    inputs: Vec<Given>,
    output: usize,
    width: Option<usize>,
}

impl Encoder {
    /// Finds out what `session` takes and which of its outputs holds the vectors.
    pub(super) fn new(session: Arc<dyn Session>) -> Result<Self, ChainTextError> {
        let given = |spec: &TensorSpec| {
            Given::of(spec).ok_or_else(|| ChainTextError::Input {
                name: spec.name.clone(),
            })
        };
        let inputs = session
            .inputs()
            .iter()
            .map(given)
            .collect::<Result<Vec<_>, _>>()?;
        let output = output(session.outputs()).ok_or(ChainTextError::Output)?;
        let width = session
            .outputs()
            .get(output)
            .and_then(|spec| spec.shape.last().copied())
            .flatten();
        Ok(Self {
            session,
            inputs,
            output,
            width,
        })
    }

    /// How many components a vector has, where the graph says so.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// What rounding to 8 bits lies before its vectors.
    pub(super) fn rounding(&self) -> Rounding {
        let roundings = self.session.roundings();
        roundings
            .get(self.output)
            .copied()
            .unwrap_or(Rounding::None)
    }

    pub(super) fn host_nodes(&self) -> Vec<String> {
        self.session.host_nodes()
    }

    pub(super) fn on_device(&self) -> Option<ByteCount> {
        self.session.on_device()
    }

    pub(super) fn resident(&self) -> ByteCount {
        self.session.resident()
    }

    /// Runs the texts of a group.
    pub(super) fn run(
        &self,
        tokens: &[Tokens],
        group: &Group,
        padding: i64,
    ) -> Result<Hidden, RunModelError> {
        let texts = || group.rows.iter().filter_map(|row| tokens.get(*row));
        let failed = |reason: String| RunModelError::Engine { reason };
        let input = |given: &Given| {
            let elements = texts().flat_map(|text| given.row(text, group.length, padding));
            Tensor::new(
                vec![group.rows.len(), group.length],
                TensorData::I64(elements.collect()),
            )
            .map_err(|error| failed(error.to_string()))
        };
        let inputs = self
            .inputs
            .iter()
            .map(input)
            .collect::<Result<Vec<_>, _>>()?;
        let mut outputs = self.session.run(&inputs)?;
        if outputs.len() <= self.output {
            return Err(failed("encoder gives fewer outputs than it has".to_owned()));
        }
        let output = outputs.swap_remove(self.output);
        let shape = output.shape().to_vec();
        match (shape.as_slice(), output.into_data()) {
            (&[_, tokens, width], TensorData::F32(vectors)) => Ok(Hidden::Tokens {
                vectors,
                tokens,
                width,
            }),
            (&[_, width], TensorData::F32(vectors)) => Ok(Hidden::Sentences { vectors, width }),
            _ => Err(failed(format!("encoder gives shape {shape:?}"))),
        }
    }
}

/// The output with the vectors: what the graph pools by itself, else what sentence-transformers and
/// transformers call the last layer, else the only output that could be it.
fn output(specs: &[TensorSpec]) -> Option<usize> {
    let of_rank = |spec: &TensorSpec, rank: usize| {
        spec.data_type == DataType::F32 && spec.shape.len() == rank
    };
    let named = |name: &str, rank: usize| {
        specs
            .iter()
            .position(|spec| spec.name == name && of_rank(spec, rank))
    };
    named("sentence_embedding", 2)
        .or_else(|| named("last_hidden_state", 3))
        .or_else(|| named("token_embeddings", 3))
        .or_else(|| specs.iter().position(|spec| of_rank(spec, 3)))
}
