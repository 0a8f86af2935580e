//! Writes a model's outputs as the body of the reply.
//!
//! One buffer, filled in one pass; the table of forms is in [`scoring`](super).

use edgeward_kernels::tensor::{Tensor, TensorData, TensorSpec};
use serde::Serialize;

use super::binding::{BindModelError, Interface, names_of, show_shape};
use super::{Predictions, ScoreError};
use crate::model::signature::{Column, ColumnType, Schema, TensorField};

/// The form of a model's answers.
#[derive(Debug)]
pub(super) enum OutputPlan {
    /// One column: a list of values.
    List(Source),
    /// Several columns: a list of row objects.
    Rows(Vec<Source>),
    /// Tensors: an object of nested lists.
    Tensors(Vec<Source>),
    /// The one output as it is: a nested list.
    Array(Source),
}

/// Where a column or tensor of the answer comes from.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name in the answer, as JSON text.
    key: String,
    /// Which ONNX output.
    output: usize,
    /// Which element of that output's row; `None` for all of them.
    element: Option<usize>,
    /// What the numbers of a row are called, each as JSON text: a row is an object then. Empty where
    /// they are called nothing.
    labels: Vec<String>,
}

/// Bytes that one number takes, about: enough to reserve the buffer once.
const NUMBER_BYTES: usize = 14;

impl OutputPlan {
    pub(super) fn new(
        schema: Option<&Schema>,
        interface: Interface<'_>,
    ) -> Result<Self, BindModelError> {
        let mut plan = Self::of(schema, interface.outputs, interface.array)?;
        for source in plan.sources() {
            let labels = interface.labels.get(source.output);
            let labels = labels.filter(|labels| !labels.is_empty());
            let output = interface.outputs.get(source.output);
            if let (None, Some(labels), Some(output)) = (source.element, labels, output) {
                check_width(output, labels.len())?;
                source.labels = labels.iter().map(|label| json(label)).collect();
            }
        }
        if let Some(Schema::Columns(columns)) = schema {
            let mut columns = columns.iter().zip(plan.sources());
            let named = columns.find(|(column, source)| {
                column.column_type == ColumnType::Map && source.labels.is_empty()
            });
            if let Some((column, _)) = named {
                return Err(BindModelError::NotAMap {
                    output: column.name.clone(),
                });
            }
        }
        Ok(plan)
    }

    fn sources(&mut self) -> &mut [Source] {
        match self {
            Self::List(only) | Self::Array(only) => std::slice::from_mut(only),
            Self::Rows(several) | Self::Tensors(several) => several,
        }
    }

    fn of(
        schema: Option<&Schema>,
        outputs: &[TensorSpec],
        array: bool,
    ) -> Result<Self, BindModelError> {
        match schema {
            None | Some(Schema::Tensors(_)) if array => Ok(Self::Array(source("", 0, None))),
            None => Ok(Self::Tensors(
                outputs
                    .iter()
                    .enumerate()
                    .map(|(at, spec)| source(&spec.name, at, None))
                    .collect(),
            )),
            Some(Schema::Tensors(fields)) => bind_tensors(fields, outputs).map(Self::Tensors),
            Some(Schema::Columns(columns)) => {
                let mut sources = bind_columns(columns, outputs)?;
                match (sources.len(), sources.pop()) {
                    (1, Some(only)) => Ok(Self::List(only)),
                    (_, last) => {
                        sources.extend(last);
                        Ok(Self::Rows(sources))
                    }
                }
            }
        }
    }

    pub(super) fn render(&self, outputs: &[Tensor]) -> Result<Predictions, ScoreError> {
        let elements: usize = outputs.iter().map(|tensor| tensor.data().len()).sum();
        let mut body = Vec::with_capacity(32 + elements * NUMBER_BYTES);
        body.extend_from_slice(b"{\"predictions\":");
        match self {
            Self::List(only) => only.view(outputs)?.write(&mut body),
            Self::Array(only) => only.write_whole(&mut body, outputs)?,
            Self::Rows(columns) => write_rows(&mut body, columns, outputs)?,
            Self::Tensors(tensors) => {
                body.push(b'{');
                for (at, tensor) in tensors.iter().enumerate() {
                    separate(&mut body, at);
                    tensor.write_key(&mut body);
                    tensor.write_whole(&mut body, outputs)?;
                }
                body.push(b'}');
            }
        }
        body.push(b'}');
        Ok(Predictions { body })
    }
}

