//! One JSON value on its way into a tensor.
//!
//! Owns which value fits which column type and which element type; the table is in
//! [`scoring`](super).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeward_kernels::tensor::{DataType, TensorData};
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use super::datetime;
use crate::model::signature::ColumnType;

/// A JSON value that is not a list and not an object, or the fact that it is one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number over `i64::MAX`.
    Big(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List,
    Object,
}

/// Why a cell was refused. The reader adds where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mismatch {
    pub(super) expected: Cow<'static, str>,
    pub(super) got: String,
}

impl Cell<'_> {
    /// A whole number that is not negative.
    pub(super) fn whole(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Big(value), Self::Int)
    }

    /// What the client sent, short enough for a message.
    fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Big(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => {
                let shown: String = text.chars().take(40).collect();
                format!("the string {shown:?}")
            }
            Self::List => "a list".to_owned(),
            Self::Object => "an object".to_owned(),
        }
    }

    pub(super) fn mismatch(&self, expected: impl Into<Cow<'static, str>>) -> Mismatch {
        Mismatch {
            expected: expected.into(),
            got: self.describe(),
        }
    }
}

/// Brings a cell of a typed column into the form that the element type takes.
pub(super) fn typed<'a>(
    column_type: ColumnType,
    target: DataType,
    cell: Cell<'a>,
) -> Result<Cell<'a>, Mismatch> {
    if cell == Cell::Null {
        return Ok(cell);
    }
    match column_type {
        ColumnType::Boolean => match cell {
            Cell::Bool(_) => Ok(cell),
            other => Err(other.mismatch("true or false")),
        },
        ColumnType::Integer => match cell {
            // 64 bits are more than the column's type holds; the ONNX input may be that wide.
            Cell::Bool(_) => Err(cell.mismatch("a whole number")),
            other => i32::from_cell(&other).map(|whole| Cell::Int(i64::from(whole))),
        },
        ColumnType::Long => match cell {
            Cell::Bool(_) => Err(cell.mismatch("a whole number")),
            // An unsigned 64-bit input takes what a signed one cannot hold.
            Cell::Big(_) if target == DataType::U64 => Ok(cell),
            other => i64::from_cell(&other).map(Cell::Int),
        },
        ColumnType::Float if target == DataType::F64 => to_float32(&cell),
        ColumnType::Float => f32::from_cell(&cell).map(|_| cell),
        ColumnType::Double => f64::from_cell(&cell).map(|_| cell),
        ColumnType::String => match cell {
            Cell::Text(_) => Ok(cell),
            other => Err(other.mismatch("a string")),
        },
        ColumnType::Binary => decode(&cell),
        ColumnType::Datetime => moment(cell, target),
        ColumnType::Map => Err(cell.mismatch("nothing: no input is a map")),
    }
}

/// The number that a float32 makes of a cell.
pub(super) fn to_float32(cell: &Cell<'_>) -> Result<Cell<'static>, Mismatch> {
    f32::from_cell(cell).map(|rounded| Cell::Float(f64::from(rounded)))
}

fn decode<'a>(cell: &Cell<'a>) -> Result<Cell<'a>, Mismatch> {
    let wanted = "base64 of UTF-8 text";
    let Cell::Text(text) = cell else {
        return Err(cell.mismatch(wanted));
    };
    STANDARD
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(|text| Cell::Text(Cow::Owned(text)))
        .ok_or_else(|| cell.mismatch(wanted))
}

fn moment(cell: Cell<'_>, target: DataType) -> Result<Cell<'_>, Mismatch> {
    let wanted = "an ISO 8601 date or time such as 2026-03-01T12:30:00Z";
    let Cell::Text(text) = &cell else {
        return Err(cell.mismatch(wanted));
    };
    let Some(nanoseconds) = datetime::nanoseconds(text) else {
        return Err(cell.mismatch(wanted));
    };
    Ok(if target == DataType::String {
        cell
    } else {
        Cell::Int(nanoseconds)
    })
}

/// A tensor's element type.
trait Element: Sized + Clone {
    /// What stands in a place that no cell has filled yet.
    const EMPTY: Self;

    fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch>;
}

impl Element for bool {
    const EMPTY: Self = false;

    fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch> {
        match cell {
            Cell::Bool(value) => Ok(*value),
            other => Err(other.mismatch("true or false")),
        }
    }
}

macro_rules! whole_number {
    ($($element:ty),*) => {$(
        impl Element for $element {
            const EMPTY: Self = 0;

            fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch> {
                let whole = match cell {
                    Cell::Bool(value) => Some(Self::from(*value)),
                    Cell::Int(value) => Self::try_from(*value).ok(),
                    Cell::Big(value) => Self::try_from(*value).ok(),
                    Cell::Float(value) => {
                        exact_integer(*value).and_then(|value| Self::try_from(value).ok())
                    }
                    Cell::Null | Cell::Text(_) | Cell::List | Cell::Object => None,
                };
                whole.ok_or_else(|| {
                    cell.mismatch(format!("a whole number from {} to {}", Self::MIN, Self::MAX))
                })
            }
        }
    )*};
}

whole_number!(u8, u16, u32, u64, i8, i16, i32, i64);

/// The integer that a floating-point number is, where the two are the same number for certain.
fn exact_integer(value: f64) -> Option<i64> {
    /// From here on neighbouring doubles are more than one apart.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    if value.fract() != 0.0 || value.abs() > LIMIT {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and within 2^53, checked above"
    )]
    let whole = value as i64;
    Some(whole)
}

