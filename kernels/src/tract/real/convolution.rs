//! Convolutions of images of `f32`, with constant filters.
//!
//! ```text
//! image    [batch, channels, height, width], or channels last    filters  [outputs, channels, height, width]
//! bias     [outputs], or none
//! ```

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, DimLike, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::super::image::channels::{channels_last, first, image_of, last};
use super::super::image::geometry::{ADDED, Geometry, Window};
use super::super::operator::room;
use super::{Build, Operator, Port, bounds};
use crate::float::Bounds;
use crate::float::depthwise::Filters as Depthwise;
use crate::float::product::Weights;
use crate::team::{fill, threads};

/// A pixel of fewer channels is too short a run of numbers: whole rows of the filter are multiplied.
const FEW: usize = 16;

/// A convolution and the activation behind it.
#[derive(Debug)]
pub(super) struct Convolution {
    geometry: Geometry,
    groups: usize,
    channels_last: bool,
    bounds: Bounds,
    bias: bool,
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
    /// One product, of images with their padding laid out: a row of the filter is one tap.
    Lines(Weights),
    /// Each channel for itself.
    Depthwise(Depthwise),
}

impl Build for Convolution {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            geometry: Geometry::read(node)?,
            groups: node.get_attr_opt("group")?.unwrap_or(1),
            channels_last: channels_last(node)?,
            bounds: bounds(node)?,
            bias: node.input.len() > 2,
            filters: None,
        })
    }
}

impl Filters {
    fn new(
        tensor: &Tensor,
        bias: Option<&Tensor>,
        groups: usize,
        geometry: &Geometry,
    ) -> TractResult<Self> {
        let [count, channels, kernel @ ..] = tensor.shape() else {
            bail!("filters of {} axes", tensor.rank())
        };
        let (count, channels) = (*count, *channels);
        ensure!(channels > 0, "filters of no channels");
        ensure!(
            groups > 0 && count.is_multiple_of(groups),
            "{count} filters in {groups} groups"
        );
        let numbers = tensor.try_as_plain_ram()?;
        let numbers = numbers.as_slice::<f32>()?;
        let bias = bias.map(Tensor::try_as_plain_ram).transpose()?;
        let bias = bias
            .as_ref()
            .map(|bias| bias.as_slice::<f32>())
            .transpose()?;
        ensure!(
            bias.is_none_or(|bias| bias.len() == count),
            "a bias that is not one for each of {count} filters"
        );
        let taps = kernel.iter().product::<usize>();
        let number = |filter: usize, channel: usize, tap: usize| {
            let at = (filter * channels + channel) * taps + tap;
            numbers.get(at).copied().unwrap_or_default()
        };
        let way = if channels == 1 && groups == count && groups > 1 {
            let weight = |tap, channel| number(channel, 0, tap);
            Way::Depthwise(Depthwise::new((taps, count), weight, bias))
        } else if groups == 1 && channels < FEW && taps > 1 && geometry.is_dense(kernel.len()) {
            let width = kernel.last().copied().unwrap_or(1);
            let weight = |row: usize, at: usize, filter: usize| {
                number(filter, at % channels, row * width + at / channels)
            };
            Way::Lines(Weights::pack(
                (taps / width, width * channels, count),
                weight,
                bias,
            ))
        } else {
            let columns = count / groups;
            let of_group = |group: usize| {
                let first = group * columns;
                let weight = |tap, channel, column| number(first + column, channel, tap);
                let bias = bias.and_then(|bias| bias.get(first..first + columns));
                Weights::pack((taps, channels, columns), weight, bias)
            };
            Way::Product((0..groups).map(of_group).collect())
        };
        Ok(Self {
            count,
            channels,
            kernel: kernel.into(),
            way,
        })
    }
}

impl Operator for Convolution {
    const NAME: &'static str = "convolution";

    fn inputs(&self) -> usize {
        match self.filters {
            Some(_) => 1,
            None => 2 + usize::from(self.bias),
        }
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = inputs.first().context("no image")?;
        ensure!(
            *datum_type == DatumType::F32,
            "a convolution of {datum_type:?} with filters of f32"
        );
        let (batch, channels, image) = image_of(shape, self.channels_last)?;
        let (count, depth, kernel): (usize, usize, TVec<usize>) = match &self.filters {
            Some(filters) => (filters.count, filters.channels, filters.kernel.clone()),
            None => {
                let (_, shape) = inputs.get(1).context("no filters")?;
                let extents = shape.iter().map(|extent| Ok(extent.to_usize()?));
                match &*extents.collect::<TractResult<TVec<usize>>>()? {
                    [count, depth, kernel @ ..] => (*count, *depth, kernel.into()),
                    _ => bail!("filters of {} axes", shape.len()),
                }
            }
        };
        if let Ok(channels) = channels.to_usize() {
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
            shape.push(count.into());
        } else {
            shape.push(count.into());
            shape.extend(image);
        }
        Ok(tvec![(DatumType::F32, shape)])
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let [_, Some(filters), bias @ ..] = constants else {
            return Ok(None);
        };
        let bias = match bias {
            [] => None,
            [Some(bias)] => Some(&**bias),
            _ => return Ok(None),
        };
        let prepared = Self {
            geometry: self.geometry.clone(),
            filters: Some(Arc::new(Filters::new(
                filters,
                bias,
                self.groups,
                &self.geometry,
            )?)),
            ..*self
        };
        Ok(Some((prepared, tvec![0])))
    }

