//! The tensors of a model with columns, while a request's cells are put into them.
//!
//! Owns what a cell, a row and a whole table must have. Knows no JSON.

use edgeward_kernels::tensor::{Tensor, TensorData};

use super::binding::{ColumnPlan, Slot};
use super::cell::{self, Cell};
use super::{InputForm, ScoreError, ScoringInput};

/// Tensors of a small request may always take this much.
const TENSOR_FLOOR_BYTES: usize = 1 << 20;
/// The densest JSON, `"",`, becomes a string of 24 bytes: eight times its size.
const TENSOR_GROWTH: usize = 8;

/// The most bytes that the tensors of a text of `length` bytes may take.
///
/// Without a bound a few bytes would ask for a whole row: `{}` for a model with a thousand columns
/// that are not required.
pub(super) fn tensor_limit(length: usize) -> usize {
    length
        .saturating_mul(TENSOR_GROWTH)
        .saturating_add(TENSOR_FLOOR_BYTES)
}

/// The table while it is read.
pub(super) struct Table<'p> {
    pub(super) plan: &'p ColumnPlan,
    pub(super) form: InputForm,
    tensors: Vec<TensorData>,
    pub(super) rows: usize,
    /// Rows that the tensors have room for.
    grown: usize,
    /// Most rows that fit the bound on memory.
    most_rows: usize,
    /// For each column, whether the current row has it.
    filled: Vec<bool>,
    /// For each column, how many rows lack it.
    absent: Vec<usize>,
    /// The first row that lacks a column which cannot be null.
    hole: Option<(usize, usize)>,
}

impl<'p> Table<'p> {
    pub(super) fn new(plan: &'p ColumnPlan, input: &ScoringInput) -> Self {
        let row_bytes: usize = plan
            .tensors
            .iter()
            .map(|t| t.width * cell::element_bytes(t.data_type))
            .sum();
        Self {
            plan,
            form: input.form(),
            tensors: plan
                .tensors
                .iter()
                .map(|t| TensorData::empty(t.data_type))
                .collect(),
            rows: 0,
            grown: 0,
            most_rows: tensor_limit(input.text().len()) / row_bytes.max(1),
            filled: vec![false; plan.slots.len()],
            absent: vec![0; plan.slots.len()],
            hole: None,
        }
    }

