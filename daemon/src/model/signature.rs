//! What a model takes and gives: the signature of an MLmodel file, or one derived from the model.
//!
//! MLflow keeps three JSON texts inside YAML strings, `inputs`, `outputs` and `params`:
//!
//! ```text
//! columns   [{"type": "double", "name": "amount", "required": true}, ...]
//! tensors   [{"type": "tensor", "name": "x", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]
//! ```
//!
//! Column types that ONNX cannot take (array, object, map, any) are refused here by name; an output
//! may be a map. Nothing in this module looks at a request or at a session's numbers.

use std::fmt;

use edgeward_kernels::engine::Session;
use edgeward_kernels::tensor::{DataType, TensorSpec};
use serde::Deserialize;
use serde_json::Value;

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// What a request must bring.
    pub inputs: Schema,
    /// What an answer holds; `None` where the model's file does not say.
    pub outputs: Option<Schema>,
    /// The names of the model's parameters. No ONNX graph takes any: see
    /// [`BindModelError`](super::BindModelError).
    pub params: Vec<String>,
}

/// One side of a signature.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// A table: named columns, each with a type.
    Columns(Vec<Column>),
    /// Tensors, with names or, when there is one, perhaps without.
    Tensors(Vec<TensorField>),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name; a column without one is called by its position, from `0`.
    pub name: String,
    /// The type of its cells.
    pub column_type: ColumnType,
    /// Whether a request must bring it. One that is not required may be absent or null.
    pub required: bool,
}

/// The type of a column's cells: MLflow's scalar types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// 32-bit signed integer.
    Integer,
    /// 64-bit signed integer.
    Long,
    /// 32-bit floating point.
    Float,
    /// 64-bit floating point.
    Double,
    /// Text.
    String,
    /// Bytes, in base64 in JSON.
    Binary,
    /// A moment, in ISO 8601 in JSON.
    Datetime,
    /// Numbers by name, an object in JSON. Only an output is one: the scores of classes.
    Map,
}

impl ColumnType {
    /// What an input may be.
    const CELLS: [Self; 8] = [
        Self::Boolean,
        Self::Integer,
        Self::Long,
        Self::Float,
        Self::Double,
        Self::String,
        Self::Binary,
        Self::Datetime,
    ];

    /// The word that MLflow uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Binary => "binary",
            Self::Datetime => "datetime",
            Self::Map => "map",
        }
    }

    fn from_word(side: &'static str, word: &str) -> Option<Self> {
        // MLflow calls a map whose keys it saw an object.
        if side == "outputs" && matches!(word, "map" | "object") {
            return Some(Self::Map);
        }
        Self::CELLS.into_iter().find(|known| known.as_str() == word)
    }

    /// The column type that holds every value of a tensor's element type.
    #[must_use]
    pub fn of(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Boolean,
            DataType::U8 | DataType::U16 | DataType::I8 | DataType::I16 | DataType::I32 => {
                Self::Integer
            }
            DataType::U32 | DataType::U64 | DataType::I64 => Self::Long,
            DataType::F32 => Self::Float,
            DataType::F64 => Self::Double,
            DataType::String => Self::String,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tensor of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorField {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The type of its elements.
    pub data_type: DataType,
    /// The extent of each axis; `None` (written `-1`) where any extent will do.
    pub shape: Vec<Option<usize>>,
}

impl TensorField {
    fn of(spec: &TensorSpec) -> Self {
        Self {
            name: Some(spec.name.clone()),
            data_type: spec.data_type,
            shape: spec.shape.clone(),
        }
    }
}

/// Why the signature in an MLmodel file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseSignatureError {
    /// The text is not the JSON list that MLflow writes.
    #[error("signature.{side} is not the JSON list that MLflow writes")]
    Json {
        /// `inputs`, `outputs` or `params`.
        side: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A column type that no ONNX input takes, and no output gives.
    #[error(
        "signature.{side} {name:?} has type {type_name:?}: an ONNX model takes boolean, integer, \
         long, float, double, string, binary and datetime columns, or tensors, and gives these or \
         maps"
    )]
    ColumnType {
        /// `inputs` or `outputs`.
        side: &'static str,
        /// The column.
        name: String,
        /// Its type.
        type_name: String,
    },
    /// A tensor element type that does not cross the engine boundary.
    #[error(
        "signature.{side} {name:?} has dtype {dtype:?}: use bool, int8 to int64, uint8 to uint64, \
         float32, float64 or str"
    )]
    TensorType {
        /// `inputs` or `outputs`.
        side: &'static str,
        /// The tensor.
        name: String,
        /// Its element type.
        dtype: String,
    },
    /// Columns beside tensors, or nothing at all.
    #[error("signature.{side} must list columns or tensors, one kind of them, and at least one")]
    Mixed {
        /// `inputs` or `outputs`.
        side: &'static str,
    },
    /// Two fields of one name.
    #[error("signature.{side} names {name:?} twice")]
    Duplicate {
        /// `inputs` or `outputs`.
        side: &'static str,
        /// The name.
        name: String,
    },
}

