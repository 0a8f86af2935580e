//! Operators that move a window over spatial axes: `LpPool`, `Col2Im`, `DeformConv`.
//!
//! Computed in `f64` and rounded to the type of the input.

use std::sync::Arc;

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DimLike as _, TDim, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure,
    tvec,
};

use super::places::{self, Window};
use super::{Build, Operator, Port};

/// The p-norm of each window.
#[derive(Debug)]
pub(super) struct LpPool {
    window: Window,
    p: f64,
    padding: Padding,
    /// Whether a window that is not whole counts.
    ceiling: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Explicit,
    /// As many outputs as strides in the input; an odd rest of the padding comes behind.
    SameUpper,
    /// The same, and an odd rest comes before.
    SameLower,
}

impl Build for LpPool {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let padding = match node.get_attr_opt::<&str>("auto_pad")? {
            None | Some("NOTSET" | "VALID") => Padding::Explicit,
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some(other) => bail!("auto_pad is {other:?}"),
        };
        Ok(Self {
            window: Window::read(node, node.get_attr_tvec("kernel_shape")?)?,
            p: f64::from(node.get_attr_opt::<i32>("p")?.unwrap_or(2)),
            padding,
            ceiling: node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) != 0,
        })
    }
}

impl LpPool {
    /// How many windows there are along each spatial axis.
    fn windows(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let rank = self.window.kernel.len();
        ensure!(
            shape.len() == rank + 2,
            "LpPool has a kernel of {rank} axes"
        );
        let mut shape: TVec<TDim> = shape.into();
        for (axis, dim) in shape.iter_mut().skip(2).enumerate() {
            let of = |list: &TVec<usize>| list.get(axis).copied().unwrap_or_default();
            let stride = of(&self.window.strides);
            *dim = if self.padding == Padding::Explicit {
                let pads = of(&self.window.pads.0) + of(&self.window.pads.1);
                let room = dim.clone() + pads - self.window.span(axis);
                let steps = if self.ceiling {
                    room.divceil(stride)
                } else {
                    room / stride
                };
                steps + 1
            } else {
                dim.clone().divceil(stride)
            };
        }
        Ok(shape)
    }

    /// The window with the padding that an input of this shape gets.
    fn padded(&self, input: &[usize], output: &[usize]) -> Window {
        let mut window = self.window.clone();
        if self.padding == Padding::Explicit {
            return window;
        }
        for (axis, (input, output)) in input.iter().zip(output).enumerate() {
            let stride = window.strides.get(axis).copied().unwrap_or(1);
            let reach = output.saturating_sub(1) * stride + window.span(axis);
            let whole = reach.saturating_sub(*input);
            let before = if self.padding == Padding::SameLower {
                whole.div_ceil(2)
            } else {
                whole / 2
            };
            if let Some(pad) = window.pads.0.get_mut(axis) {
                *pad = before;
            }
        }
        window
    }
}

impl Operator for LpPool {
    const NAME: &'static str = "LpPool";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = inputs.first().context("LpPool takes one input")?;
        ensure!(datum_type.is_float(), "LpPool takes no {datum_type:?}");
        Ok(tvec![(*datum_type, self.windows(shape)?)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = inputs.first().context("LpPool takes one input")?;
        let dims: TVec<TDim> = input.shape().iter().map(ToDim::to_dim).collect();
        let shape = self.windows(&dims)?;
        let shape = shape.iter().map(usize::try_from);
        let shape = shape.collect::<Result<TVec<usize>, _>>()?;
        let (planes, room) = spatial(input.shape())?;
        let (_, places) = spatial(&shape)?;
        let window = self.padded(room, places);
        let numbers = places::numbers(input)?;
        let plane_length: usize = room.iter().product();
        let mut norms = Vec::with_capacity(shape.iter().product());
        for plane in 0..planes {
            for place in places::indices(places) {
                let taps = places::indices(&window.kernel);
                let taps = taps.filter_map(|tap| window.source(&place, &tap, room));
                let taps = taps.map(|at| plane * plane_length + places::place(&at, room));
                let powers = taps
                    .filter_map(|at| numbers.get(at))
                    .map(|number| number.abs().powf(self.p));
                norms.push(powers.sum::<f64>().powf(1.0 / self.p));
            }
        }
        Ok(tvec![places::rounded(&norms, &shape, input)?])
    }
}

/// How many planes a tensor has, and the extents of each.
fn spatial(shape: &[usize]) -> TractResult<(usize, &[usize])> {
    match shape {
        [batch, channels, room @ ..] => Ok((batch * channels, room)),
        _ => bail!("shape {shape:?} has no channels"),
    }
}

/// Adds up the columns that windows were laid out in, where each lies in the image.
#[derive(Debug)]
pub(super) struct Col2Im {
    node: NodeProto,
}

impl Build for Col2Im {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self { node: node.clone() })
    }
}

