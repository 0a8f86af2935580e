//! The tensors of a case: `TensorProto` messages, read without any engine's help.

use edgeward_kernels::tensor::{Tensor, TensorData};

/// A tensor and the name of the input or output that it is for.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// One field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
}

/// The fields of a `TensorProto` as they stand in the file.
#[derive(Default)]
struct Raw<'a> {
    dims: Vec<usize>,
    data_type: u64,
    name: String,
    /// `raw_data`, or what the typed fields hold, as little-endian elements.
    raw: Option<&'a [u8]>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    integers: Vec<u64>,
    strings: Vec<String>,
}

/// Reads a `TensorProto`.
pub(crate) fn tensor(bytes: &[u8]) -> Result<Named, String> {
    let mut raw = Raw::default();
    for (number, field) in fields(bytes).ok_or("not a protobuf message")? {
        raw.take(number, &field)?;
    }
    let name = std::mem::take(&mut raw.name);
    let shape = std::mem::take(&mut raw.dims);
    let tensor = Tensor::new(shape, raw.data()?).map_err(|error| error.to_string())?;
    Ok(Named { name, tensor })
}

impl<'a> Raw<'a> {
    fn take(&mut self, number: u32, field: &Field<'a>) -> Result<(), String> {
        match (number, field) {
            (1, _) => self.dims.extend(
                numbers(field)?
                    .iter()
                    .map(|dim| usize::try_from(*dim).unwrap()),
            ),
            (2, Field::Number(data_type)) => self.data_type = *data_type,
            (4, Field::Fixed32(value)) => self.floats.push(f32::from_le_bytes(*value)),
            (4, Field::Bytes(packed)) => self.floats.extend(each(packed, f32::from_le_bytes)),
            (5 | 7 | 11, _) => self.integers.extend(numbers(field)?),
            (6, Field::Bytes(text)) => self.strings.push(utf8(text)?),
            (8, Field::Bytes(text)) => self.name = utf8(text)?,
            (9, Field::Bytes(raw)) => self.raw = Some(raw),
            (10, Field::Fixed64(value)) => self.doubles.push(f64::from_le_bytes(*value)),
            (10, Field::Bytes(packed)) => self.doubles.extend(each(packed, f64::from_le_bytes)),
            (12, _) => {}
            (other, _) => return Err(format!("field {other} is not read")),
        }
        Ok(())
    }

    /// The elements. Numbers of 32 bits and fewer stand in `int32_data`, one of them each.
    fn data(self) -> Result<TensorData, String> {
        macro_rules! elements {
            ($variant:ident, $kind:ty) => {
                TensorData::$variant(match self.raw {
                    Some(raw) => each(raw, <$kind>::from_le_bytes),
                    None => low(&self.integers, <$kind>::from_le_bytes),
                })
            };
        }
        Ok(match self.data_type {
            1 => TensorData::F32(match self.raw {
                Some(raw) => each(raw, f32::from_le_bytes),
                None => self.floats,
            }),
            2 => elements!(U8, u8),
            3 => elements!(I8, i8),
            4 => elements!(U16, u16),
            5 => elements!(I16, i16),
            6 => elements!(I32, i32),
            7 => elements!(I64, i64),
            8 => TensorData::String(self.strings),
            9 => TensorData::Bool(match self.raw {
                Some(raw) => raw.iter().map(|byte| *byte != 0).collect(),
                None => self.integers.iter().map(|value| *value != 0).collect(),
            }),
            11 => TensorData::F64(match self.raw {
                Some(raw) => each(raw, f64::from_le_bytes),
                None => self.doubles,
            }),
            12 => elements!(U32, u32),
            13 => elements!(U64, u64),
            other => return Err(format!("element type {other} does not cross the boundary")),
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

/// Little-endian elements.
fn each<const WIDTH: usize, T>(bytes: &[u8], read: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<WIDTH>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

/// Elements that stand in the low bytes of larger numbers.
fn low<const WIDTH: usize, T>(numbers: &[u64], read: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    let bytes = numbers.iter().map(|number| number.to_le_bytes());
    bytes
        .map(|bytes| read(*bytes.first_chunk().unwrap()))
        .collect()
}

/// A repeated integer, packed or not.
fn numbers(field: &Field<'_>) -> Result<Vec<u64>, String> {
    match field {
        Field::Number(value) => Ok(vec![*value]),
        Field::Bytes(packed) => {
            let mut packed = *packed;
            let mut values = Vec::new();
            while !packed.is_empty() {
                values.push(varint(&mut packed).ok_or("a number is cut short")?);
            }
            Ok(values)
        }
        Field::Fixed32(_) | Field::Fixed64(_) => Err("not a variable-length number".to_owned()),
    }
}

/// The fields of a message, each with its number.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Fixed64(split(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(split(&mut bytes, length)?)
            }
            5 => Field::Fixed32(split(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        found.push((u32::try_from(tag >> 3).ok()?, field));
    }
    Some(found)
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
