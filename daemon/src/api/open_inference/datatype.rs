//! The element types of the protocol, by name, and their raw bytes: little-endian, row-major.
//!
//! A text stands as its length, four bytes, and its UTF-8. Must never allocate what a length claims: only
//! bytes that are there are copied.

use edgeward_kernels::tensor::{DataType, TensorData};
use half::{bf16, f16};

/// The type of a tensor's elements on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    /// One that models have too.
    Native(DataType),
    /// IEEE 754, 16 bits; a number of 32 bits in the model.
    Fp16,
    /// The upper half of 32 bits.
    Bf16,
}

const NAMES: [(&str, Datatype); 14] = [
    ("BOOL", Datatype::Native(DataType::Bool)),
    ("UINT8", Datatype::Native(DataType::U8)),
    ("UINT16", Datatype::Native(DataType::U16)),
    ("UINT32", Datatype::Native(DataType::U32)),
    ("UINT64", Datatype::Native(DataType::U64)),
    ("INT8", Datatype::Native(DataType::I8)),
    ("INT16", Datatype::Native(DataType::I16)),
    ("INT32", Datatype::Native(DataType::I32)),
    ("INT64", Datatype::Native(DataType::I64)),
    ("FP16", Datatype::Fp16),
    ("FP32", Datatype::Native(DataType::F32)),
    ("FP64", Datatype::Native(DataType::F64)),
    ("BF16", Datatype::Bf16),
    ("BYTES", Datatype::Native(DataType::String)),
];

impl Datatype {
    /// The type of that name.
    pub(super) fn of(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, datatype)| *datatype)
    }

    /// The name of a model's type.
    pub(super) fn name(data_type: DataType) -> &'static str {
        let found = NAMES
            .iter()
            .find(|(_, known)| *known == Self::Native(data_type));
        found.map_or("BYTES", |(name, _)| name)
    }

    /// All names, for a message.
    pub(super) fn names() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }

    /// What the elements are in a model.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Native(data_type) => data_type,
            Self::Fp16 | Self::Bf16 => DataType::F32,
        }
    }

    /// Bytes of one element; `None` for texts.
    pub(super) fn size(self) -> Option<usize> {
        Some(match self {
            Self::Native(DataType::Bool | DataType::U8 | DataType::I8) => 1,
            Self::Fp16 | Self::Bf16 | Self::Native(DataType::U16 | DataType::I16) => 2,
            Self::Native(DataType::U32 | DataType::I32 | DataType::F32) => 4,
            Self::Native(DataType::U64 | DataType::I64 | DataType::F64) => 8,
            Self::Native(DataType::String) => return None,
        })
    }

    /// Reads raw bytes, of which the caller has made sure that they are whole elements.
    ///
    /// # Errors
    /// What is wrong with them, when they are texts that do not end where they say, or are no UTF-8.
    pub(super) fn decode(self, raw: &[u8]) -> Result<TensorData, String> {
        Ok(match self {
            Self::Fp16 => TensorData::F32(elements(raw, |b| f16::from_le_bytes(b).to_f32())),
            Self::Bf16 => TensorData::F32(elements(raw, |b| bf16::from_le_bytes(b).to_f32())),
            Self::Native(data_type) => match data_type {
                DataType::Bool => TensorData::Bool(raw.iter().map(|byte| *byte != 0).collect()),
                DataType::U8 => TensorData::U8(raw.to_vec()),
                DataType::U16 => TensorData::U16(elements(raw, u16::from_le_bytes)),
                DataType::U32 => TensorData::U32(elements(raw, u32::from_le_bytes)),
                DataType::U64 => TensorData::U64(elements(raw, u64::from_le_bytes)),
                DataType::I8 => TensorData::I8(elements(raw, i8::from_le_bytes)),
                DataType::I16 => TensorData::I16(elements(raw, i16::from_le_bytes)),
                DataType::I32 => TensorData::I32(elements(raw, i32::from_le_bytes)),
                DataType::I64 => TensorData::I64(elements(raw, i64::from_le_bytes)),
                DataType::F32 => TensorData::F32(elements(raw, f32::from_le_bytes)),
                DataType::F64 => TensorData::F64(elements(raw, f64::from_le_bytes)),
                DataType::String => TensorData::String(texts(raw)?),
            },
        })
    }
}

