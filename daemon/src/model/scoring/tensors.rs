//! Reads nested lists into the tensors of a model with tensors.
//!
//! Shapes come from the nesting: every list at one depth has the same length, and values stand at
//! one depth only. The extent of axis 0 counts rows.

mod frame;
mod nested;
mod rows;

use edgeward_kernels::tensor::{Tensor, TensorData};
use serde::de::{self, Deserializer as _};

use super::binding::{NamedTensor, TensorPlan, show_shape};
use super::cell::{self, Cell, Mismatch};
use super::{InputForm, ScoreError, ScoringInput, csv};
use frame::{Frame, MatrixRecords};
use rows::Top;

/// Reads a request into one tensor per ONNX input.
pub(super) fn read(plan: &TensorPlan, input: &ScoringInput) -> Result<Vec<Tensor>, ScoreError> {
    let converted;
    let input = match input.form() {
        InputForm::Csv => {
            converted = csv::split(plan, input)?;
            &converted
        }
        _ => input,
    };
    let mut reading = Reading {
        plan,
        form: input.form(),
        builders: plan.tensors.iter().map(Builder::new).collect(),
        refused: None,
    };
    let mut reader = serde_json::Deserializer::from_slice(input.text());
    let one = plan.tensors.len() == 1;
    let read = match input.form() {
        InputForm::DataframeSplit | InputForm::Csv => reader.deserialize_any(Frame(&mut reading)),
        InputForm::DataframeRecords if one => reader.deserialize_any(MatrixRecords(&mut reading)),
        InputForm::DataframeRecords | InputForm::Inputs | InputForm::Instances => {
            reader.deserialize_any(Top(&mut reading))
        }
    };
    if let Some(refused) = reading.refused {
        return Err(refused);
    }
    read.map_err(|error| {
        ScoreError::bad_request(format!("{} does not have its form: {error}", input.form()))
    })?;
    finish(plan, input.form(), reading.builders)
}

/// The tensors while a request is read, and the first refusal.
struct Reading<'p> {
    plan: &'p TensorPlan,
    form: InputForm,
    builders: Vec<Builder>,
    refused: Option<ScoreError>,
}

impl Reading<'_> {
    fn refuse<E: de::Error>(&mut self, message: impl Into<String>) -> E {
        self.refused
            .get_or_insert_with(|| ScoreError::bad_request(message));
        E::custom("refused")
    }

    /// Rows that do not fit what the signature asks for.
    fn refuse_unfit<E: de::Error>(&mut self, message: impl Into<String>) -> E {
        self.refused
            .get_or_insert_with(|| ScoreError::invalid(message));
        E::custom("refused")
    }

    /// A bare array, where the model has several tensors.
    fn refuse_nameless<E: de::Error>(&mut self) -> E {
        let message = format!("{} must name its tensors: {}", self.form, self.plan.names());
        self.refused
            .get_or_insert_with(|| ScoreError::invalid(message));
        E::custom("refused")
    }

    fn refuse_element<E: de::Error>(&mut self, position: usize, mismatch: &Mismatch) -> E {
        let name = self
            .plan
            .tensors
            .get(position)
            .map_or("", |t| t.input.as_str());
        self.refuse(format!(
            "{}: tensor {name:?} must hold {}, got {}",
            self.form, mismatch.expected, mismatch.got
        ))
    }

    fn refuse_ragged<E: de::Error>(&mut self) -> E {
        self.refuse(format!(
            "{} is not a tensor: all lists at one depth must have the same length",
            self.form
        ))
    }

    /// Appends an element at `depth` lists deep.
    fn push<E: de::Error>(
        &mut self,
        position: usize,
        depth: usize,
        cell: &Cell<'_>,
    ) -> Result<(), E> {
        let Some(builder) = self.builders.get_mut(position) else {
            return Ok(());
        };
        if builder.rank.is_some_and(|rank| rank != depth) || builder.dims.len() > depth {
            return Err(self.refuse_ragged());
        }
        builder.rank = Some(depth);
        match builder.append(cell) {
            Ok(()) => Ok(()),
            Err(mismatch) => Err(self.refuse_element(position, &mismatch)),
        }
    }

    /// Enters a list at `depth`.
    fn open<E: de::Error>(&mut self, position: usize, depth: usize) -> Result<(), E> {
        let Some(builder) = self.builders.get_mut(position) else {
            return Ok(());
        };
        if builder.rank.is_some_and(|rank| depth >= rank) {
            return Err(self.refuse_ragged());
        }
        if builder.dims.len() == depth {
            builder.dims.push(None);
        }
        Ok(())
    }

    /// Leaves a list at `depth` that had `length` elements.
    fn close<E: de::Error>(
        &mut self,
        position: usize,
        depth: usize,
        length: usize,
    ) -> Result<(), E> {
        let dims = self
            .builders
            .get_mut(position)
            .map(|builder| &mut builder.dims);
        let Some(dim) = dims.and_then(|dims| dims.get_mut(depth)) else {
            return Ok(());
        };
        if *dim.get_or_insert(length) == length {
            Ok(())
        } else {
            Err(self.refuse_ragged())
        }
    }
}

