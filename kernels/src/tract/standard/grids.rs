//! Operators on sampling grids: `AffineGrid`, `RoiAlign`, and what lies between the pixels.
//!
//! Computed in `f64` and rounded to the type of the input.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::places;
use super::{Build, Operator, Port};

/// Between four pixels of a plane; pixels outside count as zero.
pub(super) fn bilinear(plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
    let (top, left) = (y.floor(), x.floor());
    let pixel = |row: f64, column: f64| {
        let inside = |at: f64, extent| (0.0..extent).contains(&at);
        if !inside(row, float(height)) || !inside(column, float(width)) {
            return 0.0;
        }
        let place = whole(row) * width + whole(column);
        plane.get(place).copied().unwrap_or_default()
    };
    let (down, right) = (y - top, x - left);
    pixel(top, left) * (1.0 - down) * (1.0 - right)
        + pixel(top, left + 1.0) * (1.0 - down) * right
        + pixel(top + 1.0, left) * down * (1.0 - right)
        + pixel(top + 1.0, left + 1.0) * down * right
}

#[expect(clippy::cast_precision_loss, reason = "extents are far below 2^52")]
fn float(extent: usize) -> f64 {
    extent as f64
}

/// A coordinate that is known to be inside.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and the place is looked up with a check"
)]
fn whole(coordinate: f64) -> usize {
    coordinate as usize
}

/// The points of a regular grid, each moved by an affine map.
#[derive(Debug)]
pub(super) struct AffineGrid {
    /// Whether -1 and 1 are the centres of the outermost pixels, and not their edges.
    align_corners: bool,
}

impl Build for AffineGrid {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let align_corners = node.get_attr_opt::<i64>("align_corners")?.unwrap_or(0) != 0;
        Ok(Self { align_corners })
    }
}

impl AffineGrid {
    /// The coordinate of a pixel, from -1 to 1.
    fn coordinate(&self, at: usize, extent: usize) -> f64 {
        let (at, extent) = (float(at), float(extent));
        if self.align_corners {
            if extent > 1.0 {
                2.0 * at / (extent - 1.0) - 1.0
            } else {
                0.0
            }
        } else {
            (2.0 * at + 1.0) / extent - 1.0
        }
    }
}

impl Operator for AffineGrid {
    const NAME: &'static str = "AffineGrid";
    const INPUTS: usize = 2;

    fn parameters(&self) -> &[usize] {
        &[1]
    }

