//! What a `ModelInferRequest` asks for and how much of everything it has, before it is decoded.
//!
//! The model's name decides what the message is for, and decoding a long message is for the compute
//! threads. An empty input takes two bytes on the wire and two hundred in memory, so the parts are
//! counted first and a message with more than its model takes is never decoded.

use edgeward_kernels::tensor::TensorSpec;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::model::ScoreError;

/// Fields that are looked at on the request's own thread: some twenty microseconds' worth.
pub(super) const QUICK_FIELDS: usize = 4096;

/// Parameters of a request and its tensors together. None but `classification` is known.
const MOST_PARAMETERS: usize = 256;

/// The longest name of a model or a version: an endpoint's has no more.
const MOST_NAME_BYTES: usize = 255;

/// Extents of one shape. One takes a byte on the wire and eight in memory.
const MOST_EXTENTS: usize = 64;

/// The fields of a request, by number.
const MODEL: u32 = 1;
const VERSION: u32 = 2;
const ID: u32 = 3;
const PARAMETERS: u32 = 4;
const INPUTS: u32 = 5;
const OUTPUTS: u32 = 6;
const RAW: u32 = 7;

/// Where the parameters of an input and of an output stand in it.
const PARAMETERS_OF_INPUT: u32 = 4;
const PARAMETERS_OF_OUTPUT: u32 = 2;

/// Where the shape and the typed contents of an input stand in it.
const SHAPE: u32 = 3;
const CONTENTS: u32 = 5;

/// The lists of typed contents, by number: those of four and of eight bytes an element, and that of
/// texts. The others are numbers of any length.
const FLOATS: u32 = 6;
const DOUBLES: u32 = 7;
const TEXTS: u32 = 8;

/// A message that is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is no ModelInferRequest: {0}")]
pub(super) struct OutlineError(String);

impl From<OutlineError> for ScoreError {
    fn from(error: OutlineError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// What a request asks for, and how much it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) model: String,
    pub(super) version: String,
    inputs: usize,
    outputs: usize,
    raw: usize,
    parameters: usize,
}

/// A message was not looked at whole.
pub(super) struct TooMany;

impl Outline {
    /// Looks at a message, at no more than `most` fields of it.
    ///
    /// # Errors
    /// [`OutlineError`] when it is no request.
    pub(super) fn of(message: &[u8], most: usize) -> Result<Result<Self, TooMany>, OutlineError> {
        let mut outline = Self::default();
        let mut left = most;
        let mut fields = Fields(message);
        while let Some((tag, value)) = fields.next()? {
            let Some(fewer) = left.checked_sub(1) else {
                return Ok(Err(TooMany));
            };
            left = fewer;
            let Value::Bytes(value) = value else {
                return Err(OutlineError(format!("field {tag} has another type")));
            };
            let within = match tag {
                MODEL => {
                    outline.model = text(value, "model_name")?;
                    continue;
                }
                VERSION => {
                    outline.version = text(value, "model_version")?;
                    continue;
                }
                ID => continue,
                PARAMETERS => {
                    outline.parameters += 1;
                    continue;
                }
                INPUTS => {
                    outline.inputs += 1;
                    PARAMETERS_OF_INPUT
                }
                OUTPUTS => {
                    outline.outputs += 1;
                    PARAMETERS_OF_OUTPUT
                }
                RAW => {
                    outline.raw += 1;
                    continue;
                }
                _ => return Err(OutlineError(format!("it has a field {tag}"))),
            };
            let mut parts = Fields(value);
            while let Some((tag, _)) = parts.next()? {
                let Some(fewer) = left.checked_sub(1) else {
                    return Ok(Err(TooMany));
                };
                left = fewer;
                outline.parameters += usize::from(tag == within);
            }
        }
        Ok(Ok(outline))
    }

