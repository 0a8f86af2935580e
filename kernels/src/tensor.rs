//! Tensors as the rest of the house sees them: a shape and one flat, row-major vector.
//!
//! Owns the element types that cross the engine boundary. Never does arithmetic: that is the
//! engines' part.

use std::fmt;

use serde::{Deserialize, Serialize};

mod batch;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// Boolean.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 64 bits.
    F64,
    /// UTF-8 text of any length.
    String,
}

impl DataType {
    /// The lower-case name, as it is written in JSON and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
        }
    }

    /// Whether the elements are floating-point numbers, compared with a tolerance.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The elements of a tensor in row-major order, one variant per [`DataType`].
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the DataType of the same name")]
pub enum TensorData {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    String(Vec<String>),
}

/// Runs `$body` with `$values` bound to the vector inside, whatever its element type.
macro_rules! each_type {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            $crate::tensor::TensorData::Bool($values) => $body,
            $crate::tensor::TensorData::U8($values) => $body,
            $crate::tensor::TensorData::U16($values) => $body,
            $crate::tensor::TensorData::U32($values) => $body,
            $crate::tensor::TensorData::U64($values) => $body,
            $crate::tensor::TensorData::I8($values) => $body,
            $crate::tensor::TensorData::I16($values) => $body,
            $crate::tensor::TensorData::I32($values) => $body,
            $crate::tensor::TensorData::I64($values) => $body,
            $crate::tensor::TensorData::F32($values) => $body,
            $crate::tensor::TensorData::F64($values) => $body,
            $crate::tensor::TensorData::String($values) => $body,
        }
    };
}

impl TensorData {
    /// The type of the elements.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::U8(_) => DataType::U8,
            Self::U16(_) => DataType::U16,
            Self::U32(_) => DataType::U32,
            Self::U64(_) => DataType::U64,
            Self::I8(_) => DataType::I8,
            Self::I16(_) => DataType::I16,
            Self::I32(_) => DataType::I32,
            Self::I64(_) => DataType::I64,
            Self::F32(_) => DataType::F32,
            Self::F64(_) => DataType::F64,
            Self::String(_) => DataType::String,
        }
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An empty vector of this element type.
    #[must_use]
    pub fn empty(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(Vec::new()),
            DataType::U8 => Self::U8(Vec::new()),
            DataType::U16 => Self::U16(Vec::new()),
            DataType::U32 => Self::U32(Vec::new()),
            DataType::U64 => Self::U64(Vec::new()),
            DataType::I8 => Self::I8(Vec::new()),
            DataType::I16 => Self::I16(Vec::new()),
            DataType::I32 => Self::I32(Vec::new()),
            DataType::I64 => Self::I64(Vec::new()),
            DataType::F32 => Self::F32(Vec::new()),
            DataType::F64 => Self::F64(Vec::new()),
            DataType::String => Self::String(Vec::new()),
        }
    }
}

/// A dense tensor. Its element count always equals the product of its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// The shape asks for another number of elements than there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shape {shape:?} does not fit {elements} elements")]
pub struct TensorShapeError {
    /// The shape asked for.
    pub shape: Vec<usize>,
    /// The number of elements given.
    pub elements: usize,
}

impl Tensor {
    /// A tensor of `shape`; an empty shape is a scalar.
    ///
    /// # Errors
    /// When the product of `shape` differs from the number of elements in `data`.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, TensorShapeError> {
        if shape
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
            == Some(data.len())
        {
            Ok(Self { shape, data })
        } else {
            Err(TensorShapeError {
                elements: data.len(),
                shape,
            })
        }
    }

    /// The extent of each axis; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    #[must_use]
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The type of the elements.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        self.data.data_type()
    }

    /// The elements, given up by the tensor.
    #[must_use]
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The extent of axis 0: how many rows a batch has. `None` for a scalar.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }
}

/// What a model says of one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name in the model.
    pub name: String,
    /// The type of the elements.
    pub data_type: DataType,
    /// The extent of each axis; `None` where any extent will do (the batch, a sequence).
    pub shape: Vec<Option<usize>>,
}

impl TensorSpec {
    /// Whether a tensor of `shape` fits: the same rank, and the same extent where one is fixed.
    #[must_use]
    pub fn admits(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(want, got)| want.is_none_or(|want| want == *got))
    }
}

#[cfg(test)]
mod tests;
