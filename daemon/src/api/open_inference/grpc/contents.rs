//! The typed elements of a tensor, a list for each kind.
//!
//! Read by hand, because a text of two bytes on the wire would become a value of thirty: here it
//! becomes its raw form, which is what [`Datatype`] reads anyway.

use bytes::{Buf, BufMut};
use edgeward_kernels::tensor::{DataType, TensorData};
use prost::encoding::{self, DecodeContext, WireType, encode_key, encode_varint};
use prost::{DecodeError, Message};
use serde::{Serialize, Serializer};

use super::super::datatype::Datatype;

/// The elements of a tensor. At most one list has any.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    bools: Vec<bool>,
    ints: Vec<i32>,
    longs: Vec<i64>,
    uints: Vec<u32>,
    ulongs: Vec<u64>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    /// Each text as its length, four bytes, and its bytes.
    texts: Vec<u8>,
}

/// The number of the texts in the message.
const TEXTS: u32 = 8;

impl Message for Contents {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::bool::encode_packed(1, &self.bools, buf);
        encoding::int32::encode_packed(2, &self.ints, buf);
        encoding::int64::encode_packed(3, &self.longs, buf);
        encoding::uint32::encode_packed(4, &self.uints, buf);
        encoding::uint64::encode_packed(5, &self.ulongs, buf);
        encoding::float::encode_packed(6, &self.floats, buf);
        encoding::double::encode_packed(7, &self.doubles, buf);
        for text in self.texts() {
            encode_key(TEXTS, WireType::LengthDelimited, buf);
            encode_varint(u64::try_from(text.len()).unwrap_or(u64::MAX), buf);
            buf.put_slice(text);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::bool::merge_repeated(wire_type, &mut self.bools, buf, ctx),
            2 => encoding::int32::merge_repeated(wire_type, &mut self.ints, buf, ctx),
            3 => encoding::int64::merge_repeated(wire_type, &mut self.longs, buf, ctx),
            4 => encoding::uint32::merge_repeated(wire_type, &mut self.uints, buf, ctx),
            5 => encoding::uint64::merge_repeated(wire_type, &mut self.ulongs, buf, ctx),
            6 => encoding::float::merge_repeated(wire_type, &mut self.floats, buf, ctx),
            7 => encoding::double::merge_repeated(wire_type, &mut self.doubles, buf, ctx),
            TEXTS => {
                // `merge` compares the length with what is there before it takes anything.
                let mut text = bytes::Bytes::new();
                encoding::bytes::merge(wire_type, &mut text, buf, ctx)?;
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                self.texts.put_u32_le(length);
                self.texts.put_slice(&text);
                Ok(())
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let texts = self.texts().map(|text| {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            encoding::key_len(TEXTS) + encoding::encoded_len_varint(length) + text.len()
        });
        encoding::bool::encoded_len_packed(1, &self.bools)
            + encoding::int32::encoded_len_packed(2, &self.ints)
            + encoding::int64::encoded_len_packed(3, &self.longs)
            + encoding::uint32::encoded_len_packed(4, &self.uints)
            + encoding::uint64::encoded_len_packed(5, &self.ulongs)
            + encoding::float::encoded_len_packed(6, &self.floats)
            + encoding::double::encoded_len_packed(7, &self.doubles)
            + texts.sum::<usize>()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Contents {
    /// Whether no list has any.
    pub(super) fn is_empty(&self) -> bool {
        self.filled().is_empty()
    }

    /// The names of the lists that have any.
    fn filled(&self) -> Vec<&'static str> {
        let lists = [
            ("bool_contents", self.bools.is_empty()),
            ("int_contents", self.ints.is_empty()),
            ("int64_contents", self.longs.is_empty()),
            ("uint_contents", self.uints.is_empty()),
            ("uint64_contents", self.ulongs.is_empty()),
            ("fp32_contents", self.floats.is_empty()),
            ("fp64_contents", self.doubles.is_empty()),
            ("bytes_contents", self.texts.is_empty()),
        ];
        let filled = lists.iter().filter(|(_, empty)| !empty);
        filled.map(|(name, _)| *name).collect()
    }

    /// The elements as a model has them.
    ///
    /// # Errors
    /// What is wrong with them: another list than the type's, a number beyond the type, a text that is
    /// no UTF-8, or a type that has no list.
    pub(super) fn data(self, datatype: Datatype) -> Result<TensorData, String> {
        let Datatype::Native(data_type) = datatype else {
            return Err(
                "has a type of 16 bits, which has no list in contents: send it in \
                        raw_input_contents"
                    .to_owned(),
            );
        };
        let list = match data_type {
            DataType::Bool => "bool_contents",
            DataType::I8 | DataType::I16 | DataType::I32 => "int_contents",
            DataType::I64 => "int64_contents",
            DataType::U8 | DataType::U16 | DataType::U32 => "uint_contents",
            DataType::U64 => "uint64_contents",
            DataType::F32 => "fp32_contents",
            DataType::F64 => "fp64_contents",
            DataType::String => "bytes_contents",
        };
        let filled = self.filled();
        if filled.iter().any(|name| *name != list) {
            return Err(format!(
                "has {}; {} stands in {list} alone",
                filled.join(" and "),
                Datatype::name(data_type)
            ));
        }
        Ok(match data_type {
            DataType::Bool => TensorData::Bool(self.bools),
            DataType::I8 => TensorData::I8(narrow(&self.ints, data_type)?),
            DataType::I16 => TensorData::I16(narrow(&self.ints, data_type)?),
            DataType::I32 => TensorData::I32(self.ints),
            DataType::I64 => TensorData::I64(self.longs),
            DataType::U8 => TensorData::U8(narrow(&self.uints, data_type)?),
            DataType::U16 => TensorData::U16(narrow(&self.uints, data_type)?),
            DataType::U32 => TensorData::U32(self.uints),
            DataType::U64 => TensorData::U64(self.ulongs),
            DataType::F32 => TensorData::F32(self.floats),
            DataType::F64 => TensorData::F64(self.doubles),
            DataType::String => datatype.decode(&self.texts)?,
        })
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.texts.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (text, after) = after.split_at_checked(length)?;
            rest = after;
            Some(text)
        })
    }
}

fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(
    wide: &[W],
    data_type: DataType,
) -> Result<Vec<N>, String> {
    let narrow = |number: &W| {
        N::try_from(*number)
            .map_err(|_| format!("has {number}, which is no {}", Datatype::name(data_type)))
    };
    wide.iter().map(narrow).collect()
}

/// As the row of the request shows them: one flat list.
impl Serialize for Contents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.filled().first().copied().unwrap_or_default() {
            "bool_contents" => self.bools.serialize(serializer),
            "int_contents" => self.ints.serialize(serializer),
            "int64_contents" => self.longs.serialize(serializer),
            "uint_contents" => self.uints.serialize(serializer),
            "uint64_contents" => self.ulongs.serialize(serializer),
            "fp32_contents" => self.floats.serialize(serializer),
            "fp64_contents" => self.doubles.serialize(serializer),
            _ => serializer.collect_seq(self.texts().map(String::from_utf8_lossy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [(Contents, &'static str, TensorData); 8] {
        let of = |fill: fn(&mut Contents)| {
            let mut contents = Contents::default();
            fill(&mut contents);
            contents
        };
        let text = |c: &mut Contents| c.texts = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xc3\xb6".to_vec();
        [
            (
                of(|c| c.bools = vec![true, false]),
                "BOOL",
                TensorData::Bool(vec![true, false]),
            ),
            (
                of(|c| c.ints = vec![-1, 7]),
                "INT8",
                TensorData::I8(vec![-1, 7]),
            ),
            (
                of(|c| c.longs = vec![i64::MIN]),
                "INT64",
                TensorData::I64(vec![i64::MIN]),
            ),
            (
                of(|c| c.uints = vec![65_535]),
                "UINT16",
                TensorData::U16(vec![65_535]),
            ),
            (
                of(|c| c.ulongs = vec![u64::MAX]),
                "UINT64",
                TensorData::U64(vec![u64::MAX]),
            ),
            (
                of(|c| c.floats = vec![0.5]),
                "FP32",
                TensorData::F32(vec![0.5]),
            ),
            (
                of(|c| c.doubles = vec![0.1]),
                "FP64",
                TensorData::F64(vec![0.1]),
            ),
            (
                of(text),
                "BYTES",
                TensorData::String(vec!["a".into(), String::new(), "ö".into()]),
            ),
        ]
    }

    #[test]
    fn every_list_travels_and_becomes_its_elements() {
        for (contents, datatype, data) in sample() {
            let wire = contents.encode_to_vec();
            assert_eq!(wire.len(), contents.encoded_len());
            assert_eq!(Contents::decode(&wire[..]).unwrap(), contents);
            let datatype = Datatype::of(datatype).unwrap();
            assert_eq!(contents.data(datatype), Ok(data));
        }
    }

    #[test]
    fn elements_of_another_type_are_refused() {
        let refuse = |contents: &Contents, datatype: &str| {
            let datatype = Datatype::of(datatype).unwrap();
            contents.clone().data(datatype).unwrap_err()
        };
        let [bools, ints, ..] = sample().map(|(contents, ..)| contents);
        assert!(refuse(&bools, "FP32").contains("has bool_contents; FP32 stands in fp32_contents"));
        assert!(refuse(&ints, "BF16").contains("raw_input_contents"));
        assert!(refuse(&ints, "UINT8").contains("uint_contents alone"));
        let both = Contents {
            bools: vec![true],
            ..ints
        };
        assert!(refuse(&both, "INT8").contains("bool_contents and int_contents"));
        let wide = Contents {
            ints: vec![128],
            ..Contents::default()
        };
        assert!(refuse(&wide, "INT8").contains("has 128, which is no INT8"));
    }

    #[test]
    fn a_length_beyond_the_message_is_refused_before_it_is_reserved() {
        for wire in [
            &b"\x42\xff\xff\xff\xff\x07a"[..],
            b"\x0a\xff\xff\xff\xff\x07\x01",
            b"\x42",
        ] {
            Contents::decode(wire).unwrap_err();
        }
    }
}
