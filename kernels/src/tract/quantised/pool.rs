//! Pools over quantised images: `QLinearAveragePool`, `QLinearGlobalAveragePool`, and what `fuse` makes
//! of average and maximum pools between `DequantizeLinear` and `QuantizeLinear`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TDim, TVec, Tensor, TractResult, ensure, tvec};

use super::super::image::channels::{channels_last, first, image_of, last};
use super::super::image::geometry::{Geometry, Window};
use super::super::operator::room;
use super::parameters::{Inputs, Role, encoding};
use super::signed::signed;
use super::{Build, Operator, Port};
use crate::int8::linear::{Linear, quantise};
use crate::int8::pool::{self, Windows};

const ROLES: [Role; 5] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::YScale,
    Role::YZero,
];

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
    inputs: Inputs,
    pooling: Pooling,
    geometry: Geometry,
    /// The extents of the window; `None` for the whole image.
    kernel: Option<TVec<usize>>,
    channels_last: bool,
}

impl Build for Pool {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let global = node.op_type.contains("Global");
        let padded = node.get_attr_opt::<i64>("count_include_pad")?.unwrap_or(0) == 1;
        let ceil = node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) == 1;
        ensure!(
            !(padded && ceil),
            "{} with count_include_pad and ceil_mode is not supported",
            node.op_type
        );
        Ok(Self {
            inputs: Inputs::of(node, &ROLES)?,
            pooling: if node.op_type.contains("Max") {
                Pooling::Most
            } else {
                Pooling::Mean { padded }
            },
            geometry: Geometry::read(node)?,
            kernel: if global {
                None
            } else {
                Some(node.get_attr_tvec("kernel_shape")?)
            },
            channels_last: channels_last(node)?,
        })
    }
}

impl Pool {
    fn output_type(kind: DatumType, zero: Option<DatumType>) -> TractResult<DatumType> {
        let output = zero.unwrap_or(kind);
        encoding(Self::NAME, output)?;
        Ok(output)
    }

    /// The window, where `image` is of these extents.
    fn window(&self, image: &[usize]) -> TractResult<Window> {
        match &self.kernel {
            Some(kernel) => self.geometry.window(image, kernel),
            None => {
                let all = [image.iter().product()];
                self.geometry.window(&all, &all)
            }
        }
    }
}

