//! From a text to the numbers of its tokens.

use std::borrow::Cow;

use tokenizers::{TruncationParams, TruncationStrategy};

use super::ChainTextError;
use crate::chain::TextChain;
use crate::engine::RunModelError;

/// The tokens of one text, special ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<i64>,
    /// Which of two sentences each belongs to: 0, unless the tokenizer says otherwise.
    pub(super) types: Vec<i64>,
}

/// A `tokenizer.json` that is loaded.
#[derive(Debug)]
pub(super) struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    lower_case: bool,
    longest: usize,
    padding: i64,
    bytes: u64,
}

impl Tokenizer {
    /// Reads the tokenizer of `chain`.
    pub(super) fn open(chain: &TextChain) -> Result<Self, ChainTextError> {
        let path = &chain.tokenizer;
        let refused = |reason: String| ChainTextError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| refused(error.to_string()))?;
        let padding = tokenizer
            .get_padding()
            .map_or(0, |padding| i64::from(padding.pad_id));
        // Groups are padded here, to the lengths that the engine has plans for.
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: chain.longest,
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            tokenizer,
            lower_case: chain.lower_case,
            longest: chain.longest,
            padding,
            // The vocabulary is held once by word and once by number.
            bytes: 2 * bytes.len() as u64,
        })
    }

    /// The tokens of `text`, at most [`Tokenizer::longest`].
    pub(super) fn encode(&self, text: &str) -> Result<Tokens, RunModelError> {
        let text = if self.lower_case {
            Cow::Owned(text.to_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        let encoding =
            self.tokenizer
                .encode_fast(&*text, true)
                .map_err(|error| RunModelError::Engine {
                    reason: format!("tokenizer failed: {error}"),
                })?;
        let wide = |list: &[u32]| list.iter().map(|id| i64::from(*id)).collect();
        Ok(Tokens {
            ids: wide(encoding.get_ids()),
            types: wide(encoding.get_type_ids()),
        })
    }

    /// The text that `tokens` make, without those that begin and end it.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String, RunModelError> {
        let stray = tokens
            .iter()
            .find(|token| self.tokenizer.id_to_token(**token).is_none());
        if let Some(stray) = stray {
            return Err(RunModelError::Engine {
                reason: format!("the vocabulary has no token {stray}"),
            });
        }
        self.tokenizer
            .decode(tokens, true)
            .map_err(|error| RunModelError::Engine {
                reason: format!("tokenizer failed: {error}"),
            })
    }

    /// How many tokens a text has at most.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The number of the token that fills a row up.
    pub(super) fn padding(&self) -> i64 {
        self.padding
    }

    /// An estimate of the memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
