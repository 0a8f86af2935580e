//! The tensors of a request beside those that the model takes and gives, in whatever encoding they came.
//!
//! A number that a request claims is compared with the bytes that are there before anything is
//! allocated by it.

use std::fmt::Debug;

use edgeward_kernels::tensor::{Tensor, TensorData, TensorSpec};

use super::datatype::Datatype;
use crate::model::ScoreError;

/// So much of a client's text or shape stands in an error.
const MOST_CHARS: usize = 80;
const MOST_EXTENTS: usize = 16;

/// What a request says of one input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced<'a, E> {
    /// The model's name for it.
    pub(super) name: &'a str,
    /// The type of its elements.
    pub(super) datatype: &'a str,
    /// Its extents.
    pub(super) shape: &'a [E],
}

/// An input that fits the model, as far as what was announced goes.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) datatype: Datatype,
    shape: Vec<usize>,
    elements: usize,
}

impl<E: Copy + Debug> Announced<'_, E>
where
    usize: TryFrom<E>,
{
    /// An error that names the input.
    pub(super) fn refuse(&self, problem: impl AsRef<str>) -> ScoreError {
        ScoreError::bad_request(format!("input {:?} {}", self.name, problem.as_ref()))
    }

    /// The shape, as much of it as an error shows.
    fn printed(&self) -> String {
        match self.shape.get(..MOST_EXTENTS) {
            Some(first) if self.shape.len() > MOST_EXTENTS => {
                format!("{first:?} and {} more", self.shape.len() - MOST_EXTENTS)
            }
            _ => format!("{:?}", self.shape),
        }
    }

    /// Compares type and shape with what the model takes.
    ///
    /// # Errors
    /// [`ScoreError::Refused`].
    pub(super) fn fit(&self, spec: &TensorSpec) -> Result<Fit, ScoreError> {
        let datatype = Datatype::of(self.datatype).ok_or_else(|| {
            self.refuse(format!(
                "has datatype {:?}: use one of {}",
                self.datatype.chars().take(MOST_CHARS).collect::<String>(),
                Datatype::names()
            ))
        })?;
        if datatype.data_type() != spec.data_type {
            return Err(self.refuse(format!(
                "is {}, the model takes {}",
                self.datatype,
                Datatype::name(spec.data_type)
            )));
        }
        // A shape may be as long as the whole request: its rank comes first.
        let ranked = (self.shape.len() == spec.shape.len()).then_some(self.shape);
        let shape: Option<Vec<usize>> = ranked.and_then(|shape| {
            let extents = shape.iter().map(|extent| usize::try_from(*extent).ok());
            extents.collect()
        });
        let shape = shape.filter(|shape| spec.admits(shape)).ok_or_else(|| {
            self.refuse(format!(
                "has shape {}, the model takes {:?}",
                self.printed(),
                extents_of(spec)
            ))
        })?;
        let elements = shape
            .iter()
            .try_fold(1_usize, |product, extent| product.checked_mul(*extent))
            .ok_or_else(|| self.refuse(format!("has shape {shape:?}, which no memory holds")))?;
        if elements == 0 {
            return Err(self.refuse(format!("has shape {shape:?}: send at least one row")));
        }
        Ok(Fit {
            datatype,
            shape,
            elements,
        })
    }

    /// Makes sure that `size` raw bytes, which the request calls `what`, are as many as the shape takes.
    ///
    /// # Errors
    /// [`ScoreError::Refused`].
    pub(super) fn sized(&self, fit: &Fit, what: &str, size: usize) -> Result<(), ScoreError> {
        let Some(each) = fit.datatype.size() else {
            return Ok(());
        };
        let needed = fit.elements.checked_mul(each);
        if needed == Some(size) {
            return Ok(());
        }
        Err(self.refuse(format!(
            "has {what} {size}; shape {:?} of {} takes {}",
            self.shape,
            self.datatype,
            needed.map_or_else(|| "more than any memory".to_owned(), |n| n.to_string())
        )))
    }

    /// The tensor of these elements.
    ///
    /// # Errors
    /// [`ScoreError::Refused`] when they are more or fewer than the shape takes.
    pub(super) fn tensor(&self, fit: Fit, data: TensorData) -> Result<Tensor, ScoreError> {
        let given = data.len();
        Tensor::new(fit.shape, data)
            .map_err(|error| self.refuse(format!("has {given} elements: {error}")))
    }
}