    /// Makes sure that a message has no more than its model takes.
    ///
    /// # Errors
    /// [`ScoreError::Refused`].
    pub(super) fn check(
        &self,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<(), ScoreError> {
        for (what, given, most) in [
            ("inputs", self.inputs, inputs.len()),
            ("raw_input_contents", self.raw, inputs.len()),
            ("outputs", self.outputs, outputs.len()),
            ("parameters", self.parameters, MOST_PARAMETERS),
        ] {
            if given > most {
                return Err(ScoreError::bad_request(format!(
                    "the request has {given} {what}, {most} is the most that the model takes"
                )));
            }
        }
        Ok(())
    }
}

/// Makes sure that each input has no more typed elements than its shape says, before they are decoded
/// to up to eight times their bytes.
///
/// # Errors
/// [`OutlineError`].
pub(super) fn measure(message: &[u8]) -> Result<(), OutlineError> {
    let mut fields = Fields(message);
    while let Some((tag, value)) = fields.next()? {
        if let (INPUTS, Value::Bytes(input)) = (tag, value) {
            measure_input(input)?;
        }
    }
    Ok(())
}

fn measure_input(input: &[u8]) -> Result<(), OutlineError> {
    let (mut extents, mut product, mut elements) = (0_usize, 1_u64, 0_u64);
    let mut take = |extent: u64| {
        extents += 1;
        // One below zero is refused with the shape.
        product = product.saturating_mul(extent);
        if extents > MOST_EXTENTS {
            let problem = format!("a shape has more than {MOST_EXTENTS} extents");
            return Err(OutlineError(problem));
        }
        Ok(())
    };
    let mut parts = Fields(input);
    while let Some((tag, value)) = parts.next()? {
        match (tag, value) {
            (SHAPE, Value::Number(extent)) => take(extent)?,
            (SHAPE, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    take(decode_varint(&mut packed).map_err(|error| broken(&error))?)?;
                }
            }
            (CONTENTS, Value::Bytes(contents)) => elements += elements_of(contents)?,
            _ => {}
        }
    }
    if elements > product {
        return Err(OutlineError(format!(
            "an input has {elements} elements in its contents, and its shape takes {product}"
        )));
    }
    Ok(())
}

/// The elements of all lists.
fn elements_of(contents: &[u8]) -> Result<u64, OutlineError> {
    let mut elements = 0;
    let mut lists = Fields(contents);
    while let Some((tag, value)) = lists.next()? {
        let more = match (tag, value) {
            (TEXTS, _) | (_, Value::Number(_) | Value::Fixed) => 1,
            (FLOATS, Value::Bytes(list)) => list.len() / 4,
            (DOUBLES, Value::Bytes(list)) => list.len() / 8,
            // The last byte of each number is below 128.
            (_, Value::Bytes(list)) => list.iter().filter(|byte| byte.is_ascii()).count(),
        };
        elements += u64::try_from(more).unwrap_or(u64::MAX);
    }
    Ok(elements)
}

fn text(value: &[u8], name: &str) -> Result<String, OutlineError> {
    if value.len() > MOST_NAME_BYTES {
        return Err(OutlineError(format!(
            "{name} has {} bytes, {MOST_NAME_BYTES} is the most",
            value.len()
        )));
    }
    let text = std::str::from_utf8(value);
    text.map(str::to_owned)
        .map_err(|_| OutlineError(format!("{name} is no UTF-8")))
}

fn broken(error: &prost::DecodeError) -> OutlineError {
    OutlineError(error.to_string())
}

/// What stands in a field.
enum Value<'m> {
    Number(u64),
    /// Four or eight bytes.
    Fixed,
    Bytes(&'m [u8]),
}

/// The fields of a message, one after the other.
struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    /// The number of the next field, and what stands in it.
    fn next(&mut self) -> Result<Option<(u32, Value<'m>)>, OutlineError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire) = decode_key(&mut self.0).map_err(|error| broken(&error))?;
        let length = match wire {
            WireType::Varint => {
                let number = decode_varint(&mut self.0).map_err(|error| broken(&error))?;
                return Ok(Some((tag, Value::Number(number))));
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                decode_varint(&mut self.0).map_err(|error| broken(&error))?
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(OutlineError(format!("field {tag} is a group")));
            }
        };
        let split = usize::try_from(length).ok();
        let split = split.and_then(|length| self.0.split_at_checked(length));
        let (value, rest) = split.ok_or_else(|| {
            OutlineError(format!(
                "field {tag} claims {length} bytes, and {} are left",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        let value = match wire {
            WireType::LengthDelimited => Value::Bytes(value),
            _ => Value::Fixed,
        };
        Ok(Some((tag, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_without_being_decoded() {
        let message = b"\x0a\x01m\x12\x013\x2a\x00\x2a\x04\x22\x02\x0a\x00\x3a\x02xy\x32\x00";
        let outline = Outline::of(message, 100).unwrap().ok().unwrap();
        let expected = Outline {
            model: "m".to_owned(),
            version: "3".to_owned(),
            inputs: 2,
            outputs: 1,
            raw: 1,
            parameters: 1,
        };
        assert_eq!(outline, expected);
        assert!(Outline::of(message, 3).unwrap().is_err());
        let error = outline.check(&[], &[]).unwrap_err().to_string();
        assert!(error.contains("2 inputs, 0 is the most"), "{error}");
    }

    #[test]
    fn a_long_name_is_refused_by_its_length() {
        for (tag, name) in [(0x0a, "model_name"), (0x12, "model_version")] {
            let mut good = vec![tag, 0xff, 1];
            good.resize(3 + 255, b'm');
            assert!(Outline::of(&good, 9).unwrap().is_ok(), "{name}");
            // One more, which is no UTF-8 either: its length comes first.
            let mut long = vec![tag, 0x80, 2];
            long.resize(3 + 256, 0xff);
            let error = Outline::of(&long, 9).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("256 bytes, 255 is the most"), "{error}");
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn elements_beyond_the_shape_are_refused_before_they_are_decoded() {
        // Each an input: its shape, and a list with one element too many for it.
        for (input, why) in [
            (
                &b"\x1a\x01\x02\x2a\x05\x1a\x03\x01\x02\x03"[..],
                "3 elements",
            ),
            (b"\x18\x02\x2a\x06\x18\x01\x18\x01\x18\x01", "3 elements"),
            (
                b"\x1a\x01\x01\x2a\x07\x1a\x05\xff\x01\xff\x01\x01",
                "3 elements",
            ),
            (
                b"\x1a\x01\x01\x2a\x0a\x32\x08\0\0\0\0\0\0\0\0",
                "2 elements",
            ),
            (
                b"\x1a\x01\x00\x2a\x0a\x3a\x08\0\0\0\0\0\0\0\0",
                "1 elements",
            ),
            (b"\x1a\x01\x01\x2a\x04\x42\x00\x42\x00", "2 elements"),
            (
                &[&[0x1a, 65][..], &[1; 65]].concat(),
                "more than 64 extents",
            ),
        ] {
            let length = u8::try_from(input.len()).unwrap();
            let message = [&[0x2a, length][..], input].concat();
            let error = measure(&message).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        measure(b"\x2a\x0a\x1a\x01\x03\x2a\x05\x1a\x03\x01\x02\x03").unwrap();
        // Raw contents stand elsewhere, and whatever the shape says of them is looked at with the model.
        measure(b"\x2a\x0c\x1a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").unwrap();
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (message, why) in [
            (
                &b"\x0a\xff\xff\xff\xff\x0f"[..],
                "claims 4294967295 bytes, and 0 are left",
            ),
            (b"\x0a", "invalid varint"),
            (b"\x0a\x01\xff", "model_name is no UTF-8"),
            (b"\x08\x01", "field 1 has another type"),
            (b"\x42\x00", "it has a field 8"),
            (b"\x0b", "is a group"),
            (
                b"\x2a\x02\x0a\x05",
                "field 1 claims 5 bytes, and 0 are left",
            ),
        ] {
            let error = Outline::of(message, 100)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