fn elements<const N: usize, T>(raw: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = raw.as_chunks::<N>();
    whole.iter().map(|bytes| element(*bytes)).collect()
}

fn texts(mut raw: &[u8]) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    while !raw.is_empty() {
        let (length, rest) = raw
            .split_first_chunk()
            .ok_or("the length of its last element is cut off")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let text = rest.get(..length).ok_or_else(|| {
            format!(
                "an element claims {length} bytes and {} are left",
                rest.len()
            )
        })?;
        let text = std::str::from_utf8(text)
            .map_err(|_| "an element is no UTF-8, and models here take texts")?;
        texts.push(text.to_owned());
        raw = rest.get(length..).unwrap_or_default();
    }
    Ok(texts)
}

/// Appends the raw bytes of a tensor's elements.
pub(super) fn encode(raw: &mut Vec<u8>, data: &TensorData) {
    fn all<const N: usize, T: Copy>(raw: &mut Vec<u8>, values: &[T], bytes: fn(T) -> [u8; N]) {
        raw.extend(values.iter().flat_map(|value| bytes(*value)));
    }
    match data {
        TensorData::Bool(values) => raw.extend(values.iter().map(|value| u8::from(*value))),
        TensorData::U8(values) => raw.extend_from_slice(values),
        TensorData::U16(values) => all(raw, values, u16::to_le_bytes),
        TensorData::U32(values) => all(raw, values, u32::to_le_bytes),
        TensorData::U64(values) => all(raw, values, u64::to_le_bytes),
        TensorData::I8(values) => all(raw, values, i8::to_le_bytes),
        TensorData::I16(values) => all(raw, values, i16::to_le_bytes),
        TensorData::I32(values) => all(raw, values, i32::to_le_bytes),
        TensorData::I64(values) => all(raw, values, i64::to_le_bytes),
        TensorData::F32(values) => all(raw, values, f32::to_le_bytes),
        TensorData::F64(values) => all(raw, values, f64::to_le_bytes),
        TensorData::String(values) => {
            for text in values {
                // A text of 4 GiB is beyond every limit on bodies and answers.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                raw.extend_from_slice(&length.to_le_bytes());
                raw.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for data in [
            TensorData::Bool(vec![true, false]),
            TensorData::U8(vec![0, 255]),
            TensorData::U16(vec![1, u16::MAX]),
            TensorData::U32(vec![1, u32::MAX]),
            TensorData::U64(vec![1, u64::MAX]),
            TensorData::I8(vec![-1, 127]),
            TensorData::I16(vec![-2, 3]),
            TensorData::I32(vec![i32::MIN, 3]),
            TensorData::I64(vec![i64::MIN, 3]),
            TensorData::F32(vec![0.1, f32::INFINITY]),
            TensorData::F64(vec![0.1, -0.0]),
            TensorData::String(vec![String::new(), "größer".into()]),
        ] {
            let mut raw = Vec::new();
            encode(&mut raw, &data);
            let datatype = Datatype::of(Datatype::name(data.data_type())).unwrap();
            assert_eq!(datatype.decode(&raw), Ok(data.clone()));
            if let Some(size) = datatype.size() {
                assert_eq!(raw.len(), size * 2, "{data:?}");
            }
        }
    }

    #[test]
    fn numbers_of_16_bits_widen_exactly() {
        let half = [0x00, 0x3c, 0x01, 0x00, 0x00, 0xfc];
        let wide = TensorData::F32(vec![1.0, 2.0_f32.powi(-24), f32::NEG_INFINITY]);
        assert_eq!(Datatype::Fp16.decode(&half), Ok(wide));
        let wide = TensorData::F32(vec![1.0, -2.5]);
        assert_eq!(Datatype::Bf16.decode(&[0x80, 0x3f, 0x20, 0xc0]), Ok(wide));
    }

    #[test]
    fn texts_that_do_not_end_where_they_say_are_refused() {
        let texts = Datatype::Native(DataType::String);
        for raw in [
            &[1, 0, 0][..],
            &[2, 0, 0, 0, b'a'],
            &[0xff, 0xff, 0xff, 0xff, b'a'],
            &[1, 0, 0, 0, 0xff],
        ] {
            assert!(texts.decode(raw).is_err(), "{raw:?}");
        }
    }
}
