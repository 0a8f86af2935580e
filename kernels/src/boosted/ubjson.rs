//! Reads UBJSON, the binary form in which `XGBoost` writes its models, through serde.
//!
//! The file comes from outside: lengths are checked against the bytes that are left before anything
//! is allocated, nesting is bounded, and nothing panics.
//!
//! ```text
//! value   Z null | T true | F false | i I l L U u m M integers | d D floats | S string | [ array | { object
//! array   [ value ... ]       [ # count value ...       [ $ marker # count payload ...
//! object  { key value ... }   { # count key value ...   { $ marker # count key payload ...
//! key     length text; a length and a count are integers with their marker; all big-endian
//! ```

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// Values within values: real models have about ten.
const DEPTH: usize = 64;

/// Why bytes are not the UBJSON that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadUbjsonError {
    /// The bytes end within a value.
    #[error("bytes end at {at}")]
    End {
        /// Where.
        at: usize,
    },
    /// A byte that begins nothing.
    #[error("byte {marker:#04x} at {at} is no marker of UBJSON")]
    Marker {
        /// The byte.
        marker: u8,
        /// Where.
        at: usize,
    },
    /// A length or count that is negative or larger than what is left.
    #[error("length at {at} is larger than the file")]
    Length {
        /// Where.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("text at {at} is not UTF-8")]
    Text {
        /// Where.
        at: usize,
    },
    /// Nested deeper than any real model.
    #[error("more than {DEPTH} values within values")]
    Depth,
    /// Bytes behind the value.
    #[error("more bytes follow at {at}")]
    Trailing {
        /// Where.
        at: usize,
    },
    /// The values are not those that a model has.
    #[error("{0}")]
    Shape(String),
}

impl de::Error for ReadUbjsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Shape(message.to_string())
    }
}

/// Reads one value that takes up all the bytes.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadUbjsonError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        depth: 0,
    };
    let value = T::deserialize(Value {
        reader: &mut reader,
        marker: None,
    })?;
    if reader.at == bytes.len() {
        Ok(value)
    } else {
        Err(ReadUbjsonError::Trailing { at: reader.at })
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    depth: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], ReadUbjsonError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(ReadUbjsonError::End { at: self.at })?;
        self.at += length;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ReadUbjsonError> {
        let at = self.at;
        <[u8; N]>::try_from(self.take(N)?).map_err(|_| ReadUbjsonError::End { at })
    }

    fn byte(&mut self) -> Result<u8, ReadUbjsonError> {
        let [byte] = self.fixed()?;
        Ok(byte)
    }

    /// The next marker; fillers are passed over.
    fn marker(&mut self) -> Result<u8, ReadUbjsonError> {
        loop {
            let marker = self.byte()?;
            if marker != b'N' {
                return Ok(marker);
            }
        }
    }

    /// Whether the next byte is this one; it is then taken.
    fn follows(&mut self, wanted: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&wanted);
        self.at += usize::from(there);
        there
    }

    /// A length or count with its marker.
    fn length(&mut self) -> Result<usize, ReadUbjsonError> {
        let at = self.at;
        let marker = self.marker()?;
        let length = match self.number(marker)? {
            Number::Signed(length) => usize::try_from(length).ok(),
            Number::Unsigned(length) => usize::try_from(length).ok(),
            Number::Float(_) => None,
        };
        length
            .filter(|length| *length <= self.bytes.len())
            .ok_or(ReadUbjsonError::Length { at })
    }

    fn text(&mut self) -> Result<&'b str, ReadUbjsonError> {
        let length = self.length()?;
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|_| ReadUbjsonError::Text { at })
    }

    fn number(&mut self, marker: u8) -> Result<Number, ReadUbjsonError> {
        Ok(match marker {
            b'i' => Number::Signed(i8::from_be_bytes(self.fixed()?).into()),
            b'I' => Number::Signed(i16::from_be_bytes(self.fixed()?).into()),
            b'l' => Number::Signed(i32::from_be_bytes(self.fixed()?).into()),
            b'L' => Number::Signed(i64::from_be_bytes(self.fixed()?)),
            b'U' => Number::Unsigned(u8::from_be_bytes(self.fixed()?).into()),
            b'u' => Number::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            b'm' => Number::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            b'M' => Number::Unsigned(u64::from_be_bytes(self.fixed()?)),
            b'd' => Number::Float(f32::from_be_bytes(self.fixed()?).into()),
            b'D' => Number::Float(f64::from_be_bytes(self.fixed()?)),
            _ => {
                return Err(ReadUbjsonError::Marker {
                    marker,
                    at: self.at.saturating_sub(1),
                });
            }
        })
    }

    /// What stands behind the bracket that opens a container.
    fn container(&mut self) -> Result<Container, ReadUbjsonError> {
        let marker = if self.follows(b'$') {
            Some(self.byte()?)
        } else {
            None
        };
        let count = if self.follows(b'#') {
            Some(self.length()?)
        } else {
            None
        };
        match (marker, count) {
            // Elements without a byte of their own would let a few bytes ask for any number of them.
            (Some(marker @ (b'Z' | b'T' | b'F' | b'N')), _) => Err(ReadUbjsonError::Marker {
                marker,
                at: self.at,
            }),
            (Some(_), None) => Err(ReadUbjsonError::Length { at: self.at }),
            (marker, count) => Ok(Container {
                marker,
                left: count,
            }),
        }
    }
}

enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

struct Container {
    /// The marker of all elements, where it stands once.
    marker: Option<u8>,
    /// How many elements are left, where that is known.
    left: Option<usize>,
}

impl Container {
    /// Whether another element follows.
    fn another(&mut self, reader: &mut Reader<'_>, end: u8) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => {
                while reader.follows(b'N') {}
                !reader.follows(end)
            }
        }
    }
}

/// A value, whose marker may have been read before.
struct Value<'r, 'b> {
    reader: &'r mut Reader<'b>,
    marker: Option<u8>,
}

impl<'r, 'b> Value<'r, 'b> {
    /// Visits a container one level deeper.
    fn nested<T>(
        reader: &'r mut Reader<'b>,
        visit: impl FnOnce(&mut Reader<'b>, Container) -> Result<T, ReadUbjsonError>,
    ) -> Result<T, ReadUbjsonError> {
        reader.depth += 1;
        if reader.depth > DEPTH {
            return Err(ReadUbjsonError::Depth);
        }
        let container = reader.container()?;
        let visited = visit(reader, container)?;
        reader.depth -= 1;
        Ok(visited)
    }
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = ReadUbjsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadUbjsonError> {
        let marker = match self.marker {
            Some(marker) => marker,
            None => self.reader.marker()?,
        };
        match marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'S' => visitor.visit_borrowed_str(self.reader.text()?),
            b'[' => Self::nested(self.reader, |reader, container| {
                visitor.visit_seq(Elements {
                    reader,
                    container,
                    end: b']',
                })
            }),
            b'{' => Self::nested(self.reader, |reader, container| {
                visitor.visit_map(Elements {
                    reader,
                    container,
                    end: b'}',
                })
            }),
            marker => match self.reader.number(marker)? {
                Number::Signed(value) => visitor.visit_i64(value),
                Number::Unsigned(value) => visitor.visit_u64(value),
                Number::Float(value) => visitor.visit_f64(value),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadUbjsonError> {
        let marker = match self.marker {
            Some(marker) => marker,
            None => self.reader.marker()?,
        };
        if marker == b'Z' {
            return visitor.visit_none();
        }
        visitor.visit_some(Value {
            reader: self.reader,
            marker: Some(marker),
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The elements of an array, or the entries of an object.
struct Elements<'r, 'b> {
    reader: &'r mut Reader<'b>,
    container: Container,
    end: u8,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = ReadUbjsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadUbjsonError> {
        if !self.container.another(self.reader, self.end) {
            return Ok(None);
        }
        seed.deserialize(Value {
            reader: self.reader,
            marker: self.container.marker,
        })
        .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.container.left
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = ReadUbjsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadUbjsonError> {
        if !self.container.another(self.reader, self.end) {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ReadUbjsonError> {
        seed.deserialize(Value {
            reader: self.reader,
            marker: self.container.marker,
        })
    }
}

#[cfg(test)]
mod tests;