/// One tensor while it is read.
struct Builder {
    data: TensorData,
    /// The extent of each axis seen so far; `None` while its first list is open.
    dims: Vec<Option<usize>>,
    /// At which depth values stand, once one was seen.
    rank: Option<usize>,
    /// Whether the request has it at all.
    given: bool,
    /// Whether numbers are rounded to float32 on their way.
    rounded: bool,
}

impl Builder {
    fn new(tensor: &NamedTensor) -> Self {
        Self {
            data: TensorData::empty(tensor.data_type),
            dims: Vec::with_capacity(tensor.shape.len()),
            rank: None,
            given: false,
            rounded: tensor.rounded,
        }
    }

    fn append(&mut self, cell: &Cell<'_>) -> Result<(), Mismatch> {
        let data_type = self.data.data_type();
        if *cell == Cell::Null && !data_type.is_float() {
            return Err(cell.mismatch(data_type.as_str()));
        }
        if self.rounded {
            return cell::push(&mut self.data, &cell::to_float32(cell)?);
        }
        cell::push(&mut self.data, cell)
    }
}

fn finish(
    plan: &TensorPlan,
    form: InputForm,
    builders: Vec<Builder>,
) -> Result<Vec<Tensor>, ScoreError> {
    let missing: Vec<&str> = plan
        .tensors
        .iter()
        .zip(&builders)
        .filter(|(_, builder)| !builder.given)
        .map(|(tensor, _)| tensor.name.as_deref().unwrap_or(&tensor.input))
        .collect();
    if !missing.is_empty() {
        return Err(ScoreError::invalid(format!(
            "Model is missing inputs {missing:?}; {form} must have {}",
            plan.names()
        )));
    }
    let tensors: Vec<Tensor> = builders
        .into_iter()
        .zip(&plan.tensors)
        .map(|(builder, tensor)| {
            let shape: Vec<usize> = builder.dims.iter().map(|dim| dim.unwrap_or(0)).collect();
            if shape.first() == Some(&0) {
                return Err(ScoreError::invalid(format!(
                    "{form} has no rows: send at least one"
                )));
            }
            let fits = shape.len() == tensor.shape.len()
                && shape
                    .iter()
                    .zip(&tensor.shape)
                    .all(|(got, want)| want.is_none_or(|w| w == *got));
            if !fits {
                return Err(wrong_shape(&shape, &tensor.shape));
            }
            Tensor::new(shape, builder.data)
                .map_err(|error| ScoreError::bad_request(format!("{form}: {error}")))
        })
        .collect::<Result<_, _>>()?;
    refuse_uneven(plan, form, &tensors)?;
    Ok(tensors)
}

/// Tensors whose axis 0 is free all have the same number of rows.
fn refuse_uneven(plan: &TensorPlan, form: InputForm, tensors: &[Tensor]) -> Result<(), ScoreError> {
    let mut free = plan
        .tensors
        .iter()
        .zip(tensors)
        .filter(|(named, _)| named.shape.first() == Some(&None))
        .filter_map(|(named, tensor)| Some((&named.input, tensor.rows()?)));
    let Some((first, rows)) = free.next() else {
        return Ok(());
    };
    match free.find(|(_, other)| *other != rows) {
        Some((name, other)) => Err(ScoreError::invalid(format!(
            "{form}: tensor {first:?} has {rows} rows and {name:?} has {other}"
        ))),
        None => Ok(()),
    }
}

/// The refusal of a tensor by its shape, in MLflow's words.
pub(super) fn wrong_shape(got: &[usize], expected: &[Option<usize>]) -> ScoreError {
    let got: Vec<Option<usize>> = got.iter().copied().map(Some).collect();
    ScoreError::invalid(format!(
        "Shape of input {} does not match expected shape {}",
        show_shape(&got),
        show_shape(expected)
    ))
}