impl Signature {
    /// Reads the JSON texts of an MLmodel file's `signature`.
    ///
    /// # Errors
    /// [`ParseSignatureError`], naming the side and the field.
    pub fn parse(
        inputs: &str,
        outputs: Option<&str>,
        params: Option<&str>,
    ) -> Result<Self, ParseSignatureError> {
        Ok(Self {
            inputs: parse_side("inputs", inputs)?,
            outputs: outputs
                .map(|text| parse_side("outputs", text))
                .transpose()?,
            params: params.map_or_else(|| Ok(Vec::new()), parse_params)?,
        })
    }

    /// The signature of a model that comes without one.
    ///
    /// A model that names its features takes columns of these names; of those with texts, null is a
    /// missing value, and those that count as nothing may be absent. Any other is derived from its
    /// inputs and outputs.
    #[must_use]
    pub fn of_session(session: &dyn Session) -> Self {
        let sparse = session.has_sparse_columns();
        let column = |name: &str, column_type| Column {
            name: name.to_owned(),
            column_type,
            required: column_type != ColumnType::String && !sparse,
        };
        let texts = matches!(session.inputs(), [one] if one.data_type == DataType::String);
        let cells = if texts {
            ColumnType::String
        } else {
            ColumnType::Double
        };
        let columns: Vec<Column> = if !session.columns().is_empty() {
            let names = session.columns().iter();
            names.map(|name| column(name, cells)).collect()
        } else if session.answers_array() && session.inputs().len() > 1 {
            let specs = session.inputs().iter();
            specs
                .map(|spec| column(&spec.name, ColumnType::of(spec.data_type)))
                .collect()
        } else {
            return Self::derive(session.inputs(), session.outputs());
        };
        Self {
            inputs: Schema::Columns(columns),
            outputs: None,
            params: Vec::new(),
        }
    }

    /// The signature of a model by its inputs and outputs alone.
    ///
    /// Several inputs that hold one value per row become columns; anything else stays tensors under
    /// the model's own names. The same holds for the outputs of a model with columns.
    #[must_use]
    pub fn derive(inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Self {
        let table = inputs.len() > 1 && inputs.iter().all(is_column);
        let columns_out = table && matches!(outputs, [one] if is_column(one));
        Self {
            inputs: schema_of(inputs, table),
            outputs: Some(schema_of(outputs, columns_out)),
            params: Vec::new(),
        }
    }
}

/// Whether a tensor holds one value per row: `[N]` or `[N, 1]`.
fn is_column(spec: &TensorSpec) -> bool {
    matches!(spec.shape.as_slice(), [_] | [_, Some(1)])
}

fn schema_of(specs: &[TensorSpec], table: bool) -> Schema {
    if table {
        Schema::Columns(
            specs
                .iter()
                .map(|spec| Column {
                    name: spec.name.clone(),
                    column_type: ColumnType::of(spec.data_type),
                    required: true,
                })
                .collect(),
        )
    } else {
        Schema::Tensors(specs.iter().map(TensorField::of).collect())
    }
}

/// A field as MLflow writes it; which parts are there depends on its type.
#[derive(Deserialize)]
struct RawField {
    #[serde(rename = "type")]
    type_name: Value,
    name: Option<Value>,
    required: Option<bool>,
    /// What MLflow before 2.6 wrote instead of `required`.
    optional: Option<bool>,
    #[serde(rename = "tensor-spec")]
    tensor_spec: Option<RawTensorSpec>,
}

#[derive(Deserialize)]
struct RawTensorSpec {
    dtype: String,
    shape: Vec<i64>,
}

impl RawField {
    fn given_name(&self) -> Option<String> {
        match &self.name {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.clone()),
            Some(other) => Some(other.to_string()),
        }
    }
}