    fn outputs_by(&self, inputs: &[Port], parameters: &[Arc<Tensor>]) -> TractResult<TVec<Port>> {
        let ([(datum_type, _), _], [size]) = (inputs, parameters) else {
            bail!("AffineGrid takes two inputs");
        };
        ensure!(datum_type.is_float(), "AffineGrid takes no {datum_type:?}");
        let size = places::extents(size)?;
        let [batch, _, room @ ..] = &*size else {
            bail!("size {size:?} has no channels");
        };
        let mut shape = tvec![batch.to_dim()];
        shape.extend(room.iter().map(ToDim::to_dim));
        shape.push(room.len().to_dim());
        Ok(tvec![(*datum_type, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [theta, size] = inputs else {
            bail!("AffineGrid takes two inputs");
        };
        let size = places::extents(size)?;
        let [batch, _, room @ ..] = &*size else {
            bail!("size {size:?} has no channels");
        };
        let rank = room.len();
        ensure!(
            theta.shape() == [*batch, rank, rank + 1],
            "theta has shape {:?} for a size of {size:?}",
            theta.shape()
        );
        let maps = places::numbers(theta)?;
        let mut points = Vec::with_capacity(batch * room.iter().product::<usize>() * rank);
        for map in maps.chunks(rank * (rank + 1)) {
            for index in places::indices(room) {
                let axes = index.iter().zip(room).rev();
                // The last axis of the image is the first of the map.
                let mut point: TVec<f64> = axes
                    .map(|(at, extent)| self.coordinate(*at, *extent))
                    .collect();
                point.push(1.0);
                for row in map.chunks(rank + 1) {
                    points.push(row.iter().zip(&point).map(|(a, b)| a * b).sum());
                }
            }
        }
        let mut shape = tvec![*batch];
        shape.extend(room.iter().copied());
        shape.push(rank);
        Ok(tvec![places::rounded(&points, &shape, theta)?])
    }
}

/// Samples regions of interest of an image to one size.
#[derive(Debug)]
pub(super) struct RoiAlign {
    maximum: bool,
    height: usize,
    width: usize,
    /// How many samples a bin has along each axis; 0 for as many as it has pixels.
    samples: usize,
    scale: f64,
    half_pixel: bool,
}

impl Build for RoiAlign {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let maximum = match node.get_attr_opt::<&str>("mode")?.unwrap_or("avg") {
            "avg" => false,
            "max" => true,
            other => bail!("mode is {other:?}, not avg or max"),
        };
        let half_pixel = match node.get_attr_opt::<&str>("coordinate_transformation_mode")? {
            Some("half_pixel") => true,
            Some("output_half_pixel") => false,
            None => context.onnx_operator_set_version >= 16,
            Some(other) => bail!("coordinate_transformation_mode is {other:?}"),
        };
        Ok(Self {
            maximum,
            height: node.get_attr_opt("output_height")?.unwrap_or(1),
            width: node.get_attr_opt("output_width")?.unwrap_or(1),
            samples: node.get_attr_opt("sampling_ratio")?.unwrap_or(0),
            scale: f64::from(node.get_attr_opt::<f32>("spatial_scale")?.unwrap_or(1.0)),
            half_pixel,
        })
    }
}

/// One axis of a region: where it begins, and how long a bin is.
#[derive(Debug, Clone, Copy)]
struct Bins {
    begin: f64,
    length: f64,
    samples: usize,
}

impl RoiAlign {
    fn bins(&self, from: f64, to: f64, count: usize) -> Bins {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let begin = from * self.scale - shift;
        let mut extent = to * self.scale - shift - begin;
        if !self.half_pixel {
            extent = extent.max(1.0);
        }
        let length = extent / float(count);
        let samples = if self.samples > 0 {
            self.samples
        } else {
            whole(length.ceil()).max(1)
        };
        Bins {
            begin,
            length,
            samples,
        }
    }

    /// One bin of a plane.
    fn bin(
        &self,
        plane: &[f64],
        image: [usize; 2],
        rows: (Bins, usize),
        columns: (Bins, usize),
    ) -> f64 {
        let at = |(bins, number): (Bins, usize), sample: usize| {
            let within = (float(sample) + 0.5) / float(bins.samples);
            bins.begin + (float(number) + within) * bins.length
        };
        let mut sampled = Vec::with_capacity(rows.0.samples * columns.0.samples);
        for row in 0..rows.0.samples {
            for column in 0..columns.0.samples {
                sampled.extend(self.sample(plane, image, at(rows, row), at(columns, column)));
            }
        }
        let count = float(rows.0.samples * columns.0.samples);
        if self.maximum {
            sampled.into_iter().reduce(f64::max).unwrap_or_default()
        } else {
            sampled.iter().sum::<f64>() / count
        }
    }

    /// What a sample adds: four weighted pixels, of which a maximum takes the largest.
    fn sample(&self, plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> Vec<f64> {
        if y < -1.0 || y > float(height) || x < -1.0 || x > float(width) {
            return vec![0.0];
        }
        // At the edge the outermost pixels go on.
        let inside = |at: f64, extent: usize| at.clamp(0.0, float(extent) - 1.0);
        let (y, x) = (inside(y, height), inside(x, width));
        if !self.maximum {
            return vec![bilinear(plane, [height, width], y, x)];
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let pixel = |row: f64, column: f64| {
            let (row, column) = (inside(row, height), inside(column, width));
            let place = whole(row) * width + whole(column);
            plane.get(place).copied().unwrap_or_default()
        };
        vec![
            pixel(top, left) * (1.0 - down) * (1.0 - right),
            pixel(top, left + 1.0) * (1.0 - down) * right,
            pixel(top + 1.0, left) * down * (1.0 - right),
            pixel(top + 1.0, left + 1.0) * down * right,
        ]
    }
}

impl Operator for RoiAlign {
    const NAME: &'static str = "RoiAlign";
    const INPUTS: usize = 3;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(datum_type, image), (_, regions), _] = inputs else {
            bail!("RoiAlign takes three inputs");
        };
        let ([_, channels, _, _], [count, _]) = (&**image, &**regions) else {
            bail!("RoiAlign takes images and regions");
        };
        let (height, width) = (self.height.to_dim(), self.width.to_dim());
        let shape = tvec![count.clone(), channels.clone(), height, width];
        Ok(tvec![(*datum_type, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [x, regions, of_image] = inputs else {
            bail!("RoiAlign takes three inputs");
        };
        let [images, channels, height, width] = x.shape() else {
            bail!("RoiAlign takes images");
        };
        let image = [*height, *width];
        let numbers = places::numbers(x)?;
        let of_image = places::extents(of_image)?;
        let mut output = Vec::new();
        for (region, number) in places::numbers(regions)?.chunks(4).zip(&of_image) {
            let [left, top, right, bottom] = region else {
                bail!("a region is four numbers");
            };
            ensure!(number < images, "there is no image {number}");
            let rows = self.bins(*top, *bottom, self.height);
            let columns = self.bins(*left, *right, self.width);
            for channel in 0..*channels {
                let mut planes = numbers.chunks(height * width);
                let plane = planes.nth(number * channels + channel);
                let plane = plane.context("an image has no pixels")?;
                for row in 0..self.height {
                    for column in 0..self.width {
                        output.push(self.bin(plane, image, (rows, row), (columns, column)));
                    }
                }
            }
        }
        let shape = [of_image.len(), *channels, self.height, self.width];
        Ok(tvec![places::rounded(&output, &shape, x)?])
    }
}
