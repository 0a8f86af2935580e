//! Convolutions of quantised images: `ConvInteger`, `QLinearConv`, and what `fuse` makes of a `Conv`
//! between `DequantizeLinear` and `QuantizeLinear`.
//!
//! ```text
//! image    [batch, channels, height, width], or channels last    filters  [outputs, channels, height, width]
//! ```
//!
//! An image is computed with its channels last, and turned over before and after where it is given
//! otherwise. A filter for each channel alone has a loop of its own; all else is a product of
//! matrices, a row for each place of the output (`patches`).

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DimLike, TDim, TVec, Tensor, TractResult, bail, ensure, tvec,
};

use super::super::image::channels::{channels_last, first, image_of, last};
use super::super::image::geometry::{Geometry, Window};
use super::finish::{Ending, Finish, Leaving};
use super::parameters::{Inputs, Role, encoding};
use super::product::Weights;
use super::signed::{signed, unsigned};
use super::{Build, Operator, Port};
#[cfg(feature = "wgpu")]
use super::{Quantised, Taps};
use crate::int8::depthwise::{Line, convolve};
use crate::int8::product::Weights as Ours;
use crate::int8::requantise::straighten;
use crate::int8::sums::with_sums;
use crate::team::pieces;

mod patches;

use patches::Patches;

/// Images of fewer channels are multiplied a whole row of the filter at a time.
const FEW: usize = 16;

/// A convolution. The `REFERENCE` adds up one product after the other.
#[derive(Debug)]
pub(super) struct Convolution<const REFERENCE: bool> {
    inputs: Inputs,
    finish: Finish,
    geometry: Geometry,
    groups: usize,
    channels_last: bool,
    /// The filters, where they never change.
    filters: Option<Arc<Filters>>,
}

/// Filters, packed.
#[derive(Debug)]
struct Filters {
    /// How many there are: channels of the output.
    count: usize,
    /// Channels that one of them reads.
    channels: usize,
    /// Their extents.
    kernel: TVec<usize>,
    way: Way,
}

/// How a convolution is computed.
#[derive(Debug)]
enum Way {
    /// One product for each group.
    Product(Vec<Weights>),
    /// Each channel for itself: weights less their zero points, `count` for each tap.
    Depthwise(Vec<i32>),
    /// One after the other: weights less their zero points, as ONNX lays them out.
    Plain(Vec<i32>),
}

/// How unsigned images are computed with.
#[derive(Debug)]
enum InPlace<'a> {
    /// The weights of each group.
    Product(Vec<&'a Ours>),
    /// The weights of each tap.
    Depthwise(&'a [i32]),
}

const INTEGER: [Role; 4] = [Role::A, Role::B, Role::AZero, Role::BZero];
const LINEAR: [Role; 9] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::B,
    Role::BScale,
    Role::BZero,
    Role::YScale,
    Role::YZero,
    Role::Bias,
];

impl<const REFERENCE: bool> Build for Convolution<REFERENCE> {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let roles: &[Role] = match node.op_type.as_str() {
            "ConvInteger" => &INTEGER,
            _ => &LINEAR,
        };
        Ok(Self {
            inputs: Inputs::of(node, roles)?,
            finish: Finish::read(node)?,
            geometry: Geometry::read(node)?,
            groups: node.get_attr_opt("group")?.unwrap_or(1),
            channels_last: channels_last(node)?,
            filters: None,
        })
    }
}

#[cfg(feature = "wgpu")]
impl<const REFERENCE: bool> Convolution<REFERENCE> {
    /// What it is, where the sums themselves leave. `shapes` has the extents of its inputs.
    pub(super) fn integer(&self, shapes: &[&[usize]]) -> TractResult<Option<Quantised>> {
        let plain = self.filters.is_none() && !self.inputs.has(Role::AScale);
        let [[_, _, image @ ..], [_, _, kernel @ ..], ..] = shapes else {
            return Ok(None);
        };
        if !plain || self.channels_last || !matches!(image.len(), 1 | 2) {
            return Ok(None);
        }
        let window = self.geometry.window(image, kernel)?;
        Ok(Some(Quantised::Convolution {
            zeros: [Role::AZero, Role::BZero].map(|role| self.inputs.place(role)),
            taps: Taps {
                groups: self.groups,
                kernel: window.kernel,
                strides: window.strides,
                dilations: window.dilations,
                before: window.before,
                image: window.image,
                output: window.output,
            },
        }))
    }
}