fn parse_side(side: &'static str, text: &str) -> Result<Schema, ParseSignatureError> {
    let fields: Vec<RawField> =
        serde_json::from_str(text).map_err(|source| ParseSignatureError::Json { side, source })?;
    let tensors = fields
        .iter()
        .filter(|field| field.tensor_spec.is_some())
        .count();
    if fields.is_empty() || (tensors != 0 && tensors != fields.len()) {
        return Err(ParseSignatureError::Mixed { side });
    }
    if tensors == 0 {
        let columns = fields
            .iter()
            .enumerate()
            .map(|(position, field)| parse_column(side, position, field))
            .collect::<Result<Vec<_>, _>>()?;
        refuse_duplicates(side, columns.iter().map(|column| column.name.as_str()))?;
        return Ok(Schema::Columns(columns));
    }
    let tensors = fields
        .iter()
        .map(|field| parse_tensor(side, field))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_duplicates(
        side,
        tensors.iter().filter_map(|tensor| tensor.name.as_deref()),
    )?;
    if tensors.len() > 1 && tensors.iter().any(|tensor| tensor.name.is_none()) {
        return Err(ParseSignatureError::Mixed { side });
    }
    Ok(Schema::Tensors(tensors))
}

fn parse_column(
    side: &'static str,
    position: usize,
    field: &RawField,
) -> Result<Column, ParseSignatureError> {
    let name = field.given_name().unwrap_or_else(|| position.to_string());
    let word = field.type_name.as_str();
    let column_type = word.and_then(|word| ColumnType::from_word(side, word));
    let Some(column_type) = column_type else {
        let type_name = match &field.type_name {
            Value::String(word) => word.clone(),
            other => other.to_string(),
        };
        return Err(ParseSignatureError::ColumnType {
            side,
            name,
            type_name,
        });
    };
    let required = field
        .required
        .unwrap_or_else(|| !field.optional.unwrap_or(false));
    Ok(Column {
        name,
        column_type,
        required,
    })
}

fn parse_tensor(side: &'static str, field: &RawField) -> Result<TensorField, ParseSignatureError> {
    let name = field.given_name();
    let Some(spec) = &field.tensor_spec else {
        return Err(ParseSignatureError::Mixed { side });
    };
    let Some(data_type) = numpy_type(&spec.dtype) else {
        return Err(ParseSignatureError::TensorType {
            side,
            name: name.unwrap_or_default(),
            dtype: spec.dtype.clone(),
        });
    };
    let shape = spec
        .shape
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect();
    Ok(TensorField {
        name,
        data_type,
        shape,
    })
}

fn numpy_type(dtype: &str) -> Option<DataType> {
    Some(match dtype {
        "bool" => DataType::Bool,
        "uint8" => DataType::U8,
        "uint16" => DataType::U16,
        "uint32" => DataType::U32,
        "uint64" => DataType::U64,
        "int8" => DataType::I8,
        "int16" => DataType::I16,
        "int32" => DataType::I32,
        "int64" => DataType::I64,
        "float32" => DataType::F32,
        "float64" => DataType::F64,
        "str" | "object" => DataType::String,
        _ => return None,
    })
}

fn refuse_duplicates<'a>(
    side: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), ParseSignatureError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ParseSignatureError::Duplicate {
                side,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn parse_params(text: &str) -> Result<Vec<String>, ParseSignatureError> {
    #[derive(Deserialize)]
    struct RawParam {
        name: String,
    }
    let params: Vec<RawParam> =
        serde_json::from_str(text).map_err(|source| ParseSignatureError::Json {
            side: "params",
            source,
        })?;
    Ok(params.into_iter().map(|param| param.name).collect())
}

#[cfg(test)]
mod tests;
