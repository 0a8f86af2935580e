//! Where a window stands on an image: strides, dilations and padding of convolutions and pools.
//!
//! An image has one or two axes besides batch and channels; one of one axis is taken as of height 1.

use std::ops::Range;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DimLike, TVec, TractResult, bail, ensure};

use crate::product::OUTSIDE;
use crate::team::{Divide, each_of, is_worth, part, pieces};

/// Products of a window that are added up in about a nanosecond.
pub(in crate::tract) const ADDED: usize = 16;

/// How a window moves over an image.
#[derive(Debug, Clone)]
pub(in crate::tract) struct Geometry {
    strides: Option<TVec<usize>>,
    dilations: Option<TVec<usize>>,
    padding: Padding,
    /// A last window that reaches over the end counts too.
    ceil: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Padding {
    /// So many before each axis, then so many behind each.
    Given(Option<TVec<usize>>),
    /// As many as make the output `extent / stride`, the odd one behind, or before.
    Same { before: bool },
}

/// A window over an image of known extents: height, then width.
#[derive(Debug, Clone, Copy)]
pub(in crate::tract) struct Window {
    pub(in crate::tract) kernel: [usize; 2],
    pub(in crate::tract) strides: [usize; 2],
    pub(in crate::tract) dilations: [usize; 2],
    /// Padding above and to the left.
    pub(in crate::tract) before: [usize; 2],
    pub(in crate::tract) image: [usize; 2],
    pub(in crate::tract) output: [usize; 2],
}

impl Geometry {
    /// Reads it from a node.
    pub(in crate::tract) fn read(node: &NodeProto) -> TractResult<Self> {
        let padding = match node.get_attr_opt::<&str>("auto_pad")? {
            None | Some("NOTSET") => Padding::Given(node.get_attr_opt_tvec("pads")?),
            Some("VALID") => Padding::Given(None),
            Some("SAME_UPPER") => Padding::Same { before: false },
            Some("SAME_LOWER") => Padding::Same { before: true },
            Some(other) => bail!("auto_pad {other:?} is unknown"),
        };
        let strides: Option<TVec<usize>> = node.get_attr_opt_tvec("strides")?;
        ensure!(
            strides.iter().flatten().all(|stride| *stride > 0),
            "a stride of 0"
        );
        Ok(Self {
            strides,
            dilations: node.get_attr_opt_tvec("dilations")?,
            padding,
            ceil: node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) == 1,
        })
    }

    /// Fails where a list is not for `rank` axes.
    fn check(&self, rank: usize) -> TractResult<()> {
        let pads = match &self.padding {
            Padding::Given(pads) => pads.as_ref(),
            Padding::Same { .. } => None,
        };
        let lists = [
            (self.strides.as_ref(), rank),
            (self.dilations.as_ref(), rank),
            (pads, 2 * rank),
        ];
        for (list, length) in lists {
            ensure!(
                list.is_none_or(|list| list.len() == length),
                "strides, dilations or pads are not for {rank} axes"
            );
        }
        Ok(())
    }

    fn stride(&self, axis: usize) -> usize {
        self.strides.as_ref().map_or(1, |list| of(list, axis))
    }

    /// Whether a window over `rank` axes has no gaps between its columns.
    pub(in crate::tract) fn is_dense(&self, rank: usize) -> bool {
        rank > 0 && self.dilation(rank - 1) == 1
    }

    fn dilation(&self, axis: usize) -> usize {
        self.dilations.as_ref().map_or(1, |list| of(list, axis))
    }

    /// The extents of the output.
    pub(in crate::tract) fn output<D: DimLike>(
        &self,
        image: &[D],
        kernel: &[usize],
    ) -> TractResult<TVec<D>> {
        let rank = image.len();
        ensure!(
            rank == kernel.len(),
            "a window of {} axes over an image of {rank}",
            kernel.len()
        );
        self.check(rank)?;
        ensure!(
            kernel.iter().all(|extent| *extent > 0),
            "a window of extents {kernel:?} sees nothing"
        );
        let axes = image.iter().zip(kernel).enumerate();
        axes.map(|(axis, (extent, kernel))| {
            let (stride, dilation) = (self.stride(axis), self.dilation(axis));
            let Padding::Given(pads) = &self.padding else {
                return Ok(extent.divceil(stride));
            };
            let reach = dilation * kernel.saturating_sub(1) + 1;
            let pad = |at: usize| pads.as_ref().map_or(0, |pads| of(pads, at));
            let padded = extent.clone() + pad(axis) + pad(axis + rank);
            if let Ok(padded) = padded.to_usize() {
                ensure!(
                    padded >= reach,
                    "a window of {reach} over an extent of {padded}"
                );
            }
            let room = padded - reach;
            Ok(if self.ceil {
                room.divceil(stride) + 1
            } else {
                room / stride + 1
            })
        })
        .collect()
    }

