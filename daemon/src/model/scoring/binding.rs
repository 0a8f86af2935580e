//! How a signature's columns and tensors meet the inputs and outputs of a model.
//!
//! Made once per loaded model; a request only follows it. A signature that does not fit the model
//! is refused here, at import, and never at the first request.

use std::collections::HashMap;

use edgeward_kernels::engine::Session;
use edgeward_kernels::tensor::{DataType, Tensor, TensorSpec};

use super::render::OutputPlan;
use super::{ScoreError, ScoringInput, columns, tensors};
use crate::model::signature::{Column, ColumnType, Schema, Signature, TensorField};

/// Why a signature does not fit a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindModelError {
    /// The graph wants an input that no column or tensor of the signature feeds.
    #[error("model input {input:?} is fed by nothing in the signature, which has {}", known.join(", "))]
    InputNotFed {
        /// The ONNX input.
        input: String,
        /// The names in the signature.
        known: Vec<String>,
    },
    /// The signature has a column or tensor that the graph does not take.
    #[error("{field:?} of the signature feeds no input of the model, which has {}", known.join(", "))]
    FieldNotTaken {
        /// The column or tensor.
        field: String,
        /// The ONNX inputs.
        known: Vec<String>,
    },
    /// A feature that the model knows by name and no column feeds.
    #[error(
        "the model has a feature {feature:?}, and the signature no such column; it has {}",
        known.join(", ")
    )]
    FeatureNotFed {
        /// The feature.
        feature: String,
        /// The columns of the signature.
        known: Vec<String>,
    },
    /// A column of the signature that is none of the features that the model knows by name.
    #[error("column {column:?} of the signature is no feature of the model, which has {}", known.join(", "))]
    NotAFeature {
        /// The column.
        column: String,
        /// The model's features.
        known: Vec<String>,
    },
    /// A column whose values the input's element type cannot hold.
    #[error("column {column:?} of type {column_type} cannot feed input {input:?} of {data_type}")]
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        column_type: ColumnType,
        /// The ONNX input.
        input: String,
        /// Its element type.
        data_type: DataType,
    },
    /// An input or output whose shape does not fit what the signature says.
    #[error("{tensor:?} has shape {shape} in the graph, which is not for {wanted}")]
    Shape {
        /// The ONNX input or output.
        tensor: String,
        /// Its shape in the graph.
        shape: String,
        /// What the signature says.
        wanted: String,
    },
    /// A tensor whose element type differs.
    #[error("tensor {tensor:?} has {got} elements in the graph, {expected} in the signature")]
    TensorType {
        /// The ONNX input.
        tensor: String,
        /// In the signature.
        expected: DataType,
        /// In the graph.
        got: DataType,
    },
    /// An output of the signature that the graph does not give.
    #[error("output {output:?} of the signature is none of the graph's: {}", known.join(", "))]
    Output {
        /// The output of the signature.
        output: String,
        /// The ONNX outputs.
        known: Vec<String>,
    },
    /// An output that the signature calls a map, and whose numbers have no names.
    #[error("output {output:?} of the signature is a map, and the model does not name its numbers")]
    NotAMap {
        /// The output of the signature.
        output: String,
    },
    /// Parameters, which no ONNX graph takes.
    #[error("signature has params ({}), and a model takes none here: remove them", params.join(", "))]
    Params {
        /// Their names.
        params: Vec<String>,
    },
}

/// What a model takes and gives, as its session says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interface<'s> {
    pub(super) inputs: &'s [TensorSpec],
    pub(super) outputs: &'s [TensorSpec],
    /// The model's names for the columns of its one matrix.
    pub(super) columns: &'s [String],
    /// Of each output the model's names for the numbers of a row.
    pub(super) labels: &'s [Vec<String>],
    /// Whether the one output is the whole answer.
    pub(super) array: bool,
}

impl<'s> Interface<'s> {
    pub(super) fn of(session: &'s dyn Session) -> Self {
        Self {
            inputs: session.inputs(),
            outputs: session.outputs(),
            columns: session.columns(),
            labels: session.labels(),
            array: session.answers_array(),
        }
    }
}