/// Whether a row of the output may have so many numbers.
fn check_width(output: &TensorSpec, labels: usize) -> Result<(), BindModelError> {
    let width = match output.shape.as_slice() {
        [_] => Some(1),
        [_, width] => *width,
        _ => Some(0),
    };
    if width.is_none_or(|width| width == labels) {
        return Ok(());
    }
    Err(BindModelError::Shape {
        tensor: output.name.clone(),
        shape: show_shape(&output.shape),
        wanted: format!("{labels} labels"),
    })
}

fn source(name: &str, output: usize, element: Option<usize>) -> Source {
    Source {
        key: json(name),
        output,
        element,
        labels: Vec::new(),
    }
}

/// The name as JSON text.
fn json(name: &str) -> String {
    let mut text = Vec::new();
    write(&mut text, &name);
    String::from_utf8_lossy(&text).into_owned()
}

/// A signature's tensors by name; where there is one on each side the names need not agree.
fn bind_tensors(
    fields: &[TensorField],
    outputs: &[TensorSpec],
) -> Result<Vec<Source>, BindModelError> {
    if let ([field], [only]) = (fields, outputs) {
        return Ok(vec![source(
            field.name.as_deref().unwrap_or(&only.name),
            0,
            None,
        )]);
    }
    fields
        .iter()
        .map(|field| {
            let name = field.name.as_deref().unwrap_or_default();
            let at = outputs.iter().position(|spec| spec.name == name);
            at.map(|at| source(name, at, None))
                .ok_or_else(|| BindModelError::Output {
                    output: name.to_owned(),
                    known: names_of(outputs),
                })
        })
        .collect()
}

/// Columns by name, or in order where the names do not agree: one output each, or one matrix.
fn bind_columns(columns: &[Column], outputs: &[TensorSpec]) -> Result<Vec<Source>, BindModelError> {
    let named: Option<Vec<Source>> = columns
        .iter()
        .map(|column| {
            let at = outputs.iter().position(|spec| spec.name == column.name)?;
            Some(source(&column.name, at, None))
        })
        .collect();
    if let Some(named) = named {
        return Ok(named);
    }
    if let [matrix] = outputs {
        let width = match matrix.shape.as_slice() {
            [_] => Some(1),
            [_, width] => *width,
            _ => None,
        };
        if width != Some(columns.len()) {
            return Err(BindModelError::Shape {
                tensor: matrix.name.clone(),
                shape: show_shape(&matrix.shape),
                wanted: format!("{} columns", columns.len()),
            });
        }
        return Ok(columns
            .iter()
            .enumerate()
            .map(|(element, column)| source(&column.name, 0, Some(element)))
            .collect());
    }
    if outputs.len() == columns.len() {
        let sources = columns.iter().enumerate();
        return Ok(sources
            .map(|(at, column)| source(&column.name, at, None))
            .collect());
    }
    let stray = columns
        .iter()
        .find(|column| outputs.iter().all(|spec| spec.name != column.name));
    Err(BindModelError::Output {
        output: stray.map(|column| column.name.clone()).unwrap_or_default(),
        known: names_of(outputs),
    })
}

/// A column of the answer, ready to be written row by row.
struct View<'t> {
    data: &'t TensorData,
    /// The shape of one row; empty for one value.
    shape: &'t [usize],
    rows: usize,
    /// Elements from one row to the next.
    stride: usize,
    /// Where the first row starts.
    offset: usize,
    /// What the elements of a row are called; empty where they are called nothing.
    labels: &'t [String],
}

impl View<'_> {
    /// Writes a list of all rows.
    fn write(&self, body: &mut Vec<u8>) {
        body.push(b'[');
        for row in 0..self.rows {
            separate(body, row);
            self.write_row(body, row);
        }
        body.push(b']');
    }

    fn write_row(&self, body: &mut Vec<u8>, row: usize) {
        let start = self.offset + row * self.stride;
        if self.labels.is_empty() {
            write_nested(body, self.data, self.shape, start);
            return;
        }
        body.push(b'{');
        for (at, label) in self.labels.iter().enumerate() {
            separate(body, at);
            body.extend_from_slice(label.as_bytes());
            body.push(b':');
            write_element(body, self.data, start + at);
        }
        body.push(b'}');
    }
}

