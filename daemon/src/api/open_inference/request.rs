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

/// One output that is wanted, and its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which of the session's outputs.
    pub(super) output: usize,
    /// As raw bytes after the JSON.
    pub(super) binary: bool,
    /// So many of the largest numbers of each row, by their places, instead of all; 0 for all.
    pub(super) classes: usize,
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
        let mut tensors: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
        for input in &self.inputs {
            let place = place(specs, &input.name, "input")?;
            let (Some(spec), Some(slot)) = (specs.get(place), tensors.get_mut(place)) else {
                continue;
            };
            let tensor = input.tensor(spec, &mut raw)?;
            if slot.replace(tensor).is_some() {
                return Err(ScoreError::bad_request(format!(
                    "input {:?} is given twice",
                    input.name
                )));
            }
        }
        if !raw.is_empty() {
            return Err(ScoreError::bad_request(format!(
                "{} bytes follow the last tensor that the header announces",
                raw.len()
            )));
        }
        let missing: Vec<&str> = specs
            .iter()
            .zip(&tensors)
            .filter(|(_, tensor)| tensor.is_none())
            .map(|(spec, _)| spec.name.as_str())
            .collect();
        if missing.is_empty() {
            Ok(tensors.into_iter().flatten().collect())
        } else {
            Err(ScoreError::bad_request(format!(
                "inputs {missing:?} are missing; the model takes {}",
                names(specs)
            )))
        }
    }

    /// The outputs that are wanted: all of `specs` when the request names none.
    pub(super) fn wanted(&self, specs: &[TensorSpec]) -> Result<Vec<Wanted>, ScoreError> {
        let known = ["binary_data_output"];
        check(&self.parameters, &known, "the request")?;
        let binary = flag(&self.parameters, "binary_data_output")?.unwrap_or(false);
        if self.outputs.is_empty() {
            return Ok((0..specs.len())
                .map(|output| Wanted {
                    output,
                    binary,
                    classes: 0,
                })
                .collect());
        }
        let mut named = vec![false; specs.len()];
        let wanted = self.outputs.iter().map(|output| {
            let known = ["binary_data", "classification"];
            check(&output.parameters, &known, &output.name)?;
            let place = place(specs, &output.name, "output")?;
            // Each is written once: an answer has no more than the model gives.
            if named
                .get_mut(place)
                .is_some_and(|named| std::mem::replace(named, true))
            {
                return Err(ScoreError::bad_request(format!(
                    "output {:?} is named twice",
                    output.name
                )));
            }
            Ok(Wanted {
                output: place,
                binary: flag(&output.parameters, "binary_data")?.unwrap_or(binary),
                classes: count(&output.parameters, "classification")?.unwrap_or(0),
            })
        });
        wanted.collect()
    }
}

impl Input<'_> {
    /// Reads the tensor from its own JSON, or from the front of `raw`.
    fn tensor(&self, spec: &TensorSpec, raw: &mut &[u8]) -> Result<Tensor, ScoreError> {
        let refuse =
            |problem: String| ScoreError::bad_request(format!("input {:?} {problem}", self.name));
        check(&self.parameters, &["binary_data_size"], &self.name)?;
        let datatype = Datatype::of(&self.datatype).ok_or_else(|| {
            refuse(format!(
                "has datatype {:?}: use one of {}",
                self.datatype,
                Datatype::names()
            ))
        })?;
        if datatype.data_type() != spec.data_type {
            return Err(refuse(format!(
                "is {}, the model takes {}",
                self.datatype,
                Datatype::name(spec.data_type)
            )));
        }
        let shape: Option<Vec<usize>> = self
            .shape
            .iter()
            .map(|extent| usize::try_from(*extent).ok())
            .collect();
        let shape = shape.filter(|shape| spec.admits(shape)).ok_or_else(|| {
            refuse(format!(
                "has shape {:?}, the model takes {:?}",
                self.shape,
                extents(spec)
            ))
        })?;
        let elements = shape
            .iter()
            .try_fold(1_usize, |product, extent| product.checked_mul(*extent))
            .ok_or_else(|| refuse(format!("has shape {shape:?}, which no memory holds")))?;
        if elements == 0 {
            return Err(refuse(format!(
                "has shape {shape:?}: send at least one row"
            )));
        }
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
                let bytes = self.binary(datatype, elements, size, raw)?;
                datatype.decode(bytes).map_err(refuse)?
            }
            (Some(_), Some(_)) => {
                return Err(refuse("has both data and binary_data_size".to_owned()));
            }
            (None, None) => {
                return Err(refuse("has neither data nor binary_data_size".to_owned()));
            }
        };
        let given = data.len();
        Tensor::new(shape, data).map_err(|error| refuse(format!("has {given} elements: {error}")))
    }

    /// Takes the tensor's bytes from the front of `raw`.
    fn binary<'r>(
        &self,
        datatype: Datatype,
        elements: usize,
        size: usize,
        raw: &mut &'r [u8],
    ) -> Result<&'r [u8], ScoreError> {
        let refuse =
            |problem: String| ScoreError::bad_request(format!("input {:?} {problem}", self.name));
        if let Some(each) = datatype.size() {
            let needed = elements.checked_mul(each);
            if needed != Some(size) {
                return Err(refuse(format!(
                    "has binary_data_size {size}; shape {:?} of {} takes {}",
                    self.shape,
                    self.datatype,
                    needed.map_or_else(|| "more than any memory".to_owned(), |n| n.to_string())
                )));
            }
        }
        let (bytes, rest) = raw.split_at_checked(size).ok_or_else(|| {
            refuse(format!(
                "has binary_data_size {size}, and {} bytes are left",
                raw.len()
            ))
        })?;
        *raw = rest;
        Ok(bytes)
    }
}

/// Which of `specs` has that name.
fn place(specs: &[TensorSpec], name: &str, what: &str) -> Result<usize, ScoreError> {
    let place = specs.iter().position(|spec| spec.name == name);
    place.ok_or_else(|| {
        let name: String = name.chars().take(80).collect();
        ScoreError::bad_request(format!(
            "the model has no {what} {name:?}; it has {}",
            names(specs)
        ))
    })
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    names.join(", ")
}

/// A shape as the protocol writes it: -1 where any extent will do.
pub(super) fn extents(spec: &TensorSpec) -> Vec<i64> {
    let extent = |extent: &Option<usize>| extent.and_then(|extent| i64::try_from(extent).ok());
    spec.shape
        .iter()
        .map(|axis| extent(axis).unwrap_or(-1))
        .collect()
}

/// Refuses parameters that would have no effect.
fn check(given: &Parameters<'_>, known: &[&str], of: &str) -> Result<(), ScoreError> {
    let stray = given.keys().find(|name| !known.contains(&name.as_ref()));
    stray.map_or(Ok(()), |name| {
        Err(ScoreError::bad_request(format!(
            "parameter {name:?} of {of} is not supported here: {} is",
            known.join(", ")
        )))
    })
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