    /// The window over an image of these extents.
    pub(in crate::tract) fn window(
        &self,
        image: &[usize],
        kernel: &[usize],
    ) -> TractResult<Window> {
        let output = self.output(image, kernel)?;
        ensure!(
            !image.contains(&0) || output.contains(&0),
            "a window over an image of {image:?}, which has no pixels"
        );
        let before = image.iter().zip(kernel).enumerate();
        let before: TVec<usize> = before
            .map(|(axis, (extent, kernel))| match &self.padding {
                Padding::Given(pads) => pads.as_ref().map_or(0, |pads| of(pads, axis)),
                Padding::Same { before } => {
                    let steps = of(&output, axis).saturating_sub(1) * self.stride(axis);
                    let reach = self.dilation(axis) * kernel.saturating_sub(1) + 1;
                    let all = (steps + reach).saturating_sub(*extent);
                    if *before { all.div_ceil(2) } else { all / 2 }
                }
            })
            .collect();
        let each = |of_axis: &dyn Fn(usize) -> usize| -> TVec<usize> {
            (0..image.len()).map(of_axis).collect()
        };
        Ok(Window {
            kernel: flat(kernel, 1)?,
            strides: flat(&each(&|axis| self.stride(axis)), 1)?,
            dilations: flat(&each(&|axis| self.dilation(axis)), 1)?,
            before: flat(&before, 0)?,
            image: flat(image, 1)?,
            output: flat(&output, 1)?,
        })
    }
}

fn of(list: &[usize], axis: usize) -> usize {
    list.get(axis).copied().unwrap_or_default()
}

/// Height and width; a height of `missing` where there is only a width.
fn flat(list: &[usize], missing: usize) -> TractResult<[usize; 2]> {
    match list {
        [width] => Ok([missing, *width]),
        [height, width] => Ok([*height, *width]),
        _ => bail!("images of {} axes are not supported", list.len()),
    }
}

impl Window {
    /// How many positions the window has.
    pub(in crate::tract) fn taps(&self) -> usize {
        let [height, width] = self.kernel;
        height * width
    }

    /// Whether every output is made of the pixel in its own place.
    pub(in crate::tract) fn is_one_pixel(&self) -> bool {
        self.kernel == [1, 1]
            && self.strides == [1, 1]
            && self.before == [0, 0]
            && self.output == self.image
    }

    /// Adds to `places` where each tap of the outputs `outputs`, counted row by row, begins to read: of
    /// images with `channels` channels; [`OUTSIDE`] on padding.
    pub(in crate::tract) fn places(
        &self,
        outputs: Range<usize>,
        channels: usize,
        places: &mut Vec<usize>,
    ) {
        let [height, width] = self.kernel;
        let ([_, line], [_, columns]) = (self.image, self.output);
        let columns = columns.max(1);
        places.reserve(outputs.len() * height * width);
        for output in outputs {
            let (row, column) = (output / columns, output % columns);
            for down in 0..height {
                let Some(row) = self.row(row, down) else {
                    places.extend(std::iter::repeat_n(OUTSIDE, width));
                    continue;
                };
                places.extend((0..width).map(|along| {
                    let pixel = self.column(column, along).map(|column| row * line + column);
                    pixel.map_or(OUTSIDE, |pixel| pixel * channels)
                }));
            }
        }
    }

    /// Calls `each` for runs of outputs of `images` images that lie one after the other: with where the
    /// places of their taps count from, with those, and with their part of `output`, which has `size`
    /// elements for each. A run has about as many outputs as `block` says of the number that there are;
    /// images that are smaller share one. Runs are shared out among the threads of the call.
    pub(in crate::tract) fn blocks<O: Divide>(
        &self,
        (images, channels): (usize, usize),
        block: impl Fn(usize) -> usize,
        (output, size): (O, usize),
        each: impl Fn(usize, &[usize], O) + Sync,
    ) {
        let [rows, columns] = self.output;
        let count = rows * columns;
        let together = (block(count * images) / count.max(1)).min(images);
        if together > 1 {
            self.together((images, channels, together), (output, size), each);
        } else {
            let block = block(count).max(1);
            self.apart((images, channels, block), (output, size), each);
        }
    }