impl Filters {
    fn new(
        inputs: &Inputs,
        given: &[&Tensor],
        (groups, geometry): (usize, &Geometry),
        reference: bool,
    ) -> TractResult<Self> {
        let tensor = inputs.need(given, Role::B)?;
        let [count, channels, kernel @ ..] = tensor.shape() else {
            bail!("filters of {} axes", tensor.rank())
        };
        let (count, channels) = (*count, *channels);
        ensure!(channels > 0, "filters of no channels");
        ensure!(
            groups > 0 && count.is_multiple_of(groups),
            "{count} filters in {groups} groups"
        );
        let encoding = encoding("a quantised convolution", tensor.datum_type())?;
        let zeros = inputs.zeros(given, Role::BZero, count)?.into_iter();
        let zeros: Vec<i32> = zeros.map(|zero| zero - 128 - encoding.least()).collect();
        let numbers = signed(tensor)?;
        let taps = kernel.iter().product::<usize>();
        let depth = taps * channels;
        let way = if reference || (channels == 1 && groups == count && groups > 1) {
            let of_filter = numbers.chunks(depth.max(1)).zip(&zeros);
            let straight: Vec<i32> = of_filter
                .flat_map(|(filter, zero)| {
                    filter.iter().map(move |number| i32::from(*number) - zero)
                })
                .collect();
            if reference {
                Way::Plain(straight)
            } else {
                let mut weights = vec![0; straight.len()];
                crate::int8::layout::transpose(&straight, count, taps, &mut weights);
                Way::Depthwise(weights)
            }
        } else {
            let mut channels_last = vec![0; numbers.len()];
            let of_filter = numbers.chunks(depth.max(1));
            for (from, to) in of_filter.zip(channels_last.chunks_mut(depth.max(1))) {
                crate::int8::layout::transpose(from, channels, taps, to);
            }
            let columns = count / groups;
            let of_group = channels_last.chunks((depth * columns).max(1));
            let of_group = of_group.zip(zeros.chunks(columns.max(1)));
            // A pixel of fewer channels is too short a run of numbers.
            let lines = groups == 1 && channels < FEW && geometry.is_dense(kernel.len());
            let width = kernel.last().copied().unwrap_or(1).max(1);
            let extents = if lines {
                (taps / width, width * channels)
            } else {
                (taps, channels)
            };
            let packed =
                of_group.map(|(filters, zeros)| Weights::pack(filters, extents, zeros.into()));
            Way::Product(packed.collect::<TractResult<_>>()?)
        };
        Ok(Self {
            count,
            channels,
            kernel: kernel.into(),
            way,
        })
    }
}

impl<const REFERENCE: bool> Operator for Convolution<REFERENCE> {
    const NAME: &'static str = "quantised convolution";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = self.inputs.port(inputs, Role::A)?;
        encoding(Self::NAME, *datum_type)?;
        let (batch, channels, image) = image_of(shape, self.channels_last)?;
        let (count, depth, kernel): (TDim, TDim, TVec<usize>) = match &self.filters {
            Some(filters) => (
                filters.count.into(),
                filters.channels.into(),
                filters.kernel.clone(),
            ),
            None => {
                let (datum_type, shape) = self.inputs.port(inputs, Role::B)?;
                encoding(Self::NAME, *datum_type)?;
                let [count, depth, kernel @ ..] = &**shape else {
                    bail!("filters of {} axes", shape.len())
                };
                let kernel = kernel.iter().map(|extent| Ok(extent.to_usize()?));
                (
                    count.clone(),
                    depth.clone(),
                    kernel.collect::<TractResult<_>>()?,
                )
            }
        };
        if let (Ok(channels), Ok(depth)) = (channels.to_usize(), depth.to_usize()) {
            ensure!(
                channels == depth * self.groups,
                "filters of {depth} channels in {} groups over {channels}",
                self.groups
            );
        }
        let image = self.geometry.output(image, &kernel)?;
        let mut shape = tvec![batch.clone()];
        if self.channels_last {
            shape.extend(image);
            shape.push(count);
        } else {
            shape.push(count);
            shape.extend(image);
        }
        Ok(tvec![(Finish::output(&self.inputs, inputs)?, shape)])
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let roles = [Role::B, Role::BZero];
        let Some((inputs, kept)) = self.inputs.absorb(constants, &roles) else {
            return Ok(None);
        };
        let none = Tensor::zero::<u8>(&[0])?;
        let given: Vec<&Tensor> = constants
            .iter()
            .map(|constant| constant.as_deref().unwrap_or(&none))
            .collect();
        let filters = Filters::new(
            &self.inputs,
            &given,
            (self.groups, &self.geometry),
            REFERENCE,
        )?;
        let prepared = Self {
            inputs,
            finish: self.finish,
            geometry: self.geometry.clone(),
            groups: self.groups,
            channels_last: self.channels_last,
            filters: Some(Arc::new(filters)),
        };
        Ok(Some((prepared, kept)))
    }

    fn held(&self) -> u64 {
        self.filters
            .as_ref()
            .map_or(0, |filters| match &filters.way {
                Way::Product(groups) => groups.iter().map(Weights::bytes).sum(),
                Way::Depthwise(weights) | Way::Plain(weights) => size_of_val(&**weights) as u64,
            })
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let images = self.inputs.need(inputs, Role::A)?;
        let filters = match &self.filters {
            Some(filters) => Arc::clone(filters),
            None => Arc::new(Filters::new(
                &self.inputs,
                inputs,
                (self.groups, &self.geometry),
                REFERENCE,
            )?),
        };
        let (batch, channels, image) = image_of(images.shape(), self.channels_last)?;
        let (batch, channels) = (*batch, *channels);
        ensure!(
            channels == filters.channels * self.groups,
            "filters of {} channels in {} groups over {channels}",
            filters.channels,
            self.groups
        );
        let window = self.geometry.window(image, &filters.kernel)?;
        let encoding = encoding(Self::NAME, images.datum_type())?;
        let zero = self.inputs.zero(inputs, Role::AZero)? - 128 - encoding.least();
        let ending = self
            .finish
            .ending(&self.inputs, inputs, filters.count, |channel| {
                filters.offset(channel, zero)
            })?;
        let mut shape = tvec![batch];
        shape.extend(self.geometry.output(image, &filters.kernel)?);
        shape.push(filters.count);
        let turned;
        let images = if self.channels_last {
            images
        } else {
            turned = last(images)?;
            &turned
        };
        let call = Call {
            filters: &filters,
            window: &window,
            groups: self.groups,
            zero,
            ending: &ending,
        };
        let output = ending.fill(&shape, |output| call.each(images, channels, output))?;
        let output = if self.channels_last {
            output
        } else {
            first(&output)?
        };
        Ok(tvec![output])
    }
}