impl Operator for Pool {
    const NAME: &'static str = "quantised pool";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (kind, shape) = self.inputs.port(inputs, Role::A)?;
        encoding(Self::NAME, *kind)?;
        let zero = self.inputs.find(inputs, Role::YZero);
        let output = Self::output_type(*kind, zero.map(|(datum_type, _)| *datum_type))?;
        let (batch, channels, image) = image_of(shape, self.channels_last)?;
        let image: TVec<TDim> = match &self.kernel {
            Some(kernel) => self.geometry.output(image, kernel)?,
            None => tvec![1.into(); image.len()],
        };
        let mut shape = tvec![batch.clone()];
        if !self.channels_last {
            shape.push(channels.clone());
        }
        shape.extend(image);
        if self.channels_last {
            shape.push(channels.clone());
        }
        Ok(tvec![(output, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let images = self.inputs.need(inputs, Role::A)?;
        let (batch, channels, image) = image_of(images.shape(), self.channels_last)?;
        let (batch, channels) = (*batch, *channels);
        ensure!(
            image.iter().all(|extent| *extent > 0),
            "a pool over no pixels"
        );
        let window = self.window(image)?;
        let zero = self.inputs.find(inputs, Role::YZero);
        let output_type =
            Self::output_type(images.datum_type(), zero.map(|zero| zero.datum_type()))?;
        let mut shape = tvec![batch];
        match &self.kernel {
            Some(kernel) => shape.extend(self.geometry.output(image, kernel)?),
            None => shape.extend(std::iter::repeat_n(1, image.len())),
        }
        shape.push(channels);
        let turned;
        let images = if self.channels_last {
            images
        } else {
            turned = last(images)?;
            &turned
        };
        let mut output = room(output_type, &shape)?;
        match self.means(inputs, images.datum_type(), output_type)? {
            None => most(images, &window, channels, &mut output)?,
            Some(means) => means.of(images, &window, channels, &mut output)?,
        }
        let output = if self.channels_last {
            output
        } else {
            first(&output)?
        };
        Ok(tvec![output])
    }
}

/// Writes the largest number under each window, channel by channel.
fn most(images: &Tensor, window: &Window, channels: usize, output: &mut Tensor) -> TractResult<()> {
    let encoding = encoding(Pool::NAME, images.datum_type())?;
    let bytes = images.as_bytes();
    let [height, width] = window.image;
    let count = bytes.len() / (height * width * channels).max(1);
    let output = (output.as_bytes_mut(), channels);
    window.rows((count, channels), output, |begin, places, into| {
        let windows = Windows {
            image: bytes.get(begin..).unwrap_or_default(),
            encoding,
            channels,
            places,
            taps: window.taps(),
        };
        pool::most(windows, into);
    });
    Ok(())
}

/// How means are made.
#[derive(Debug)]
struct Means {
    padded: bool,
    from: Linear,
    to: Linear,
    /// The mean is over the whole image.
    whole: bool,
}

impl Pool {
    /// How means are made; `None` where the pool takes the largest.
    fn means(
        &self,
        inputs: &[&Tensor],
        from: DatumType,
        to: DatumType,
    ) -> TractResult<Option<Means>> {
        let Pooling::Mean { padded } = self.pooling else {
            ensure!(
                !self.inputs.has(Role::AScale),
                "a pool of the largest takes no scales"
            );
            return Ok(None);
        };
        Ok(Some(Means {
            padded,
            from: self
                .inputs
                .linear(inputs, Role::AScale, Role::AZero, from)?,
            to: self.inputs.linear(inputs, Role::YScale, Role::YZero, to)?,
            whole: self.kernel.is_none(),
        }))
    }
}

impl Means {
    /// Writes the mean of each window, channel by channel.
    fn of(
        &self,
        images: &Tensor,
        window: &Window,
        channels: usize,
        output: &mut Tensor,
    ) -> TractResult<()> {
        let [height, width] = window.image;
        let [rows, columns] = window.output;
        let size = (rows * columns * channels).max(1);
        let numbers = signed(images)?;
        let images = numbers.chunks((height * width * channels).max(1));
        for (image, into) in images.zip(output.as_bytes_mut().chunks_mut(size)) {
            let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
            for (place, into) in places.zip(into.chunks_mut(channels.max(1))) {
                let pixels = window.pixels(place).flatten();
                let pixels =
                    pixels.filter_map(|pixel| image.get(pixel * channels..(pixel + 1) * channels));
                self.write(pixels, window.taps(), into);
            }
        }
        Ok(())
    }

    /// Writes the mean of `pixels`, channel by channel.
    ///
    /// Means of few bytes lie half-way between two steps very often, and what they are rounded to
    /// hangs on the last bit. So a window is added up in real numbers, one pixel after the other, as
    /// the file says and onnxruntime does; a whole image is added up exactly, as onnxruntime does.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of bytes over an image are far below 2^24 steps"
    )]
    fn write<'a>(&self, pixels: impl Iterator<Item = &'a [i8]>, taps: usize, into: &mut [u8]) {
        let mut means = vec![0.0_f32; into.len()];
        let zero = self.from.zero - 128 - self.from.encoding.least();
        let step = if self.whole { 1.0 } else { self.from.scale };
        let mut count = 0_usize;
        for pixel in pixels {
            count += 1;
            for (mean, number) in means.iter_mut().zip(pixel) {
                *mean += (i32::from(*number) - zero) as f32 * step;
            }
        }
        let count = if self.padded { taps } else { count.max(1) } as f32;
        if self.whole {
            let ratio = self.from.scale / (self.to.scale * count);
            let in_steps = Linear {
                scale: 1.0,
                ..self.to
            };
            means.iter_mut().for_each(|mean| *mean *= ratio);
            quantise(&means, in_steps, into);
        } else {
            means.iter_mut().for_each(|mean| *mean /= count);
            quantise(&means, self.to, into);
        }
    }
}
