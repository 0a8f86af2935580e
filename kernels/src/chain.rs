//! What stands around an encoder and makes a model of texts of it. Says what; [`crate::text`] does it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What makes an encoder a model of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChain {
    /// The `tokenizer.json` of the `tokenizers` library; its digest was verified by the caller.
    pub tokenizer: PathBuf,
    /// A longer text is cut to so many tokens, those that begin and end it included.
    pub longest: usize,
    /// Whether a text is made lower case before it is cut into tokens.
    pub lower_case: bool,
    /// How the vectors of a text's tokens become one.
    pub pooling: Pooling,
    /// Whether each vector is divided by its length.
    pub normalise: bool,
}

/// How the vectors of a text's tokens become one, as sentence-transformers names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first, of the token that begins the text.
    Cls,
    /// The last.
    LastToken,
    /// The largest of each component.
    Max,
}