/// How requests become tensors and tensors answers, for one model.
#[derive(Debug)]
pub(super) struct Binding {
    inputs: InputPlan,
    outputs: OutputPlan,
}

#[derive(Debug)]
enum InputPlan {
    Columns(ColumnPlan),
    Tensors(TensorPlan),
}

/// A table: which element of which tensor each column's cell is.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    pub(super) slots: Vec<Slot>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) tensors: Vec<TableTensor>,
}

/// A column and its place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) column: Column,
    /// Which ONNX input.
    pub(super) tensor: usize,
    /// Which element of that input's row.
    pub(super) offset: usize,
    pub(super) data_type: DataType,
}

/// An ONNX input that columns fill.
#[derive(Debug)]
pub(super) struct TableTensor {
    pub(super) data_type: DataType,
    /// Elements per row.
    pub(super) width: usize,
    /// Whether its shape is `[rows, width]` rather than `[rows]`.
    pub(super) matrix: bool,
}

/// Tensors by name, in the order of the ONNX inputs.
#[derive(Debug)]
pub(super) struct TensorPlan {
    pub(super) tensors: Vec<NamedTensor>,
}

/// An ONNX input that a request's tensor fills.
#[derive(Debug)]
pub(super) struct NamedTensor {
    /// In the signature; may be absent when there is one tensor.
    pub(super) name: Option<String>,
    /// In the graph.
    pub(super) input: String,
    pub(super) data_type: DataType,
    /// What the signature and the graph say together.
    pub(super) shape: Vec<Option<usize>>,
    /// Whether the signature has float32 where the model has float64: values are rounded first.
    pub(super) rounded: bool,
}

impl TensorPlan {
    /// The tensors as the graph has them.
    pub(super) fn of(specs: &[TensorSpec]) -> Self {
        let tensors = specs
            .iter()
            .map(|spec| NamedTensor {
                name: None,
                input: spec.name.clone(),
                data_type: spec.data_type,
                shape: spec.shape.clone(),
                rounded: false,
            })
            .collect();
        Self { tensors }
    }

    /// The tensor that a request calls `name`: by the signature or by the graph.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.tensors
            .iter()
            .position(|t| t.name.as_deref() == Some(name) || t.input == name)
    }

    /// Whether cells of a table's column of that name are text.
    pub(super) fn is_text(&self, name: &str) -> bool {
        let tensor = match self.tensors.as_slice() {
            [one] => Some(one),
            several => self.position(name).and_then(|at| several.get(at)),
        };
        tensor.is_some_and(|tensor| tensor.data_type == DataType::String)
    }

    /// The names that a request may use.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self
            .tensors
            .iter()
            .map(|t| t.name.as_deref().unwrap_or(&t.input))
            .collect();
        names.join(", ")
    }
}

impl Binding {
    pub(super) fn new(
        signature: &Signature,
        interface: Interface<'_>,
    ) -> Result<Self, BindModelError> {
        if !signature.params.is_empty() {
            return Err(BindModelError::Params {
                params: signature.params.clone(),
            });
        }
        let inputs = match &signature.inputs {
            Schema::Columns(columns) => InputPlan::Columns(bind_columns(columns, interface)?),
            Schema::Tensors(fields) => InputPlan::Tensors(bind_tensors(fields, interface.inputs)?),
        };
        let outputs = signature.outputs.as_ref();
        Ok(Self {
            inputs,
            outputs: OutputPlan::new(outputs, interface)?,
        })
    }

    pub(super) fn read(&self, input: &ScoringInput) -> Result<Vec<Tensor>, ScoreError> {
        match &self.inputs {
            InputPlan::Columns(plan) => columns::read(plan, input),
            InputPlan::Tensors(plan) => tensors::read(plan, input),
        }
    }

    pub(super) fn outputs(&self) -> &OutputPlan {
        &self.outputs
    }
}

/// Writes a shape as MLflow does: `(-1, 4)`.
pub(super) fn show_shape(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| dim.map_or_else(|| "-1".to_owned(), |dim| dim.to_string()))
        .collect();
    match dims.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", dims.join(", ")),
    }
}

