//! A directory as sentence-transformers saves it: an encoder, its tokenizer and what makes a vector of
//! its answer.
//!
//! | file | what it says |
//! |---|---|
//! | `modules.json` | the steps in their order; makes a directory one of these |
//! | `tokenizer.json` | from text to tokens, for the `tokenizers` library |
//! | `onnx/model.onnx` or `model.onnx` | the encoder |
//! | `sentence_bert_config.json` | the most tokens of a text |
//! | `1_Pooling/config.json`, as `modules.json` names it | how tokens' vectors become one |
//!
//! Must never serve a step that it does not know: a model with a `Dense` layer answers something else
//! without it.

use edgeward_kernels::chain::Pooling;
use serde::Deserialize;

/// The file that makes a directory one of sentence-transformers.
pub(super) const MODULES: &str = "modules.json";

/// How many tokens a text has at most where no file says so: what most encoders were trained with.
const LONGEST: usize = 512;

/// What the directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sentence {
    /// The encoder's graph, in the version.
    pub(super) graph: String,
    /// The tokenizer, in the version.
    pub(super) tokenizer: String,
    /// Every file that was read for this, the graph and the tokenizer apart.
    pub(super) described_by: Vec<String>,
    pub(super) longest: usize,
    pub(super) lower_case: bool,
    pub(super) pooling: Pooling,
    pub(super) normalise: bool,
}

impl Sentence {
    /// Whether `path` is a file of the version that this says something of.
    pub(super) fn names(&self, path: &str) -> bool {
        path == self.tokenizer
            || path == self.graph
            || self.described_by.iter().any(|by| by == path)
    }
}

/// Why a directory of sentence-transformers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadSentenceError {
    /// A file that it needs is not there.
    #[error("{path} is missing: {advice}")]
    Missing {
        /// The file.
        path: String,
        /// How to make it.
        advice: &'static str,
    },
    /// A file is not of its form.
    #[error("{path} does not have its form")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A step that is not served.
    #[error(
        "{MODULES} has a step {kind:?}; served are Transformer, Pooling and Normalize, once each and in this order"
    )]
    Step {
        /// Its type.
        kind: String,
    },
    /// A pooling that is not served.
    #[error("{path} pools by {mode:?}; served are mean, cls, lasttoken and max, one at a time")]
    Pooling {
        /// The file.
        path: String,
        /// What it says.
        mode: String,
    },
}

/// One step of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

/// `sentence_bert_config.json`.
#[derive(Deserialize, Default)]
struct Limits {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// The part of `1_Pooling/config.json` that says how.
#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Reads what `read` gives for the names of files; `None` stands for a file that is not there.
pub(super) fn read<E: From<ReadSentenceError>>(
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    mut has: impl FnMut(&str) -> Result<bool, E>,
) -> Result<Sentence, E> {
    let mut file = |path: &str| match read(path)? {
        Some(bytes) => Ok(bytes),
        None => Err(E::from(ReadSentenceError::Missing {
            path: path.to_owned(),
            advice: "save the model again with sentence-transformers",
        })),
    };
    let modules: Vec<Module> = json(MODULES, &file(MODULES)?)?;
    let (encoder, pooling, normalise) = steps(&modules)?;
    let mut described_by = vec![MODULES.to_owned()];
    let pooling = match pooling {
        Some(folder) => {
            let path = beneath(&folder.path, "config.json");
            let pooling = pooling_of(&path, &file(&path)?)?;
            described_by.push(path);
            pooling
        }
        None => Pooling::Mean,
    };
    let limits_path = beneath(&encoder.path, "sentence_bert_config.json");
    let limits = if has(&limits_path)? {
        let limits = json(&limits_path, &file(&limits_path)?)?;
        described_by.push(limits_path);
        limits
    } else {
        Limits::default()
    };
    let graphs = ["onnx/model.onnx", "model.onnx"].map(|name| beneath(&encoder.path, name));
    let graph = first(
        &graphs,
        &mut has,
        "save the model with backend=\"onnx\", or export it with optimum-cli",
    )?;
    let tokenizers = [beneath(&encoder.path, "tokenizer.json")];
    let tokenizer = first(
        &tokenizers,
        &mut has,
        "save the model with a fast tokenizer",
    )?;
    Ok(Sentence {
        graph,
        tokenizer,
        described_by,
        longest: limits.max_seq_length.unwrap_or(LONGEST),
        lower_case: limits.do_lower_case,
        pooling,
        normalise,
    })
}

/// The encoder, the pooling where it is a step of its own, and whether vectors are normalised.
fn steps(modules: &[Module]) -> Result<(&Module, Option<&Module>, bool), ReadSentenceError> {
    let kind = |module: &Module| {
        let name = module.r#type.rsplit('.').next().unwrap_or_default();
        name.to_owned()
    };
    let mut rest = modules.iter().peekable();
    let mut take = |wanted: &str| rest.next_if(|module| kind(module) == wanted);
    let encoder = take("Transformer");
    let pooling = take("Pooling");
    let normalise = take("Normalize").is_some();
    match (encoder, rest.next()) {
        (Some(encoder), None) => Ok((encoder, pooling, normalise)),
        (_, Some(odd)) => Err(ReadSentenceError::Step { kind: kind(odd) }),
        (None, None) => Err(ReadSentenceError::Step {
            kind: modules.first().map(kind).unwrap_or_default(),
        }),
    }
}

fn pooling_of(path: &str, bytes: &[u8]) -> Result<Pooling, ReadSentenceError> {
    let config: PoolingConfig = json(path, bytes)?;
    // Older releases have a truth value for each way instead of a name.
    let set = |key: &&String| {
        key.starts_with("pooling_mode_") && config.rest.get(*key).is_some_and(|value| value == true)
    };
    let modes: Vec<&str> = match &config.pooling_mode {
        Some(mode) => vec![mode.as_str()],
        None => config.rest.keys().filter(set).map(String::as_str).collect(),
    };
    match modes.as_slice() {
        ["mean" | "pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["cls" | "pooling_mode_cls_token"] => Ok(Pooling::Cls),
        ["lasttoken" | "pooling_mode_lasttoken"] => Ok(Pooling::LastToken),
        ["max" | "pooling_mode_max_tokens"] => Ok(Pooling::Max),
        _ => Err(ReadSentenceError::Pooling {
            path: path.to_owned(),
            mode: modes.join(", "),
        }),
    }
}

fn json<'a, T: Deserialize<'a>>(path: &str, bytes: &'a [u8]) -> Result<T, ReadSentenceError> {
    serde_json::from_slice(bytes).map_err(|source| ReadSentenceError::Json {
        path: path.to_owned(),
        source,
    })
}

/// The first of these files that is there.
fn first<E: From<ReadSentenceError>>(
    paths: &[String],
    has: &mut impl FnMut(&str) -> Result<bool, E>,
    advice: &'static str,
) -> Result<String, E> {
    for path in paths {
        if has(path)? {
            return Ok(path.clone());
        }
    }
    Err(E::from(ReadSentenceError::Missing {
        path: paths.first().cloned().unwrap_or_default(),
        advice,
    }))
}

fn beneath(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

#[cfg(test)]
mod tests;