impl Element for f64 {
    const EMPTY: Self = f64::NAN;

    fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch> {
        match cell {
            Cell::Null => Ok(f64::NAN),
            Cell::Bool(value) => Ok(f64::from(u8::from(*value))),
            Cell::Int(value) => Ok(*value as f64),
            Cell::Big(value) => Ok(*value as f64),
            Cell::Float(value) => Ok(*value),
            Cell::Text(_) | Cell::List | Cell::Object => Err(cell.mismatch("a number")),
        }
    }
}

impl Element for f32 {
    const EMPTY: Self = f32::NAN;

    fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch> {
        let wide = f64::from_cell(cell)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to float32 is what is asked"
        )]
        let narrow = wide as f32;
        if narrow.is_infinite() {
            return Err(cell.mismatch("a number in the range of float32"));
        }
        Ok(narrow)
    }
}

impl Element for String {
    const EMPTY: Self = Self::new();

    fn from_cell(cell: &Cell<'_>) -> Result<Self, Mismatch> {
        match cell {
            Cell::Null => Ok(Self::new()),
            Cell::Text(text) => Ok(text.clone().into_owned()),
            other => Err(other.mismatch("a string")),
        }
    }
}

/// Runs `$body` with `$values` bound to the vector inside.
macro_rules! with_elements {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            TensorData::Bool($values) => $body,
            TensorData::U8($values) => $body,
            TensorData::U16($values) => $body,
            TensorData::U32($values) => $body,
            TensorData::U64($values) => $body,
            TensorData::I8($values) => $body,
            TensorData::I16($values) => $body,
            TensorData::I32($values) => $body,
            TensorData::I64($values) => $body,
            TensorData::F32($values) => $body,
            TensorData::F64($values) => $body,
            TensorData::String($values) => $body,
        }
    };
}

/// Makes room for `length` elements.
pub(super) fn grow(data: &mut TensorData, length: usize) {
    fn fill<T: Element>(values: &mut Vec<T>, length: usize) {
        if values.len() < length {
            values.resize(length, T::EMPTY);
        }
    }
    with_elements!(data, values => fill(values, length));
}

/// Puts a cell into a place that [`grow`] has made.
pub(super) fn put(data: &mut TensorData, at: usize, cell: &Cell<'_>) -> Result<(), Mismatch> {
    fn set<T: Element>(values: &mut [T], at: usize, cell: &Cell<'_>) -> Result<(), Mismatch> {
        let element = T::from_cell(cell)?;
        if let Some(place) = values.get_mut(at) {
            *place = element;
        }
        Ok(())
    }
    with_elements!(data, values => set(values, at, cell))
}

/// Appends a cell.
pub(super) fn push(data: &mut TensorData, cell: &Cell<'_>) -> Result<(), Mismatch> {
    fn append<T: Element>(values: &mut Vec<T>, cell: &Cell<'_>) -> Result<(), Mismatch> {
        values.push(T::from_cell(cell)?);
        Ok(())
    }
    with_elements!(data, values => append(values, cell))
}

/// Whether null has a meaning in this element type.
pub(super) fn holds_null(data_type: DataType) -> bool {
    data_type.is_float() || data_type == DataType::String
}

/// Bytes that one element takes in memory, without the text of a string.
pub(super) fn element_bytes(data_type: DataType) -> usize {
    match data_type {
        DataType::Bool | DataType::U8 | DataType::I8 => 1,
        DataType::U16 | DataType::I16 => 2,
        DataType::U32 | DataType::I32 | DataType::F32 => 4,
        DataType::U64 | DataType::I64 | DataType::F64 => 8,
        DataType::String => size_of::<String>(),
    }
}

/// Gives each scalar to a closure; a list or an object is given as such, and then ends the reading.
pub(super) struct CellVisitor<F>(pub(super) F);

impl<'de, E2, F> Visitor<'de> for CellVisitor<F>
where
    F: FnOnce(Cell<'_>) -> Result<(), E2>,
    E2: fmt::Display,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0(Cell::Null).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.0(Cell::Bool(value)).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.0(Cell::Int(value)).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.0(Cell::whole(value)).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.0(Cell::Float(value)).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0(Cell::Text(Cow::Borrowed(text))).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.0(Cell::List).map_err(de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.0(Cell::Object).map_err(de::Error::custom)
    }
}