    /// The column of that name. `guess` is where it stands when columns come in the model's order.
    pub(super) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        match self.plan.slots.get(guess) {
            Some(slot) if slot.column.name == name => Some(guess),
            _ => self.plan.by_name.get(name).copied(),
        }
    }

    /// Makes room for the next row.
    pub(super) fn begin_row(&mut self) -> Result<(), ScoreError> {
        self.reserve_rows(self.rows + 1)?;
        self.filled.fill(false);
        Ok(())
    }

    /// Makes room for so many rows, within the bound on memory.
    pub(super) fn reserve_rows(&mut self, rows: usize) -> Result<(), ScoreError> {
        if rows <= self.grown {
            return Ok(());
        }
        if rows > self.most_rows {
            return Err(ScoreError::bad_request(format!(
                "{} has too many rows that lack most columns: write every column, or send fewer \
                 rows",
                self.form
            )));
        }
        for (data, tensor) in self.tensors.iter_mut().zip(&self.plan.tensors) {
            cell::grow(data, rows * tensor.width);
        }
        self.grown = rows;
        Ok(())
    }

    /// Puts a cell of the current row.
    pub(super) fn put(&mut self, position: usize, cell: Cell<'_>) -> Result<(), ScoreError> {
        if let Some(filled) = self.filled.get_mut(position)
            && std::mem::replace(filled, true)
        {
            let name = self.name(position);
            return Err(ScoreError::bad_request(format!(
                "{} has column {name:?} twice in row {}",
                self.form, self.rows
            )));
        }
        self.put_at(position, self.rows, cell)
    }

    /// Puts a cell of any row that there is room for.
    pub(super) fn put_at(
        &mut self,
        position: usize,
        row: usize,
        cell: Cell<'_>,
    ) -> Result<(), ScoreError> {
        let Some(slot) = self.plan.slots.get(position) else {
            return Ok(());
        };
        let width = self
            .plan
            .tensors
            .get(slot.tensor)
            .map_or(1, |tensor| tensor.width);
        let Some(data) = self.tensors.get_mut(slot.tensor) else {
            return Ok(());
        };
        let placed = if cell == Cell::Null && !takes_null(slot) {
            Err(cell.mismatch(slot.column.column_type.as_str()))
        } else {
            cell::typed(slot.column.column_type, slot.data_type, cell)
                .and_then(|typed| cell::put(data, row * width + slot.offset, &typed))
        };
        placed.map_err(|mismatch| {
            ScoreError::bad_request(format!(
                "{}: column {:?} ({}) in row {row} must be {}, got {}",
                self.form,
                slot.column.name,
                slot.column.column_type,
                mismatch.expected,
                mismatch.got
            ))
        })
    }

    /// Closes the current row: what it lacks is null.
    pub(super) fn end_row(&mut self) {
        let lacking = self
            .filled
            .iter()
            .enumerate()
            .filter(|(_, filled)| !**filled);
        for (position, _) in lacking {
            if let Some(absent) = self.absent.get_mut(position) {
                *absent += 1;
            }
            let null = self.plan.slots.get(position).is_some_and(takes_null);
            if !null && self.hole.is_none() {
                self.hole = Some((position, self.rows));
            }
        }
        self.rows += 1;
    }

    /// Notes, after the last row, that no row at all has this column.
    pub(super) fn lack(&mut self, position: usize) {
        if let Some(absent) = self.absent.get_mut(position) {
            *absent = self.rows.max(1);
        }
        let null = self.plan.slots.get(position).is_some_and(takes_null);
        if !null && self.hole.is_none() {
            self.hole = Some((position, 0));
        }
    }

    /// What a column is called.
    pub(super) fn name(&self, position: usize) -> &str {
        self.plan
            .slots
            .get(position)
            .map_or("", |slot| slot.column.name.as_str())
    }

    /// The tensors, in the order of the ONNX inputs.
    pub(super) fn finish(self) -> Result<Vec<Tensor>, ScoreError> {
        self.refuse_missing()?;
        if self.rows == 0 {
            return Err(ScoreError::invalid(format!(
                "{} has no rows: send at least one",
                self.form
            )));
        }
        let rows = self.rows;
        self.tensors
            .into_iter()
            .zip(&self.plan.tensors)
            .map(|(data, tensor)| {
                let shape = if tensor.matrix {
                    vec![rows, tensor.width]
                } else {
                    vec![rows]
                };
                Tensor::new(shape, data).map_err(|error| ScoreError::bad_request(error.to_string()))
            })
            .collect()
    }

    /// The answer lists every required column that no row has.
    fn refuse_missing(&self) -> Result<(), ScoreError> {
        let missing: Vec<&str> = self
            .plan
            .slots
            .iter()
            .zip(&self.absent)
            .filter(|(slot, absent)| slot.column.required && **absent > 0 && **absent >= self.rows)
            .map(|(slot, _)| slot.column.name.as_str())
            .collect();
        if !missing.is_empty() {
            let known: Vec<&str> = self
                .plan
                .slots
                .iter()
                .map(|slot| slot.column.name.as_str())
                .collect();
            return Err(ScoreError::invalid(format!(
                "Model is missing inputs {missing:?}; {} must have the columns {known:?}, of which \
                 those that are not required may be left out",
                self.form
            )));
        }
        if let Some((position, row)) = self.hole {
            return Err(ScoreError::invalid(format!(
                "{}: column {:?} is missing in row {row}, and cannot be null",
                self.form,
                self.name(position)
            )));
        }
        Ok(())
    }
}

/// Whether a cell of this column may be null: it then is NaN, or the empty string.
fn takes_null(slot: &Slot) -> bool {
    slot.data_type.is_float() || (!slot.column.required && cell::holds_null(slot.data_type))
}