impl Source {
    fn of<'t>(&self, outputs: &'t [Tensor]) -> Result<&'t Tensor, ScoreError> {
        outputs.get(self.output).ok_or_else(|| self.unusable())
    }

    fn unusable(&self) -> ScoreError {
        ScoreError::Output {
            name: self.key.clone(),
        }
    }

    fn write_key(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(self.key.as_bytes());
        body.push(b':');
    }

    fn view<'t>(&'t self, outputs: &'t [Tensor]) -> Result<View<'t>, ScoreError> {
        let tensor = self.of(outputs)?;
        let (rows, shape) = match tensor.shape() {
            [] => (1, [].as_slice()),
            // `[N, 1]` is a column too: its rows are values, not lists of one.
            [rows, 1] => (*rows, [].as_slice()),
            [rows, shape @ ..] => (*rows, shape),
        };
        let stride: usize = shape.iter().product();
        if !self.labels.is_empty() && self.labels.len() != stride {
            return Err(self.unusable());
        }
        let (shape, offset) = match self.element {
            Some(element) if element < stride => ([].as_slice(), element),
            Some(_) => return Err(self.unusable()),
            None => (shape, 0),
        };
        Ok(View {
            data: tensor.data(),
            shape,
            rows,
            stride,
            offset,
            labels: &self.labels,
        })
    }

    /// Writes the output as a nested list, or as a list of objects where its numbers have names.
    fn write_whole(&self, body: &mut Vec<u8>, outputs: &[Tensor]) -> Result<(), ScoreError> {
        if self.labels.is_empty() {
            let whole = self.of(outputs)?;
            write_nested(body, whole.data(), whole.shape(), 0);
        } else {
            self.view(outputs)?.write(body);
        }
        Ok(())
    }
}

fn write_rows(
    body: &mut Vec<u8>,
    columns: &[Source],
    outputs: &[Tensor],
) -> Result<(), ScoreError> {
    let views = columns
        .iter()
        .map(|c| c.view(outputs))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = views.first().map_or(0, |view| view.rows);
    if let Some((_, column)) = views
        .iter()
        .zip(columns)
        .find(|(view, _)| view.rows != rows)
    {
        return Err(column.unusable());
    }
    body.push(b'[');
    for row in 0..rows {
        separate(body, row);
        body.push(b'{');
        for (at, (view, column)) in views.iter().zip(columns).enumerate() {
            separate(body, at);
            column.write_key(body);
            view.write_row(body, row);
        }
        body.push(b'}');
    }
    body.push(b']');
    Ok(())
}

fn separate(body: &mut Vec<u8>, position: usize) {
    if position > 0 {
        body.push(b',');
    }
}

/// Writes the part of a tensor of the given shape that starts at an element.
fn write_nested(body: &mut Vec<u8>, data: &TensorData, shape: &[usize], start: usize) {
    let Some((length, inner)) = shape.split_first() else {
        write_element(body, data, start);
        return;
    };
    let stride: usize = inner.iter().product();
    body.push(b'[');
    for at in 0..*length {
        separate(body, at);
        write_nested(body, data, inner, start + at * stride);
    }
    body.push(b']');
}

/// Writes all elements of a tensor as one list.
pub(super) fn write_flat(body: &mut Vec<u8>, tensor: &Tensor) {
    let data = tensor.data();
    body.reserve(2 + data.len() * NUMBER_BYTES);
    write_nested(body, data, &[data.len()], 0);
}

fn write_element(body: &mut Vec<u8>, data: &TensorData, at: usize) {
    match data {
        TensorData::Bool(values) => write(body, &values.get(at)),
        TensorData::U8(values) => write(body, &values.get(at)),
        TensorData::U16(values) => write(body, &values.get(at)),
        TensorData::U32(values) => write(body, &values.get(at)),
        TensorData::U64(values) => write(body, &values.get(at)),
        TensorData::I8(values) => write(body, &values.get(at)),
        TensorData::I16(values) => write(body, &values.get(at)),
        TensorData::I32(values) => write(body, &values.get(at)),
        TensorData::I64(values) => write(body, &values.get(at)),
        TensorData::F32(values) => write(body, &values.get(at)),
        TensorData::F64(values) => write(body, &values.get(at)),
        TensorData::String(values) => write(body, &values.get(at)),
    }
}

/// Writes one JSON value. `serde_json` prints floats in their shortest form, and NaN as null.
fn write<T: Serialize>(body: &mut Vec<u8>, value: &T) {
    // Writing to memory cannot fail, and neither can these plain types.
    if serde_json::to_writer(&mut *body, value).is_err() {
        body.extend_from_slice(b"null");
    }
}
