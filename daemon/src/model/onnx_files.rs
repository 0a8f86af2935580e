//! Which files an ONNX model keeps beside itself: the external data of its tensors.
//!
//! A scanner over the protobuf wire format that looks at nothing but the fields that can name a
//! file. It owns no meaning of the model: that is the engines' part. It never panics on hostile
//! bytes, never recurses deeper than [`DEPTH`], and allocates only the names it finds.
//!
//! ```text
//! ModelProto.graph = 7, .functions = 25         FunctionProto.node = 7
//! GraphProto.node = 1, .initializer = 5, .sparse_initializer = 15
//! NodeProto.attribute = 5
//! AttributeProto.t = 5, .g = 6, .tensors = 10, .graphs = 11, .sparse_tensor = 22, .sparse_tensors = 23
//! SparseTensorProto.values = 1, .indices = 2
//! TensorProto.external_data = 13, .data_location = 14 (1: external)
//! StringStringEntryProto.key = 1, .value = 2
//! ```

use std::collections::BTreeSet;

/// Graphs within graphs: more than this is no real model.
const DEPTH: usize = 32;

/// The bytes are not a protobuf message of an ONNX model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ONNX model: damaged at byte {at} of a message")]
pub struct ScanOnnxError {
    /// Where in the innermost message.
    pub at: usize,
}

/// The `location` of every external tensor, as written in the model.
///
/// # Errors
/// [`ScanOnnxError`] when the bytes are not an ONNX model.
pub(super) fn external_locations(model: &[u8]) -> Result<BTreeSet<String>, ScanOnnxError> {
    let mut found = BTreeSet::new();
    scan(Message::Model, model, DEPTH, &mut found)?;
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    ExternalData,
}

impl Message {
    /// What the field of that number holds, where it matters.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Function, 7) | (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Self::Tensor
            }
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Node, 5) => Self::Attribute,
            (Self::Tensor, 13) => Self::ExternalData,
            _ => return None,
        })
    }
}

fn scan(
    message: Message,
    bytes: &[u8],
    depth: usize,
    found: &mut BTreeSet<String>,
) -> Result<(), ScanOnnxError> {
    let mut wire = Wire { bytes, at: 0 };
    let (mut key, mut value) = (None, None);
    while let Some((number, content)) = wire.next()? {
        if message == Message::ExternalData {
            match number {
                1 => key = content,
                2 => value = content,
                _ => {}
            }
        } else if let (Some(inner), Some(content)) = (message.field(number), content) {
            let depth = depth.checked_sub(1).ok_or(ScanOnnxError { at: wire.at })?;
            scan(inner, content, depth, found)?;
        }
    }
    if key == Some(b"location") {
        let location = value.unwrap_or_default();
        let location = std::str::from_utf8(location).map_err(|_| ScanOnnxError { at: 0 })?;
        found.insert(location.to_owned());
    }
    Ok(())
}

/// A reader of one message's fields.
struct Wire<'m> {
    bytes: &'m [u8],
    at: usize,
}

/// A field's number, and its bytes when it is of the length-delimited kind.
type Field<'m> = (u64, Option<&'m [u8]>);

impl<'m> Wire<'m> {
    fn next(&mut self) -> Result<Option<Field<'m>>, ScanOnnxError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => {
                self.take(8)?;
                None
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.damaged())?;
                Some(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                None
            }
            _ => return Err(self.damaged()),
        };
        Ok(Some((tag >> 3, content)))
    }

    fn damaged(&self) -> ScanOnnxError {
        ScanOnnxError { at: self.at }
    }

    fn take(&mut self, length: usize) -> Result<&'m [u8], ScanOnnxError> {
        let end = self.at.checked_add(length).ok_or_else(|| self.damaged())?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.damaged())?;
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ScanOnnxError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else {
                return Err(self.damaged());
            };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }
}

#[cfg(test)]
pub(super) mod tests;