    /// Runs of `together` whole images: places are found once for all of them.
    fn together<O: Divide>(
        &self,
        (images, channels, together): (usize, usize, usize),
        (output, size): (O, usize),
        each: impl Fn(usize, &[usize], O) + Sync,
    ) {
        let [[rows, columns], [height, width]] = [self.output, self.image];
        let (count, of_image) = (rows * columns, height * width * channels);
        let mut places = Vec::with_capacity(together * count * self.taps());
        self.places(0..count, channels, &mut places);
        let of_one = places.len();
        for image in 1..together {
            let moved = |place: usize| match place {
                OUTSIDE => OUTSIDE,
                place => place + image * of_image,
            };
            for at in 0..of_one {
                let place = places.get(at).copied().unwrap_or(OUTSIDE);
                places.push(moved(place));
            }
        }
        let runs = (0..images).step_by(together);
        let runs = runs.map(|first| (first, together.min(images - first)));
        let outputs = pieces(
            output,
            runs.clone().map(|(_, images)| images * count * size),
        );
        each_of(runs.zip(outputs).collect(), |((first, images), output)| {
            let places = places.get(..images * of_one).unwrap_or_default();
            each(first * of_image, places, output);
        });
    }

    /// Runs of `block` outputs of one image: places are found once for the same run of all images.
    fn apart<O: Divide>(
        &self,
        (images, channels, block): (usize, usize, usize),
        (output, size): (O, usize),
        each: impl Fn(usize, &[usize], O) + Sync,
    ) {
        let [[rows, columns], [height, width]] = [self.output, self.image];
        let (count, of_image) = (rows * columns, height * width * channels);
        let runs = (0..count).step_by(block);
        let runs: Vec<_> = runs.map(|first| first..count.min(first + block)).collect();
        let of_all = (0..images).flat_map(|_| runs.iter().map(|run| run.len() * size));
        let mut outputs: Vec<Vec<O>> = runs.iter().map(|_| Vec::with_capacity(images)).collect();
        for (at, output) in pieces(output, of_all).into_iter().enumerate() {
            if let Some(of_run) = outputs.get_mut(at % runs.len().max(1)) {
                of_run.push(output);
            }
        }
        let runs = runs.into_iter().zip(outputs);
        each_of(runs.collect(), |(run, outputs)| {
            let mut places = Vec::new();
            self.places(run, channels, &mut places);
            for (image, output) in outputs.into_iter().enumerate() {
                each(image * of_image, &places, output);
            }
        });
    }

    /// Calls `each` for every row of the output, of `images` images that lie one after the other: with
    /// where the places of its taps count from, with those, and with its part of `output`, which has
    /// `size` elements for each column. Rows that see as much padding as the one before share its places,
    /// and all images do. Rows are shared out among the threads of the call.
    pub(in crate::tract) fn rows<O: Divide>(
        &self,
        (images, channels): (usize, usize),
        (output, size): (O, usize),
        each: impl Fn(usize, &[usize], O) + Sync,
    ) {
        let ([rows, columns], [window, _]) = (self.output, self.kernel);
        let ([stride, _], [height, line]) = (self.strides, self.image);
        let sees = |row: usize| (0..window).map(move |down| self.row(row, down).is_some());
        let (mut places, mut found) = (Vec::new(), Vec::with_capacity(rows));
        let (mut made_for, mut from) = (0, 0);
        for row in 0..rows {
            if row == 0 || !sees(row).eq(sees(made_for)) {
                from = places.len();
                let of_row = row * columns..(row + 1) * columns;
                self.places(of_row, channels, &mut places);
                made_for = row;
            }
            let begin = (row - made_for) * stride * line * channels;
            found.push((from..places.len(), begin));
        }
        let count = images * rows;
        let work = count * columns * channels * self.taps();
        let part = if is_worth(work / ADDED) {
            part(count, 1, 4)
        } else {
            count.max(1)
        };
        let parts = (0..count).step_by(part);
        let parts = parts.map(|first| first..count.min(first + part));
        let outputs = pieces(
            output,
            parts.clone().map(|part| part.len() * columns * size),
        );
        each_of(parts.zip(outputs).collect(), |(part, output)| {
            let outputs = pieces(output, part.clone().map(|_| columns * size));
            for (row, output) in part.zip(outputs) {
                let Some((of_row, begin)) = found.get(row % rows.max(1)) else {
                    return;
                };
                let image = row / rows.max(1) * height * line * channels;
                let places = places.get(of_row.clone()).unwrap_or_default();
                each(image + begin, places, output);
            }
        });
    }

