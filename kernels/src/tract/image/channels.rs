//! Where an image's channels lie: before its extents, as ONNX has them, or behind, as quantised
//! convolutions compute. Whoever computes with them behind says so in an attribute of its node, which
//! only `fuse` writes.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    Datum, DatumType, TVec, Tensor, TractResult, bail, ensure, tvec,
};

use super::super::operator::{Build, Operator, Port, only, only_tensor, room};
use crate::int8::layout::transpose;

/// The attribute that says that channels come last.
pub(in crate::tract) const CHANNELS_LAST: &str = "channels_last";

/// Whether a node's images have their channels last.
pub(in crate::tract) fn channels_last(node: &NodeProto) -> TractResult<bool> {
    Ok(node.get_attr_opt::<i64>(CHANNELS_LAST)?.unwrap_or(0) == 1)
}

/// Batch, channels and extents of images.
pub(in crate::tract) fn image_of<D>(
    shape: &[D],
    channels_last: bool,
) -> TractResult<(&D, &D, &[D])> {
    match shape {
        [batch, image @ .., channels] if channels_last => Ok((batch, channels, image)),
        [batch, channels, image @ ..] => Ok((batch, channels, image)),
        _ => bail!("an image of {} axes", shape.len()),
    }
}

/// Images whose channels come first, with their channels last.
pub(in crate::tract) fn last(images: &Tensor) -> TractResult<Tensor> {
    let (batch, channels, image) = image_of(images.shape(), false)?;
    let mut shape: TVec<usize> = tvec![*batch];
    shape.extend(image.iter().copied());
    shape.push(*channels);
    turn(images, *channels, image.iter().product(), &shape)
}

/// Images whose channels come last, with their channels first.
pub(in crate::tract) fn first(images: &Tensor) -> TractResult<Tensor> {
    let (batch, channels, image) = image_of(images.shape(), true)?;
    let mut shape: TVec<usize> = tvec![*batch, *channels];
    shape.extend(image.iter().copied());
    turn(images, image.iter().product(), *channels, &shape)
}

fn turn(images: &Tensor, rows: usize, columns: usize, shape: &[usize]) -> TractResult<Tensor> {
    let mut turned = room(images.datum_type(), shape)?;
    let size = (rows * columns).max(1);
    match images.datum_type() {
        DatumType::I8 | DatumType::U8 => {
            let to = turned.as_bytes_mut().chunks_mut(size);
            for (from, to) in images.as_bytes().chunks(size).zip(to) {
                transpose(from, rows, columns, to);
            }
        }
        DatumType::F32 => numbers::<f32>(images, (rows, columns), &mut turned)?,
        DatumType::I32 => numbers::<i32>(images, (rows, columns), &mut turned)?,
        other => bail!("images of {other:?}"),
    }
    Ok(turned)
}

fn numbers<T: Datum + Copy>(
    from: &Tensor,
    (rows, columns): (usize, usize),
    to: &mut Tensor,
) -> TractResult<()> {
    let size = (rows * columns).max(1);
    let from = from.try_as_plain_ram()?;
    let mut to = to.try_as_plain_ram_mut()?;
    let to = to.as_slice_mut::<T>()?.chunks_mut(size);
    for (from, to) in from.as_slice::<T>()?.chunks(size).zip(to) {
        transpose(from, rows, columns, to);
    }
    Ok(())
}

/// Moves channels: to the end with `LAST`, else to the front.
#[derive(Debug)]
pub(in crate::tract) struct Channels<const LAST: bool>;

impl<const LAST: bool> Build for Channels<LAST> {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl<const LAST: bool> Operator for Channels<LAST> {
    const NAME: &'static str = "channels";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(
            datum_type.is_number() && *datum_type != DatumType::TDim,
            "images of {datum_type:?}"
        );
        let (batch, channels, image) = image_of(shape, !LAST)?;
        let mut turned = tvec![batch.clone()];
        if !LAST {
            turned.push(channels.clone());
        }
        turned.extend(image.iter().cloned());
        if LAST {
            turned.push(channels.clone());
        }
        Ok(tvec![(*datum_type, turned)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let images = only_tensor(Self::NAME, inputs)?;
        Ok(tvec![if LAST { last(images)? } else { first(images)? }])
    }
}
