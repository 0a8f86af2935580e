//! Reads the rows of a request into the tensors of a model with columns.
//!
//! The JSON is read once, cell by cell, straight into the place that the binding names. A refusal
//! is kept beside the reader, because an error of the JSON reader carries only text.

mod by_column;
mod reading;
mod records;
mod split;

use edgeward_kernels::tensor::Tensor;
use serde::de::Deserializer as _;

use super::binding::ColumnPlan;
use super::table::Table;
use super::{InputForm, ScoreError, ScoringInput, csv};
use by_column::Inputs;
use reading::Reading;
use records::Records;
use split::Split;

/// Reads a request's rows into one tensor per ONNX input.
pub(super) fn read(plan: &ColumnPlan, input: &ScoringInput) -> Result<Vec<Tensor>, ScoreError> {
    let mut table = Table::new(plan, input);
    let mut refused = None;
    let mut reader = serde_json::Deserializer::from_slice(input.text());
    let mut reading = Reading {
        table: &mut table,
        refused: &mut refused,
    };
    let read = match input.form() {
        InputForm::DataframeSplit => reader.deserialize_any(Split(&mut reading)),
        InputForm::DataframeRecords | InputForm::Instances => {
            reader.deserialize_any(Records(&mut reading))
        }
        InputForm::Inputs => reader.deserialize_any(Inputs(&mut reading)),
        InputForm::Csv => return csv::read(plan, input),
    };
    if let Some(refused) = refused {
        return Err(refused);
    }
    read.map_err(|error| {
        ScoreError::bad_request(format!("{} does not have its form: {error}", input.form()))
    })?;
    table.finish()
}