impl Operator for Col2Im {
    const NAME: &'static str = "Col2Im";
    const INPUTS: usize = 3;

    fn parameters(&self) -> &[usize] {
        &[1, 2]
    }

    fn outputs_by(&self, inputs: &[Port], parameters: &[Arc<Tensor>]) -> TractResult<TVec<Port>> {
        let ([(datum_type, shape), ..], [image, block]) = (inputs, parameters) else {
            bail!("Col2Im takes three inputs");
        };
        let [batch, columns, _] = &**shape else {
            bail!("Col2Im takes columns of rank 3, got {shape:?}");
        };
        let block: usize = places::extents(block)?.iter().product();
        ensure!(block > 0, "the block of Col2Im is empty");
        let mut output = tvec![batch.clone(), columns.clone() / block];
        let image = places::extents(image)?;
        output.extend(image.iter().map(ToDim::to_dim));
        Ok(tvec![(*datum_type, output)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [columns, image, block] = inputs else {
            bail!("Col2Im takes three inputs");
        };
        let (image, block) = (places::extents(image)?, places::extents(block)?);
        ensure!(
            image.len() == block.len(),
            "a block has as many axes as its image"
        );
        let window = Window::read(&self.node, block.clone())?;
        let [batch, rows, blocks] = columns.shape() else {
            bail!("Col2Im takes columns of rank 3");
        };
        let taps: usize = block.iter().product();
        let mut laid = TVec::with_capacity(image.len());
        for (axis, extent) in image.iter().enumerate() {
            let of = |list: &TVec<usize>| list.get(axis).copied().unwrap_or_default();
            let room = extent + of(&window.pads.0) + of(&window.pads.1);
            let room = room.checked_sub(window.span(axis));
            laid.push(room.context("a block is larger than its image")? / of(&window.strides) + 1);
        }
        ensure!(
            laid.iter().product::<usize>() == *blocks && rows % taps == 0,
            "columns of shape {:?} are not those of the image",
            columns.shape()
        );
        let plane: usize = image.iter().product();
        let channels = rows / taps;
        let mut sums = vec![0.0; batch * channels * plane];
        let numbers = places::numbers(columns)?;
        for (row, of_row) in numbers.chunks(*(blocks.max(&1))).enumerate() {
            let tap = places::index(row % taps, &block);
            let first = row / taps * plane;
            for (number, at) in of_row.iter().zip(places::indices(&laid)) {
                if let Some(at) = window.source(&at, &tap, &image)
                    && let Some(sum) = sums.get_mut(first + places::place(&at, &image))
                {
                    *sum += number;
                }
            }
        }
        let mut shape = tvec![*batch, channels];
        shape.extend(image);
        Ok(tvec![places::rounded(&sums, &shape, columns)?])
    }
}

/// A convolution over two axes that looks for each element of its kernel where an offset says.
#[derive(Debug)]
pub(super) struct DeformConv {
    node: NodeProto,
    inputs: usize,
    bias: Option<usize>,
    mask: Option<usize>,
    groups: usize,
    offset_groups: usize,
}

impl Build for DeformConv {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let mut given = optional_inputs(node).skip(3);
        Ok(Self {
            inputs: node.input.iter().filter(|name| !name.is_empty()).count(),
            bias: given.next().flatten(),
            mask: given.next().flatten(),
            groups: node.get_attr_opt("group")?.unwrap_or(1),
            offset_groups: node.get_attr_opt("offset_group")?.unwrap_or(1),
            node: node.clone(),
        })
    }
}

/// The tensors of a `DeformConv`, flat.
struct Deformed {
    window: Window,
    image: [usize; 2],
    output: [usize; 2],
    x: Vec<f64>,
    offsets: Vec<f64>,
    mask: Option<Vec<f64>>,
}

impl Deformed {
    /// What the kernel sees: `plane` of the input at `tap`, moved by `shift`, for the output `at`.
    fn seen(&self, plane: usize, moved: usize, tap: usize, at: usize) -> f64 {
        let taps: usize = self.window.kernel.iter().product();
        let places: usize = self.output.iter().product();
        let (index, tap_index) = (
            places::index(at, &self.output),
            places::index(tap, &self.window.kernel),
        );
        let offset = |axis: usize| {
            let place = ((moved * taps + tap) * 2 + axis) * places + at;
            self.offsets.get(place).copied().unwrap_or_default()
        };
        let position = |axis: usize| {
            let of = |list: &[usize]| list.get(axis).copied().unwrap_or_default();
            let at =
                of(&index) * of(&self.window.strides) + of(&tap_index) * of(&self.window.dilations);
            float(at) - float(of(&self.window.pads.0)) + offset(axis)
        };
        let [height, width] = self.image;
        let plane = self.x.chunks(height * width).nth(plane).unwrap_or_default();
        let value = super::grids::bilinear(plane, self.image, position(0), position(1));
        let mask = self.mask.as_ref().map_or(Some(&1.0), |mask| {
            mask.get((moved * taps + tap) * places + at)
        });
        value * mask.copied().unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "extents are far below 2^52")]
fn float(extent: usize) -> f64 {
    extent as f64
}

impl Operator for DeformConv {
    const NAME: &'static str = "DeformConv";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(datum_type, x), (_, w), (_, offset), ..] = inputs else {
            bail!("DeformConv takes at least three inputs");
        };
        let ([batch, ..], [outputs, ..], [_, _, height, width]) = (&**x, &**w, &**offset) else {
            bail!("DeformConv takes images");
        };
        let shape = [batch, outputs, height, width].map(Clone::clone);
        Ok(tvec![(*datum_type, shape.into_iter().collect())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [x, w, offset, ..] = inputs else {
            bail!("DeformConv takes at least three inputs");
        };
        let given =
            |at: Option<usize>| at.and_then(|at| inputs.get(at)).map(|t| places::numbers(t));
        let (
            [batch, channels, height, width],
            [outputs, of_group, kernel @ ..],
            [_, offsets, out_height, out_width],
        ) = (x.shape(), w.shape(), offset.shape())
        else {
            bail!("DeformConv takes images");
        };
        let taps: usize = kernel.iter().product();
        ensure!(
            kernel.len() == 2
                && self.groups > 0
                && self.offset_groups > 0
                && *channels == of_group * self.groups
                && outputs % self.groups == 0
                && channels % self.offset_groups == 0
                && *offsets == 2 * taps * self.offset_groups,
            "the shapes of DeformConv do not fit"
        );
        let deformed = Deformed {
            window: Window::read(&self.node, kernel.into())?,
            image: [*height, *width],
            output: [*out_height, *out_width],
            x: places::numbers(x)?,
            offsets: places::numbers(offset)?,
            mask: given(self.mask).transpose()?,
        };
        let (weights, bias) = (places::numbers(w)?, given(self.bias).transpose()?);
        let places = out_height * out_width;
        let mut sums = Vec::with_capacity(batch * outputs * places);
        for row in 0..*batch {
            for output in 0..*outputs {
                let first = output / (outputs / self.groups) * of_group;
                let bias = bias.as_ref().and_then(|bias| bias.get(output));
                for at in 0..places {
                    let mut sum = bias.copied().unwrap_or_default();
                    for place in 0..of_group * taps {
                        let channel = first + place / taps;
                        let group = channel / (channels / self.offset_groups);
                        let (plane, moved) =
                            (row * channels + channel, row * self.offset_groups + group);
                        let weight = weights.get(output * of_group * taps + place);
                        let seen = deformed.seen(plane, moved, place % taps, at);
                        sum += weight.copied().unwrap_or_default() * seen;
                    }
                    sums.push(sum);
                }
            }
        }
        let shape = [*batch, *outputs, *out_height, *out_width];
        Ok(tvec![places::rounded(&sums, &shape, x)?])
    }
}