impl Filters {
    /// How unsigned images are computed with where they lie; `None` where they are not.
    fn in_place(&self) -> Option<InPlace<'_>> {
        match &self.way {
            Way::Product(groups) => {
                let groups = groups.iter().map(Weights::ours);
                groups.collect::<Option<_>>().map(InPlace::Product)
            }
            Way::Depthwise(weights) => Some(InPlace::Depthwise(weights)),
            Way::Plain(_) => None,
        }
    }

    /// What the sums of an output channel lack where the image has the zero point `zero`.
    fn offset(&self, channel: usize, zero: i32) -> i32 {
        let Way::Product(groups) = &self.way else {
            return 0;
        };
        let columns = groups.first().map_or(1, Weights::columns).max(1);
        let group = groups.get(channel / columns);
        group.map_or(0, |group| group.offset(channel % columns, zero))
    }
}

/// One call, for each image alike.
struct Call<'a> {
    filters: &'a Filters,
    window: &'a Window,
    groups: usize,
    zero: i32,
    ending: &'a Ending,
}

impl Call<'_> {
    /// Convolves images of so many channels, which lie last.
    fn each(&self, images: &Tensor, channels: usize, output: Leaving<'_>) -> TractResult<()> {
        let [height, width] = self.window.image;
        let size = (height * width * channels).max(1);
        match self.filters.in_place() {
            Some(InPlace::Product(groups)) => self.in_place(&groups, &unsigned(images)?, output),
            Some(InPlace::Depthwise(weights)) => {
                self.depthwise(weights, &unsigned(images)?, output);
                Ok(())
            }
            None => {
                let [rows, columns] = self.window.output;
                let numbers = signed(images)?;
                let images = numbers.chunks(size);
                let of_image = rows * columns * self.filters.count;
                let outputs = pieces(output, images.clone().map(|_| of_image));
                for (image, output) in images.zip(outputs) {
                    self.run(image, output)?;
                }
                Ok(())
            }
        }
    }

    /// Convolves one image.
    fn run(&self, image: &[i8], output: Leaving<'_>) -> TractResult<()> {
        match &self.filters.way {
            Way::Product(groups) => self.product(groups, image, output),
            Way::Depthwise(_) => bail!("a depthwise convolution of signed bytes"),
            Way::Plain(weights) => {
                let sums = self.plain(weights, image);
                self.ending.write(&sums, output, self.filters.count);
                Ok(())
            }
        }
    }

    /// Convolves images of unsigned bytes where they lie.
    fn in_place(&self, groups: &[&Ours], images: &[u8], output: Leaving<'_>) -> TractResult<()> {
        let (of_group, count) = (self.filters.channels, self.filters.count);
        let channels = of_group * self.groups;
        let zero = u8::try_from(self.zero + 128)?;
        let depth = groups.first().map_or(0, |weights| weights.depth());
        let (padded, lines);
        let (images, window) = if depth == of_group {
            (images, self.window)
        } else {
            // Whole rows of the filter are multiplied.
            padded = self.window.pad(images, channels, zero);
            lines = self.window.lines();
            (&*padded, &lines)
        };
        let [height, width] = window.image;
        let batch = images.len() / (height * width * channels).max(1);
        let outside = vec![zero; depth];
        let endings = self.endings(groups.iter().map(|weights| weights.columns()));
        let block = |rows| groups.iter().map(|weights| weights.block(rows)).min();
        let block = |rows| block(rows).unwrap_or(1);
        let taps = window.taps().max(1);
        window.blocks(
            (batch, channels),
            block,
            (output, count),
            |begin, places, mut output| {
                let mut first = 0;
                for ((group, weights), ending) in groups.iter().enumerate().zip(&endings) {
                    let columns = weights.columns();
                    let image = images.get(begin + group * of_group..).unwrap_or_default();
                    with_sums(places.len() / taps * columns, |sums| {
                        weights.multiply(image, places, &outside, sums);
                        ending.write(sums, output.from(first), count);
                    });
                    first += columns;
                }
            },
        );
        Ok(())
    }

    /// What becomes of the sums of each group, of so many columns.
    fn endings(&self, columns: impl ExactSizeIterator<Item = usize>) -> Vec<Cow<'_, Ending>> {
        if columns.len() == 1 {
            return vec![Cow::Borrowed(self.ending)];
        }
        let mut first = 0;
        let part = |columns| {
            let part = self.ending.part(first, columns);
            first += columns;
            Cow::Owned(part)
        };
        columns.map(part).collect()
    }

    fn product(
        &self,
        groups: &[Weights],
        image: &[i8],
        mut output: Leaving<'_>,
    ) -> TractResult<()> {
        let (of_group, count) = (self.filters.channels, self.filters.count);
        let endings = self.endings(groups.iter().map(Weights::columns));
        let mut first = 0;
        for ((group, weights), ending) in groups.iter().enumerate().zip(&endings) {
            let columns = weights.columns();
            let mut patches = Patches::new(self.window, of_group * self.groups, self.zero);
            patches.read(group * of_group, of_group);
            let mut sums = weights.sums_for(patches.most_rows(columns))?;
            let mut at = first;
            let write = |rows: &[i8]| -> TractResult<()> {
                let done = weights.multiply(rows, &mut sums)?;
                let mut view = sums.try_as_plain_ram_mut()?;
                let values = view.as_slice_mut::<i32>()?;
                let values = values.get_mut(..done * columns).unwrap_or_default();
                if !weights.zeros().is_empty() {
                    straighten(values, rows, weights.depth(), weights.zeros());
                }
                ending.write(values, output.from(at), count);
                at += done * count;
                Ok(())
            };
            patches.each(image, columns, write)?;
            first += columns;
        }
        Ok(())
    }

    fn depthwise(&self, weights: &[i32], images: &[u8], output: Leaving<'_>) {
        let channels = self.filters.count;
        let [_, columns] = self.window.output;
        let [height, width] = self.window.image;
        let count = images.len() / (height * width * channels).max(1);
        let output = (output, channels);
        self.window
            .rows((count, channels), output, |begin, places, output| {
                let line = Line {
                    image: images.get(begin..).unwrap_or_default(),
                    channels,
                    zero: self.zero + 128,
                    weights,
                    places,
                    taps: self.window.taps(),
                };
                with_sums(columns * channels, |sums| {
                    convolve(line, sums);
                    self.ending.write(sums, output, channels);
                });
            });
    }

    /// One product after the other.
    fn plain(&self, weights: &[i32], image: &[i8]) -> Vec<i32> {
        let (channels, taps) = (self.filters.channels, self.window.taps());
        let all = channels * self.groups;
        let of_group = (self.filters.count / self.groups.max(1)).max(1);
        let [rows, columns] = self.window.output;
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
        let mut sums = Vec::with_capacity(rows * columns * self.filters.count);
        for place in places {
            let pixels: Vec<Option<usize>> = self.window.pixels(place).collect();
            for (filter, weights) in weights.chunks((channels * taps).max(1)).enumerate() {
                let first = filter / of_group * channels;
                let mut sum = 0_i32;
                for (channel, weights) in weights.chunks(taps.max(1)).enumerate() {
                    for (pixel, weight) in pixels.iter().zip(weights) {
                        let at = pixel.map(|pixel| pixel * all + first + channel);
                        if let Some(number) = at.and_then(|at| image.get(at)) {
                            sum += (i32::from(*number) - self.zero) * weight;
                        }
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests;
