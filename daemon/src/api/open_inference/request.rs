//! Reads the body of an inference: a JSON header, and after it the raw tensors that the header announces.
//!
//! A number that the header claims is compared with the bytes that are there before anything is
//! allocated by it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use edgeward_kernels::tensor::{Tensor, TensorSpec};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::datatype::Datatype;
use super::tensors::{Announced, Wanted, gather, unknown_parameter};
use crate::model::{ScoreError, read_values};

/// What stands in parameters: a few known words each.
type Parameters<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The JSON of an inference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request<'a> {
    /// The client's own name for the request.
    pub(super) id: Option<String>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    outputs: Vec<Output<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<u64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
}

impl<'a> Request<'a> {
    /// Reads the header.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, ScoreError> {
        serde_json::from_slice(json).map_err(|error| {
            ScoreError::bad_request(format!(
                "the request must be a JSON object with id, parameters, inputs and outputs: {error}"
            ))
        })
    }

    /// Reads the tensors: one for each of `specs`, in their order. `raw` is what follows the header.
    pub(super) fn tensors(
        &self,
        specs: &[TensorSpec],
        mut raw: &[u8],
    ) -> Result<Vec<Tensor>, ScoreError> {
        let inputs = self.inputs.iter().map(|input| (input.name.as_ref(), input));
        let tensors = gather(specs, inputs, |input, spec| input.tensor(spec, &mut raw))?;
        if raw.is_empty() {
            return Ok(tensors);
        }
        Err(ScoreError::bad_request(format!(
            "{} bytes follow the last tensor that the header announces",
            raw.len()
        )))
    }

    /// The outputs that are wanted: all of `specs` when the request names none.
    pub(super) fn wanted(&self, specs: &[TensorSpec]) -> Result<Vec<Wanted>, ScoreError> {
        let known = ["binary_data_output"];
        check(&self.parameters, &known, "the request")?;
        let binary = flag(&self.parameters, "binary_data_output")?.unwrap_or(false);
        if self.outputs.is_empty() {
            return Ok(Wanted::all(specs, binary));
        }
        let outputs = self
            .outputs
            .iter()
            .map(|output| (output.name.as_ref(), output));
        Wanted::named(specs, outputs, |output| {
            let known = ["binary_data", "classification"];
            check(&output.parameters, &known, &output.name)?;
            let binary = flag(&output.parameters, "binary_data")?.unwrap_or(binary);
            let classes = count(&output.parameters, "classification")?.unwrap_or(0);
            Ok((binary, classes))
        })
    }
}

impl Input<'_> {
    /// Reads the tensor from its own JSON, or from the front of `raw`.
    fn tensor(&self, spec: &TensorSpec, raw: &mut &[u8]) -> Result<Tensor, ScoreError> {
        check(&self.parameters, &["binary_data_size"], &self.name)?;
        let announced = Announced {
            name: &self.name,
            datatype: &self.datatype,
            shape: &self.shape,
        };
        let fit = announced.fit(spec)?;
        let datatype = fit.datatype;
        let refuse = |problem: String| announced.refuse(problem);
        let data = match (self.data, count(&self.parameters, "binary_data_size")?) {
            (Some(json), None) if matches!(datatype, Datatype::Native(_)) => {
                read_values(&self.name, spec.data_type, json.get().as_bytes())?
            }
            (Some(_), None) => {
                return Err(refuse(format!(
                    "is {}, which JSON has no numbers of: send it as binary data",
                    self.datatype
                )));
            }
            (None, Some(size)) => {
                announced.sized(&fit, "binary_data_size", size)?;
                let (bytes, rest) = raw.split_at_checked(size).ok_or_else(|| {
                    refuse(format!(
                        "has binary_data_size {size}, and {} bytes are left",
                        raw.len()
                    ))
                })?;
                *raw = rest;
                datatype.decode(bytes).map_err(refuse)?
            }
            (Some(_), Some(_)) => {
                return Err(refuse("has both data and binary_data_size".to_owned()));
            }
            (None, None) => {
                return Err(refuse("has neither data nor binary_data_size".to_owned()));
            }
        };
        announced.tensor(fit, data)
    }
}

/// Refuses parameters that would have no effect.
fn check(given: &Parameters<'_>, known: &[&str], of: &str) -> Result<(), ScoreError> {
    let stray = given.keys().find(|name| !known.contains(&name.as_ref()));
    stray.map_or(Ok(()), |name| Err(unknown_parameter(name, of, known)))
}

fn flag(given: &Parameters<'_>, name: &str) -> Result<Option<bool>, ScoreError> {
    match given.get(name).map(|value| value.get()) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(ScoreError::bad_request(format!(
            "parameter {name:?} must be true or false"
        ))),
    }
}

fn count(given: &Parameters<'_>, name: &str) -> Result<Option<usize>, ScoreError> {
    let Some(value) = given.get(name) else {
        return Ok(None);
    };
    value
        .get()
        .parse()
        .map(Some)
        .map_err(|_| ScoreError::bad_request(format!("parameter {name:?} must be a whole number")))
}
