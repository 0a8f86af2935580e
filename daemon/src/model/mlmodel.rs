//! The `MLmodel` file of an MLflow model directory: which flavour it is, where its ONNX file lies,
//! and its signature.
//!
//! The file comes from outside and is not trusted: its size is bounded before it is parsed, nothing
//! in it is ever executed, and a flavour that would need unpickling is refused with what to convert
//! it to.

use std::collections::BTreeMap;

use edgeward_base::units::ByteCount;
use serde::Deserialize;

use super::signature::{ParseSignatureError, Signature};

/// The largest MLmodel file that is read: real ones have a few kilobytes.
pub const MLMODEL_LIMIT: ByteCount = ByteCount::mib(1);

/// Open brackets at once: real files have a handful. The YAML reader takes time that grows with the
/// square of the nesting, so this is what keeps its time in bounds.
const NESTING_LIMIT: usize = 100;

/// What is used of an MLmodel file.
#[derive(Debug, Clone, PartialEq)]
pub struct MlModel {
    /// The ONNX file, relative to the directory.
    pub onnx_file: String,
    /// The signature, where the file has one.
    pub signature: Option<Signature>,
}

/// Why an MLmodel file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseMlModelError {
    /// Larger than any real one.
    #[error("MLmodel has {got} bytes, at most {} are read", MLMODEL_LIMIT.0)]
    TooBig {
        /// Its size.
        got: usize,
    },
    /// Nested deeper than any real one.
    #[error("MLmodel has more than {NESTING_LIMIT} brackets open at once")]
    TooDeep,
    /// Not YAML, or not of MLflow's shape.
    #[error("MLmodel is not the YAML that MLflow writes")]
    Yaml(#[source] serde_norway::Error),
    /// A flavour that is not served.
    #[error("model has flavour {flavor}, which is not served: {advice}")]
    Flavor {
        /// The flavour, or all of them when none is known.
        flavor: String,
        /// What to convert the model to, and how.
        advice: &'static str,
    },
    /// The signature cannot be used.
    #[error("MLmodel has a signature that cannot be served")]
    Signature(#[source] ParseSignatureError),
}

#[derive(Deserialize)]
struct RawMlModel {
    #[serde(default)]
    flavors: BTreeMap<String, RawFlavor>,
    signature: Option<RawSignature>,
}

/// The keys of a flavour that matter here; every other key is skipped.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFlavor {
    data: Option<String>,
}

#[derive(Deserialize)]
struct RawSignature {
    inputs: Option<String>,
    outputs: Option<String>,
    params: Option<String>,
}

/// What to do with each flavour that is not served.
const ADVICE: [(&str, &str); 10] = [
    (
        "sklearn",
        "a pickle or skops file is never loaded; convert it to ONNX with skl2onnx \
         (skl2onnx.to_onnx(model, X[:1])) and log it with mlflow.onnx.log_model",
    ),
    (
        "pytorch",
        "a pickle is never loaded; convert it to ONNX with torch.onnx.export(model, example, \
         \"model.onnx\") and log it with mlflow.onnx.log_model",
    ),
    (
        "xgboost",
        "convert it to ONNX with onnxmltools.convert_xgboost and log it with \
         mlflow.onnx.log_model",
    ),
    (
        "lightgbm",
        "convert it to ONNX with onnxmltools.convert_lightgbm and log it with \
         mlflow.onnx.log_model",
    ),
    (
        "catboost",
        "convert it to ONNX with model.save_model(\"model.onnx\", format=\"onnx\")",
    ),
    (
        "tensorflow",
        "convert it to ONNX with tf2onnx and log it with mlflow.onnx.log_model",
    ),
    (
        "keras",
        "convert it to ONNX with model.export(\"model.onnx\", format=\"onnx\")",
    ),
    (
        "transformers",
        "convert it to ONNX with optimum-cli export onnx",
    ),
    (
        "spark",
        "convert it to ONNX with onnxmltools.convert_sparkml",
    ),
    (
        "python_function",
        "Python code is never run; export the model inside it to ONNX",
    ),
];

/// Reads an MLmodel file.
///
/// # Errors
/// [`ParseMlModelError`]; a flavour other than onnx says what to convert the model to.
pub fn parse(bytes: &[u8]) -> Result<MlModel, ParseMlModelError> {
    if bytes.len() > MLMODEL_LIMIT.as_usize() {
        return Err(ParseMlModelError::TooBig { got: bytes.len() });
    }
    if nesting(bytes) > NESTING_LIMIT {
        return Err(ParseMlModelError::TooDeep);
    }
    let raw: RawMlModel = serde_norway::from_slice(bytes).map_err(ParseMlModelError::Yaml)?;
    let Some(onnx) = raw.flavors.get("onnx") else {
        return Err(refuse_flavors(&raw.flavors));
    };
    let signature = raw
        .signature
        .and_then(|signature| {
            let inputs = signature.inputs?;
            Some(Signature::parse(
                &inputs,
                signature.outputs.as_deref(),
                signature.params.as_deref(),
            ))
        })
        .transpose()
        .map_err(ParseMlModelError::Signature)?;
    Ok(MlModel {
        onnx_file: onnx.data.clone().unwrap_or_else(|| "model.onnx".to_owned()),
        signature,
    })
}

/// The most brackets open at once, those in quoted texts too: the JSON in there closes its own.
fn nesting(bytes: &[u8]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in bytes {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Whether a file's name says that it holds a pickle or another form that must be converted.
#[must_use]
pub fn advice_for_file(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    let flavor = match extension.as_str() {
        "pkl" | "pickle" | "joblib" | "skops" => "sklearn",
        "pt" | "pth" | "pt2" => "pytorch",
        "ubj" | "xgb" => "xgboost",
        "lgb" => "lightgbm",
        "cbm" => "catboost",
        "h5" | "keras" => "keras",
        "pb" => "tensorflow",
        _ => return None,
    };
    advice(flavor)
}

fn advice(flavor: &str) -> Option<&'static str> {
    ADVICE
        .iter()
        .find(|(known, _)| *known == flavor)
        .map(|(_, advice)| *advice)
}

fn refuse_flavors(flavors: &BTreeMap<String, RawFlavor>) -> ParseMlModelError {
    let known = ADVICE
        .iter()
        .find(|(flavor, _)| flavors.contains_key(*flavor));
    known.map_or_else(
        || ParseMlModelError::Flavor {
            flavor: flavors.keys().cloned().collect::<Vec<_>>().join(", "),
            advice: "only flavour onnx is served; convert the model to ONNX and log it with \
                     mlflow.onnx.log_model",
        },
        |(flavor, advice)| ParseMlModelError::Flavor {
            flavor: (*flavor).to_owned(),
            advice,
        },
    )
}

#[cfg(test)]
mod tests;