    /// The columns of the output whose window has every column inside the image.
    pub(in crate::tract) fn inner_columns(&self) -> Range<usize> {
        let ([_, stride], [_, dilation]) = (self.strides, self.dilations);
        let ([_, before], [_, width]) = (self.before, self.image);
        let ([_, columns], [_, window]) = (self.output, self.kernel);
        let reach = dilation * window.saturating_sub(1);
        let first = before.div_ceil(stride.max(1)).min(columns);
        // One past the last whose window ends inside.
        let room = (width + before).saturating_sub(reach);
        let end = room.div_ceil(stride.max(1)).min(columns);
        first..end.max(first)
    }

    /// The same window over the image with its padding laid out ([`Window::pad`]).
    pub(in crate::tract) fn laid_out(&self) -> Self {
        let ([rows, columns], [height, width]) = (self.output, self.kernel);
        let ([down, along], [gap, space]) = (self.strides, self.dilations);
        let reach = |outputs: usize, stride: usize, taps: usize, dilation: usize| {
            outputs.saturating_sub(1) * stride + taps.saturating_sub(1) * dilation + 1
        };
        let image = [
            reach(rows, down, height, gap),
            reach(columns, along, width, space),
        ];
        Self {
            before: [0, 0],
            image,
            ..*self
        }
    }

    /// [`Window::laid_out`] where each row of the window is one tap: as many pixels as it is wide lie
    /// side by side. Not for windows with gaps between their columns.
    pub(in crate::tract) fn lines(&self) -> Self {
        let [height, _] = self.kernel;
        Self {
            kernel: [height, 1],
            ..self.laid_out()
        }
    }

    /// The images that [`Window::laid_out`] is over: `images` with their padding, which is all `outside`.
    pub(in crate::tract) fn pad<T: Copy>(
        &self,
        images: &[T],
        channels: usize,
        outside: T,
    ) -> Vec<T> {
        let size = self.padded(channels).max(1);
        let [rows, columns] = self.image;
        let images = images.chunks_exact((rows * columns * channels).max(1));
        let mut padded = vec![outside; images.len() * size];
        for (image, padded) in images.zip(padded.chunks_exact_mut(size)) {
            self.frame(image, channels, padded);
        }
        padded
    }

    /// How many elements an image has with its padding.
    pub(in crate::tract) fn padded(&self, channels: usize) -> usize {
        let [height, width] = self.laid_out().image;
        height * width * channels
    }

    /// Writes an image into the midst of its padding, which stays as it is.
    pub(in crate::tract) fn frame<T: Copy>(&self, image: &[T], channels: usize, padded: &mut [T]) {
        let ([above, left], [_, columns]) = (self.before, self.image);
        let [_, width] = self.laid_out().image;
        let lines = padded.chunks_exact_mut((width * channels).max(1));
        let image = image.chunks_exact((columns * channels).max(1));
        for (to, from) in lines.skip(above).zip(image) {
            let to = to.get_mut(left * channels..).unwrap_or_default();
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }

    /// Where the taps of the output in `place` (row, column) fall: their pixel, counted row by row,
    /// or nothing on padding.
    pub(in crate::tract) fn pixels(
        &self,
        [row, column]: [usize; 2],
    ) -> impl Iterator<Item = Option<usize>> {
        let [height, width] = self.kernel;
        let [_, line] = self.image;
        let window = *self;
        (0..height).flat_map(move |down| {
            let row = window.row(row, down);
            (0..width).map(move |along| Some(row? * line + window.column(column, along)?))
        })
    }

    /// The row of the image that row `down` of the window falls on, for this row of the output.
    pub(in crate::tract) fn row(&self, row: usize, down: usize) -> Option<usize> {
        let ([stride, _], [dilation, _]) = (self.strides, self.dilations);
        let ([before, _], [height, _]) = (self.before, self.image);
        let at = (row * stride + down * dilation).checked_sub(before)?;
        (at < height).then_some(at)
    }

    /// The column of the image that column `along` of the window falls on, for this column of the
    /// output.
    pub(in crate::tract) fn column(&self, column: usize, along: usize) -> Option<usize> {
        let ([_, stride], [_, dilation]) = (self.strides, self.dilations);
        let ([_, before], [_, width]) = (self.before, self.image);
        let at = (column * stride + along * dilation).checked_sub(before)?;
        (at < width).then_some(at)
    }
}
