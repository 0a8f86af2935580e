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
            let value =
                value.ok_or_else(|| OutlineError(format!("field {tag} has another type")))?;
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

fn text(value: &[u8], name: &str) -> Result<String, OutlineError> {
    let text = std::str::from_utf8(value);
    text.map(str::to_owned)
        .map_err(|_| OutlineError(format!("{name} is no UTF-8")))
}

/// The fields of a message, one after the other.
struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    /// The number of the next field, and its bytes when it is of the kind that has a length.
    #[expect(clippy::type_complexity, reason = "a name would say no more")]
    fn next(&mut self) -> Result<Option<(u32, Option<&'m [u8]>)>, OutlineError> {
        let broken = |error: prost::DecodeError| OutlineError(error.to_string());
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire) = decode_key(&mut self.0).map_err(broken)?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut self.0).map_err(broken)?;
                return Ok(Some((tag, None)));
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => decode_varint(&mut self.0).map_err(broken)?,
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
        Ok(Some((
            tag,
            (wire == WireType::LengthDelimited).then_some(value),
        )))
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
