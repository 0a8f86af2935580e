//! Pools over images of `f32`: the largest or the mean of the pixels in a window.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, ensure, tvec};

use super::super::image::channels::{channels_last, first, image_of, last};
use super::super::image::geometry::Geometry;
use super::super::operator::{only, only_tensor, room};
use super::{Build, Operator, Port};
use crate::float::pool::{self, Windows};

/// What is taken of the pixels in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Most,
    /// The mean; padding counts as 0 where it is `padded`.
    Mean {
        padded: bool,
    },
}

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pooling: Pooling,
    geometry: Geometry,
    /// The extents of the window; `None` for the whole image.
    kernel: Option<TVec<usize>>,
    channels_last: bool,
}

impl Build for Pool {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let padded = node.get_attr_opt::<i64>("count_include_pad")?.unwrap_or(0) == 1;
        let ceil = node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) == 1;
        ensure!(
            !(padded && ceil),
            "{} with count_include_pad and ceil_mode is not supported",
            node.op_type
        );
        Ok(Self {
            pooling: if node.op_type.contains("Max") {
                Pooling::Most
            } else {
                Pooling::Mean { padded }
            },
            geometry: Geometry::read(node)?,
            kernel: if node.op_type.contains("Global") {
                None
            } else {
                Some(node.get_attr_tvec("kernel_shape")?)
            },
            channels_last: channels_last(node)?,
        })
    }
}

impl Operator for Pool {
    const NAME: &'static str = "pool";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(*datum_type == DatumType::F32, "a pool of {datum_type:?}");
        let (batch, channels, image) = image_of(shape, self.channels_last)?;
        let image = match &self.kernel {
            Some(kernel) => self.geometry.output(image, kernel)?,
            None => image.iter().map(|_| 1.into()).collect(),
        };
        let mut shape = tvec![batch.clone()];
        if !self.channels_last {
            shape.push(channels.clone());
        }
        shape.extend(image);
        if self.channels_last {
            shape.push(channels.clone());
        }
        Ok(tvec![(DatumType::F32, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let images = only_tensor(Self::NAME, inputs)?;
        if !self.channels_last {
            return Ok(tvec![first(&self.pooled(&last(images)?)?)?]);
        }
        Ok(tvec![self.pooled(images)?])
    }
}

impl Pool {
    /// Pools images with their channels last.
    fn pooled(&self, images: &Tensor) -> TractResult<Tensor> {
        let (batch, channels, image) = image_of(images.shape(), true)?;
        let (window, extents) = match &self.kernel {
            Some(kernel) => (
                self.geometry.window(image, kernel)?,
                self.geometry.output(image, kernel)?,
            ),
            None => {
                // Pixels are of one line: a window as long as that takes in all of them.
                let all = [image.iter().product()];
                let ones = image.iter().map(|_| 1).collect();
                (self.geometry.window(&all, &all)?, ones)
            }
        };
        let mut shape = tvec![*batch];
        shape.extend(extents);
        shape.push(*channels);
        let mut output = room(DatumType::F32, &shape)?;
        let given = images.try_as_plain_ram()?;
        let given = given.as_slice::<f32>()?;
        let mut room = output.try_as_plain_ram_mut()?;
        let room = room.as_slice_mut::<f32>()?;
        let channels = *channels;
        window.rows(
            (*batch, channels),
            (room, channels),
            |begin, places, into| {
                let windows = Windows {
                    image: given.get(begin..).unwrap_or_default(),
                    channels,
                    places,
                    taps: window.taps(),
                };
                match self.pooling {
                    Pooling::Most => pool::most(windows, into),
                    Pooling::Mean { padded } => pool::mean(windows, padded, into),
                }
            },
        );
        Ok(output)
    }
}
