//! The `MLmodel` file of an MLflow model directory: which flavour it is, where its model file lies,
//! and its signature.
//!
//! The file comes from outside and is not trusted: its size is bounded before it is parsed, nothing
//! in it is ever executed, and a flavour that would need unpickling is refused with what to convert
//! it to.

use std::collections::BTreeMap;

use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{ModelForm, Predictor};
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
    /// The model file, relative to the directory.
    pub file: String,
    /// What it is.
    pub form: ModelForm,
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
    /// Not what MLflow writes: YAML could be UTF-16 too.
    #[error("MLmodel is not UTF-8")]
    Text(#[source] std::str::Utf8Error),
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
    /// A model class of which nobody says what it answers.
    #[error("model has flavour {flavor} with model_class {class:?}, which is not served: {advice}")]
    Class {
        /// The flavour.
        flavor: &'static str,
        /// The class.
        class: String,
        /// What to do instead.
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
    model_class: Option<String>,
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
        "a pickle or the binary format that XGBoost gave up is not read; save the model with \
         model.save_model(\"model.ubj\"), or log it with mlflow.xgboost.log_model(model, \
         model_format=\"ubj\")",
    ),
    (
        "lightgbm",
        "a pickle is never loaded; save the booster with \
         model.booster_.save_model(\"model.txt\"), or log it with \
         mlflow.lightgbm.log_model(model.booster_)",
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
/// [`ParseMlModelError`]; a flavour that is not served says what to convert the model to.
pub fn parse(bytes: &[u8]) -> Result<MlModel, ParseMlModelError> {
    if bytes.len() > MLMODEL_LIMIT.as_usize() {
        return Err(ParseMlModelError::TooBig { got: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(ParseMlModelError::Text)?;
    if nesting(text) > NESTING_LIMIT {
        return Err(ParseMlModelError::TooDeep);
    }
    let raw: RawMlModel = serde_norway::from_str(text).map_err(ParseMlModelError::Yaml)?;
    let (file, form) = served(&raw.flavors)?;
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
        file,
        form,
        signature,
    })
}

/// The model file of the flavour that is served, and its form.
fn served(flavors: &BTreeMap<String, RawFlavor>) -> Result<(String, ModelForm), ParseMlModelError> {
    let file = |flavor: &RawFlavor, usual: &str| {
        let named = flavor.data.clone();
        named.unwrap_or_else(|| usual.to_owned())
    };
    if let Some(onnx) = flavors.get("onnx") {
        return Ok((file(onnx, "model.onnx"), ModelForm::Onnx));
    }
    if let Some(xgboost) = flavors.get("xgboost") {
        let predictor = predictor("xgboost", xgboost)?;
        return Ok((file(xgboost, "model.ubj"), ModelForm::XgBoost(predictor)));
    }
    if let Some(lightgbm) = flavors.get("lightgbm") {
        let predictor = predictor("lightgbm", lightgbm)?;
        return Ok((file(lightgbm, "model.lgb"), ModelForm::LightGbm(predictor)));
    }
    Err(refuse_flavors(flavors))
}

/// Whose `predict` the model's class has. MLflow before 1.28 wrote none: there were boosters alone.
fn predictor(flavor: &'static str, raw: &RawFlavor) -> Result<Predictor, ParseMlModelError> {
    let Some(class) = &raw.model_class else {
        return Ok(Predictor::Booster);
    };
    match class.rsplit('.').next().unwrap_or_default() {
        "Booster" => Ok(Predictor::Booster),
        "XGBRegressor" | "XGBRFRegressor" | "XGBRanker" | "XGBModel" | "LGBMRegressor"
        | "LGBMRanker" | "LGBMModel" => Ok(Predictor::Estimator),
        "XGBClassifier" | "XGBRFClassifier" | "LGBMClassifier" => Ok(Predictor::Classifier),
        _ => Err(ParseMlModelError::Class {
            flavor,
            class: class.clone(),
            advice: "log its booster, or an estimator of the scikit-learn interface",
        }),
    }
}

/// The most brackets that may be open at once.
///
/// Where a quoted text or a comment begins only the YAML reader knows: a quote may stand in the middle of
/// plain words. A closing bracket closes nothing in there, so wherever one may begin both readings are
/// followed, and the deepest counts.
fn nesting(text: &str) -> usize {
    /// The deeper of two readings that meet.
    fn meet(plain: &mut usize, other: Option<usize>) {
        *plain = other.map_or(*plain, |other| other.max(*plain));
    }
    // How many are open where this is plain, and where it may be a quoted text or a comment.
    let (mut plain, mut most) = (0_usize, 0);
    let [mut double, mut single, mut comment, mut ended] = [None::<usize>; 4];
    let mut before = b'\n';
    for byte in text.bytes() {
        let begins = before.is_ascii_whitespace() || b"[]{},:-?".contains(&before) || before > 127;
        let here = begins.then_some(plain);
        match byte {
            b'[' | b'{' => plain += 1,
            b']' | b'}' => plain = plain.saturating_sub(1),
            b'"' => {
                meet(&mut plain, double);
                // The text goes on behind an escaped quote.
                double = here.max(double.filter(|_| before == b'\\'));
            }
            b'\'' => {
                meet(&mut plain, single);
                // Two in a row are one that is escaped.
                let goes_on = ended.filter(|_| before == b'\'');
                ended = single;
                single = here.max(goes_on);
            }
            b'#' => {
                // A column's name may have one. Where a quoted text may have begun it is taken for that, or
                // each line of a long signature would count as deeper than the one before.
                let quoted = single.is_some() || double.is_some();
                let begins = begins || matches!(before, b'"' | b'\'');
                comment = comment.max((begins && !quoted).then_some(plain));
            }
            b'\n' | b'\r' => {
                meet(&mut plain, comment);
                comment = None;
            }
            // Some of these end a line too.
            128.. => meet(&mut plain, comment),
            _ => {}
        }
        most = most.max(plain);
        before = byte;
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
        "cbm" => "catboost",
        "h5" | "keras" => "keras",
        "pb" => "tensorflow",
        _ => return None,
    };
    advice(flavor)
}

/// What to do with a file whose name says that XGBoost or LightGBM saved it, and whose bytes do not.
#[must_use]
pub fn advice_for_unread(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    match extension.as_str() {
        "ubj" | "xgb" => advice("xgboost"),
        "lgb" => advice("lightgbm"),
        _ => None,
    }
}

/// What to do with a pickle where a model of this form should be.
#[must_use]
pub fn advice_for_form(form: ModelForm) -> Option<&'static str> {
    match form {
        ModelForm::Onnx => None,
        ModelForm::XgBoost(_) => advice("xgboost"),
        ModelForm::LightGbm(_) => advice("lightgbm"),
    }
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
            advice: "only flavours onnx, xgboost and lightgbm are served; convert the model to ONNX \
                     and log it with mlflow.onnx.log_model",
        },
        |(flavor, advice)| ParseMlModelError::Flavor {
            flavor: (*flavor).to_owned(),
            advice,
        },
    )
}

#[cfg(test)]
mod tests;