pub(super) fn names_of(specs: &[TensorSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}

fn bind_columns(
    columns: &[Column],
    interface: Interface<'_>,
) -> Result<ColumnPlan, BindModelError> {
    let (slots, tensors) = match interface.inputs {
        [one] => bind_matrix(columns, one, interface.columns)?,
        several => bind_by_name(columns, several)?,
    };
    let by_name = slots
        .iter()
        .enumerate()
        .map(|(position, slot)| (slot.column.name.clone(), position))
        .collect();
    Ok(ColumnPlan {
        slots,
        by_name,
        tensors,
    })
}

type Places = (Vec<Slot>, Vec<TableTensor>);

/// One input: the whole table as one matrix, in the order of the model's names for its columns, or
/// else of the signature.
fn bind_matrix(
    columns: &[Column],
    input: &TensorSpec,
    names: &[String],
) -> Result<Places, BindModelError> {
    let offsets = offsets(columns, names)?;
    let width = columns.len();
    let matrix = match input.shape.as_slice() {
        [_] if width == 1 => false,
        [_, None] => true,
        [_, Some(fixed)] if *fixed == width => true,
        _ => {
            return Err(BindModelError::Shape {
                tensor: input.name.clone(),
                shape: show_shape(&input.shape),
                wanted: format!("{width} columns"),
            });
        }
    };
    let slots = columns
        .iter()
        .zip(offsets)
        .map(|(column, offset)| slot(column, 0, offset, input))
        .collect::<Result<_, _>>()?;
    Ok((
        slots,
        vec![TableTensor {
            data_type: input.data_type,
            width,
            matrix,
        }],
    ))
}

/// Where each column stands in the model's matrix.
fn offsets(columns: &[Column], names: &[String]) -> Result<Vec<usize>, BindModelError> {
    let places: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    // A column without a name is called by its position, unless the model has such names.
    let unnamed = (0..).zip(columns).all(|(position, column): (usize, _)| {
        column.name == position.to_string() && !places.contains_key(column.name.as_str())
    });
    if names.is_empty() || unnamed && columns.len() == names.len() {
        return Ok((0..columns.len()).collect());
    }
    let mut fed = vec![false; names.len()];
    let mut offsets = Vec::with_capacity(columns.len());
    for column in columns {
        // LightGBM writes its names without spaces.
        let found = places.get(column.name.as_str());
        let found = found.or_else(|| places.get(column.name.replace(' ', "_").as_str()));
        let free = found.and_then(|at| Some((*at, fed.get_mut(*at).filter(|fed| !**fed)?)));
        let Some((at, place)) = free else {
            return Err(BindModelError::NotAFeature {
                column: column.name.clone(),
                known: names.to_vec(),
            });
        };
        *place = true;
        offsets.push(at);
    }
    match names.iter().zip(fed).find(|(_, fed)| !fed) {
        Some((feature, _)) => Err(BindModelError::FeatureNotFed {
            feature: feature.clone(),
            known: columns.iter().map(|column| column.name.clone()).collect(),
        }),
        None => Ok(offsets),
    }
}

/// Several inputs: each takes the column of its name.
fn bind_by_name(columns: &[Column], inputs: &[TensorSpec]) -> Result<Places, BindModelError> {
    let slots = columns
        .iter()
        .map(|column| {
            let found = inputs
                .iter()
                .enumerate()
                .find(|(_, spec)| spec.name == column.name);
            let Some((tensor, spec)) = found else {
                return Err(BindModelError::FieldNotTaken {
                    field: column.name.clone(),
                    known: names_of(inputs),
                });
            };
            slot(column, tensor, 0, spec)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let tensors = inputs
        .iter()
        .map(|spec| {
            if !columns.iter().any(|column| column.name == spec.name) {
                return Err(BindModelError::InputNotFed {
                    input: spec.name.clone(),
                    known: columns.iter().map(|column| column.name.clone()).collect(),
                });
            }
            let matrix = match spec.shape.as_slice() {
                [_] => false,
                [_, None | Some(1)] => true,
                shape => {
                    return Err(BindModelError::Shape {
                        tensor: spec.name.clone(),
                        shape: show_shape(shape),
                        wanted: "one column".to_owned(),
                    });
                }
            };
            Ok(TableTensor {
                data_type: spec.data_type,
                width: 1,
                matrix,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((slots, tensors))
}

fn slot(
    column: &Column,
    tensor: usize,
    offset: usize,
    input: &TensorSpec,
) -> Result<Slot, BindModelError> {
    if !feeds(column.column_type, input.data_type) {
        return Err(BindModelError::ColumnType {
            column: column.name.clone(),
            column_type: column.column_type,
            input: input.name.clone(),
            data_type: input.data_type,
        });
    }
    Ok(Slot {
        column: column.clone(),
        tensor,
        offset,
        data_type: input.data_type,
    })
}

/// Whether values of a column type can be elements of a tensor. Where the tensor's integers are
/// narrower than the column's, each cell's range is checked.
fn feeds(column_type: ColumnType, data_type: DataType) -> bool {
    match column_type {
        ColumnType::Boolean | ColumnType::Integer | ColumnType::Long => {
            let whole = data_type != DataType::String && data_type != DataType::Bool;
            whole || (column_type == ColumnType::Boolean && data_type == DataType::Bool)
        }
        ColumnType::Float | ColumnType::Double => data_type.is_float(),
        ColumnType::String | ColumnType::Binary => data_type == DataType::String,
        ColumnType::Datetime => matches!(data_type, DataType::I64 | DataType::String),
        ColumnType::Map => false,
    }
}

fn bind_tensors(
    fields: &[TensorField],
    inputs: &[TensorSpec],
) -> Result<TensorPlan, BindModelError> {
    // With one on each side there is nothing to mix up, so the names need not agree.
    if let ([field], [input]) = (fields, inputs) {
        return Ok(TensorPlan {
            tensors: vec![bind_tensor(field, input)?],
        });
    }
    for field in fields {
        let name = field.name.as_deref().unwrap_or_default();
        if !inputs.iter().any(|input| input.name == name) {
            return Err(BindModelError::FieldNotTaken {
                field: name.to_owned(),
                known: names_of(inputs),
            });
        }
    }
    let tensors = inputs
        .iter()
        .map(|input| {
            let field = fields
                .iter()
                .find(|field| field.name.as_ref() == Some(&input.name));
            let field = field.ok_or_else(|| BindModelError::InputNotFed {
                input: input.name.clone(),
                known: fields
                    .iter()
                    .filter_map(|field| field.name.clone())
                    .collect(),
            })?;
            bind_tensor(field, input)
        })
        .collect::<Result<_, _>>()?;
    Ok(TensorPlan { tensors })
}

fn bind_tensor(field: &TensorField, input: &TensorSpec) -> Result<NamedTensor, BindModelError> {
    // Whatever is a number is one of float64 too.
    let widens = input.data_type == DataType::F64
        && !matches!(field.data_type, DataType::Bool | DataType::String);
    if field.data_type != input.data_type && !widens {
        return Err(BindModelError::TensorType {
            tensor: input.name.clone(),
            expected: field.data_type,
            got: input.data_type,
        });
    }
    let clash = field
        .shape
        .iter()
        .zip(&input.shape)
        .any(|(said, is)| matches!((said, is), (Some(said), Some(is)) if said != is));
    if clash || field.shape.len() != input.shape.len() {
        return Err(BindModelError::Shape {
            tensor: input.name.clone(),
            shape: show_shape(&input.shape),
            wanted: show_shape(&field.shape),
        });
    }
    Ok(NamedTensor {
        name: field.name.clone(),
        input: input.name.clone(),
        data_type: input.data_type,
        shape: field
            .shape
            .iter()
            .zip(&input.shape)
            .map(|(said, is)| said.or(*is))
            .collect(),
        rounded: field.data_type == DataType::F32 && input.data_type == DataType::F64,
    })
}

#[cfg(test)]
mod tests;
