//! One tensor as a flat list of values in JSON, both ways: what the protocols of tensors send.

use std::fmt;

use edgeward_kernels::tensor::{DataType, Tensor, TensorData};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::ScoreError;
use super::cell::{self, Cell};
use super::render;

/// Reads a list of values, nested in any way, in the order in which they stand. `name` is the tensor's,
/// for the message.
///
/// # Errors
/// [`ScoreError::Refused`] when it is no list, or holds what does not fit the type. Null is NaN, and
/// nothing in other types.
pub fn read_values(name: &str, data_type: DataType, json: &[u8]) -> Result<TensorData, ScoreError> {
    let mut values = Values {
        data: TensorData::empty(data_type),
        refused: None,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = List(&mut values).deserialize(&mut reader);
    match (values.refused, read) {
        (Some(mismatch), _) => Err(ScoreError::bad_request(format!(
            "input {name:?} must hold {}, got {}",
            mismatch.expected, mismatch.got
        ))),
        (None, Err(error)) => Err(ScoreError::bad_request(format!(
            "data of input {name:?} is not a list of values: {error}"
        ))),
        (None, Ok(())) => Ok(values.data),
    }
}

/// Writes the elements of a tensor as one list, whatever its shape.
pub fn write_values(body: &mut Vec<u8>, tensor: &Tensor) {
    render::write_flat(body, tensor);
}

struct Values {
    data: TensorData,
    refused: Option<cell::Mismatch>,
}

impl Values {
    fn push<E: serde::de::Error>(&mut self, cell: &Cell<'_>) -> Result<(), E> {
        let data_type = self.data.data_type();
        let pushed = if *cell == Cell::Null && !data_type.is_float() {
            Err(cell.mismatch(data_type.as_str()))
        } else {
            cell::push(&mut self.data, cell)
        };
        pushed.map_err(|mismatch| {
            self.refused = Some(mismatch);
            E::custom("refused")
        })
    }
}

/// A list, whose elements are values or lists.
struct List<'v>(&'v mut Values);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

/// A value, or a list of them.
struct Element<'v>(&'v mut Values);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<(), A::Error> {
        List(self.0).visit_seq(elements)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.push(&Cell::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.push(&Cell::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.push(&Cell::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.push(&Cell::whole(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.push(&Cell::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push(&Cell::Text(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_their_order_however_they_are_nested() {
        for json in [
            "[1, 2, 3, null]",
            "[[1, 2], [3, null]]",
            "[[[1]], 2, [3, null]]",
        ] {
            let read = read_values("x", DataType::F32, json.as_bytes()).unwrap();
            let TensorData::F32(read) = read else {
                panic!("{read:?}")
            };
            assert_eq!(read[..3], [1.0, 2.0, 3.0]);
            assert!(read[3].is_nan());
        }
        let read = read_values("x", DataType::String, br#"["a", ["b"]]"#).unwrap();
        assert_eq!(read, TensorData::String(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (data_type, json, message) in [
            (DataType::I32, "[1.5]", "input \"x\" must hold"),
            (DataType::U8, "[256]", "input \"x\" must hold"),
            (DataType::I64, "[null]", "input \"x\" must hold"),
            (DataType::F32, "[\"1\"]", "input \"x\" must hold"),
            (DataType::String, "[1]", "input \"x\" must hold"),
            (DataType::F32, "1", "data of input \"x\" is not a list"),
            (DataType::F32, "{}", "data of input \"x\" is not a list"),
            (DataType::F32, "[{}]", "data of input \"x\" is not a list"),
        ] {
            let refused = read_values("x", data_type, json.as_bytes()).unwrap_err();
            assert!(
                refused.to_string().starts_with(message),
                "{json}: {refused}"
            );
        }
    }

    #[test]
    fn a_tensor_is_written_as_one_list() {
        let data = TensorData::F32(vec![0.1, f32::NAN, 3.0, 1e-8]);
        let mut body = Vec::new();
        write_values(&mut body, &Tensor::new(vec![2, 2], data).unwrap());
        assert_eq!(String::from_utf8(body).unwrap(), "[0.1,null,3.0,1e-8]");
    }
}