    fn held(&self) -> u64 {
        self.filters
            .as_ref()
            .map_or(0, |filters| match &filters.way {
                Way::Product(groups) => groups.iter().map(Weights::bytes).sum(),
                Way::Lines(weights) => weights.bytes(),
                Way::Depthwise(filters) => filters.bytes(),
            })
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let images = *inputs.first().context("no image")?;
        let filters = match (&self.filters, inputs) {
            (Some(filters), _) => Arc::clone(filters),
            (None, [_, filters, bias @ ..]) => {
                let bias = bias.first().copied();
                Arc::new(Filters::new(filters, bias, self.groups, &self.geometry)?)
            }
            (None, _) => bail!("no filters"),
        };
        let (batch, channels, image) = image_of(images.shape(), self.channels_last)?;
        ensure!(
            *channels == filters.channels * self.groups,
            "filters of {} channels in {} groups over {channels}",
            filters.channels,
            self.groups
        );
        let window = self.geometry.window(image, &filters.kernel)?;
        let mut shape = tvec![*batch];
        shape.extend(self.geometry.output(image, &filters.kernel)?);
        shape.push(filters.count);
        let mut output = room(DatumType::F32, &shape)?;
        let turned;
        let given = if self.channels_last {
            images
        } else {
            turned = last(images)?;
            &turned
        };
        let given = given.try_as_plain_ram()?;
        let mut room = output.try_as_plain_ram_mut()?;
        let call = Call {
            filters: &filters,
            window: &window,
            channels: *channels,
            bounds: self.bounds,
        };
        call.run(given.as_slice::<f32>()?, room.as_slice_mut::<f32>()?);
        let output = if self.channels_last {
            output
        } else {
            first(&output)?
        };
        Ok(tvec![output])
    }
}

/// One call.
struct Call<'a> {
    filters: &'a Filters,
    window: &'a Window,
    /// Channels of the image.
    channels: usize,
    bounds: Bounds,
}

impl Call<'_> {
    /// Convolves images with their channels last.
    fn run(&self, images: &[f32], output: &mut [f32]) {
        if let (Way::Product(groups), true) = (&self.filters.way, self.window.is_one_pixel())
            && let [weights] = groups.as_slice()
        {
            // Pixels are rows of a matrix, whatever image they are of.
            weights.multiply_matrix(images, self.bounds, output, self.filters.count);
            return;
        }
        match &self.filters.way {
            Way::Product(groups) => self.product(self.window, groups, images, output),
            Way::Lines(weights) => {
                let padded = self.window.pad(images, self.channels, 0.0);
                let (window, weights) = (self.window.lines(), std::slice::from_ref(weights));
                self.product(&window, weights, &padded, output);
            }
            Way::Depthwise(filters) => self.depthwise(filters, images, output),
        }
    }

    fn product(&self, window: &Window, groups: &[Weights], images: &[f32], output: &mut [f32]) {
        let [height, width] = window.image;
        let count = images.len() / (height * width * self.channels).max(1);
        let filters = self.filters;
        let block = |rows| groups.iter().map(|weights| weights.block(rows)).min();
        let block = |rows| block(rows).unwrap_or(1);
        let output = (output, filters.count);
        window.blocks(
            (count, self.channels),
            block,
            output,
            |begin, places, numbers| {
                for (group, weights) in groups.iter().enumerate() {
                    let image = images.get(begin + group * filters.channels..);
                    let numbers = numbers.get_mut(group * weights.columns()..);
                    let (Some(image), Some(numbers)) = (image, numbers) else {
                        return;
                    };
                    weights.multiply(image, places, self.bounds, numbers, filters.count);
                }
            },
        );
    }

    fn depthwise(&self, filters: &Depthwise, images: &[f32], output: &mut [f32]) {
        let ([height, width], [_, columns]) = (self.window.image, self.window.output);
        let even = self.window.inner_columns();
        let of_image = height * width * self.channels;
        let count = images.len() / of_image.max(1);
        // One that is much larger with its padding is not for the nearest cache, and whole images are
        // shared among threads only where there are enough.
        let is_small = self.window.padded(self.channels) <= 2 * of_image;
        if count >= threads() && is_small && filters.is_quicker_even(even.len(), columns) {
            self.depthwise_of_padded(filters, images, output);
            return;
        }
        let (of_channels, output) = ((count, self.channels), (output, self.channels));
        self.window
            .rows(of_channels, output, |begin, places, line| {
                let image = images.get(begin..).unwrap_or_default();
                filters.convolve(image, (places, even.clone()), self.bounds, line);
            });
    }

    /// Lays out one image after the other with its padding, in the nearest cache.
    fn depthwise_of_padded(&self, filters: &Depthwise, images: &[f32], output: &mut [f32]) {
        let (window, channels) = (self.window.laid_out(), self.channels);
        let ([rows, columns], [stride, _]) = (window.output, window.strides);
        let ([height, width], [_, line]) = (self.window.image, window.image);
        // No row sees padding: each has the places of the first, further down.
        let mut places = Vec::new();
        window.places(0..columns, channels, &mut places);
        let (of_image, of_row) = (height * width * channels, columns * channels);
        let of_output = (rows * of_row).max(1);
        let takes = output.len() * window.taps() / ADDED;
        fill(output, of_output, takes, |at, output| {
            let mut padded = vec![0.0; self.window.padded(channels)];
            let images = images.get(at / of_output * of_image..).unwrap_or_default();
            let images = images.chunks_exact(of_image.max(1));
            for (image, output) in images.zip(output.chunks_exact_mut(of_output)) {
                self.window.frame(image, channels, &mut padded);
                let lines = output.chunks_exact_mut(of_row.max(1)).enumerate();
                for (row, output) in lines {
                    let begin = row * stride * line * channels;
                    let image = padded.get(begin..).unwrap_or_default();
                    filters.convolve(image, (&places, 0..columns), self.bounds, output);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