/// Reads one tensor for each of `specs`, in their order: `read` is asked for each input of the request.
///
/// # Errors
/// [`ScoreError::Refused`] when an input is not the model's, is given twice or is missing, and what
/// `read` says.
pub(super) fn gather<'i, I>(
    specs: &[TensorSpec],
    inputs: impl IntoIterator<Item = (&'i str, I)>,
    mut read: impl FnMut(I, &TensorSpec) -> Result<Tensor, ScoreError>,
) -> Result<Vec<Tensor>, ScoreError> {
    let mut tensors: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
    for (name, input) in inputs {
        let place = place(specs, name, "input")?;
        let (Some(spec), Some(slot)) = (specs.get(place), tensors.get_mut(place)) else {
            continue;
        };
        let tensor = read(input, spec)?;
        if slot.replace(tensor).is_some() {
            return Err(ScoreError::bad_request(format!(
                "input {name:?} is given twice"
            )));
        }
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

/// One output that is wanted, and its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which of the session's outputs.
    pub(super) output: usize,
    /// As raw bytes.
    pub(super) binary: bool,
    /// So many of the largest numbers of each row, by their places, instead of all; 0 for all.
    pub(super) classes: usize,
}

impl Wanted {
    /// Every output of a session.
    pub(super) fn all(specs: &[TensorSpec], binary: bool) -> Vec<Self> {
        let wanted = |output| Self {
            output,
            binary,
            classes: 0,
        };
        (0..specs.len()).map(wanted).collect()
    }

    /// The outputs that a request names; `form` says for each whether it is wanted raw, and how many
    /// classes of it.
    ///
    /// # Errors
    /// [`ScoreError::Refused`] when one is not the model's or is named twice, and what `form` says.
    pub(super) fn named<'o, O>(
        specs: &[TensorSpec],
        outputs: impl IntoIterator<Item = (&'o str, O)>,
        mut form: impl FnMut(O) -> Result<(bool, usize), ScoreError>,
    ) -> Result<Vec<Self>, ScoreError> {
        let mut named = vec![false; specs.len()];
        let mut wanted = Vec::with_capacity(specs.len());
        for (name, output) in outputs {
            let (binary, classes) = form(output)?;
            let place = place(specs, name, "output")?;
            // Each is written once: an answer has no more than the model gives.
            if named
                .get_mut(place)
                .is_some_and(|named| std::mem::replace(named, true))
            {
                return Err(ScoreError::bad_request(format!(
                    "output {name:?} is named twice"
                )));
            }
            wanted.push(Self {
                output: place,
                binary,
                classes,
            });
        }
        Ok(wanted)
    }
}

/// Which of `specs` has that name.
fn place(specs: &[TensorSpec], name: &str, what: &str) -> Result<usize, ScoreError> {
    let place = specs.iter().position(|spec| spec.name == name);
    place.ok_or_else(|| {
        let name: String = name.chars().take(MOST_CHARS).collect();
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
pub(super) fn extents_of(spec: &TensorSpec) -> Vec<i64> {
    let extent = |extent: &Option<usize>| extent.and_then(|extent| i64::try_from(extent).ok());
    spec.shape
        .iter()
        .map(|axis| extent(axis).unwrap_or(-1))
        .collect()
}

/// A parameter that would have no effect.
pub(super) fn unknown_parameter(name: &str, of: &str, known: &[&str]) -> ScoreError {
    let name: String = name.chars().take(MOST_CHARS).collect();
    let of: String = of.chars().take(MOST_CHARS).collect();
    let known = if known.is_empty() {
        "none is".to_owned()
    } else {
        format!("{} is", known.join(", "))
    };
    ScoreError::bad_request(format!(
        "parameter {name:?} of {of} is not supported here: {known}"
    ))
}
