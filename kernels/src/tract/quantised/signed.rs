//! Bytes of a tensor as signed numbers, and as unsigned ones.

use std::borrow::Cow;

use tract_onnx::tract_hir::internal::{DatumType, Tensor, TractResult};

use super::parameters::encoding;

/// The elements of a tensor of `int8`, or of `uint8` less 128.
pub(super) fn signed(tensor: &Tensor) -> TractResult<Cow<'_, [i8]>> {
    let flip = encoding("a quantised operator", tensor.datum_type())?.flip();
    if tensor.datum_type() == DatumType::I8 {
        return Ok(Cow::Borrowed(tensor.try_as_plain_ram()?.as_slice::<i8>()?));
    }
    let bytes = tensor.as_bytes().iter();
    Ok(Cow::Owned(
        bytes.map(|byte| (byte ^ flip).cast_signed()).collect(),
    ))
}

/// The elements of a tensor of `uint8`, or of `int8` and 128 more.
pub(super) fn unsigned(tensor: &Tensor) -> TractResult<Cow<'_, [u8]>> {
    encoding("a quantised operator", tensor.datum_type())?;
    let bytes = tensor.as_bytes();
    if tensor.datum_type() == DatumType::U8 {
        return Ok(Cow::Borrowed(bytes));
    }
    Ok(Cow::Owned(bytes.iter().map(|byte| byte ^ 0x80).collect()))
}
