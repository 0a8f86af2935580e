//! Weights of 8 and 4 bits that stay packed on the device, and what is computed with them.
//!
//! A weight is read as `(code - zero) * scale`. Codes come from the model file as they are there; what
//! all fits 16 neighbouring values takes 4 bits. Must never make real numbers of them but in the registers of
//! a kernel, or for an operator that knows no packed weights ([`Packed::real`]), for as long as it runs.

use burn_backend::ops::{FloatTensorOps as _, IntTensorOps as _};
use burn_backend::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use cubecl::prelude::{CubeCount, CubeDim, Numeric};
use tract_onnx::prelude::{DatumType, TractResult};
use tract_onnx::tract_hir::internal::{ensure, format_err};

use super::device::Device;
use crate::tract::Taps;

mod arrange;
mod kernel;

pub(super) use arrange::{Arrangement, Codes};

use kernel::{Form, Numbers, at};

/// The most cubes along one axis, on every device.
const MOST_CUBES: usize = 65_535;

/// Up to so many rows, the units of a cube share the depth of one column.
const FEW_ROWS: usize = 4;

/// With fewer columns in a group, a unit computes one number.
const FEW_COLUMNS: usize = 8;

/// Weights on the device: `columns` of `depth` numbers each.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Some of the columns each, in order: as many as the device binds at once.
    parts: Vec<Part>,
}

/// So many columns in a row.
#[derive(Debug)]
struct Part {
    bits: u32,
    columns: usize,
    depth: usize,
    /// Neighbours in a column that share a scale.
    block: usize,
    words: CubeTensor,
    scales: CubeTensor,
    zeros: CubeTensor,
}

/// The numbers that a kernel is told.
struct Extents([u32; at::COUNT]);

impl Extents {
    fn set(&mut self, place: usize, numbers: &[usize]) -> TractResult<()> {
        let places = self.0.iter_mut().skip(place);
        for (into, number) in places.zip(numbers) {
            *into = u32::try_from(*number)?;
        }
        Ok(())
    }
}

impl Packed {
    /// Puts `codes` on the device.
    pub(super) fn upload(device: &Device, codes: &Codes) -> TractResult<Self> {
        Self::in_parts(device, codes, device.most_elements(size_of::<u32>()))
    }

    /// As [`Self::upload`], so many words together at most.
    fn in_parts(device: &Device, codes: &Codes, words: usize) -> TractResult<Self> {
        let most = words / codes.stride().max(1);
        ensure!(most > 0, "a column of {} numbers is too long", codes.depth);
        let parts = codes.parts(most);
        let parts = parts.map(|part| Part::upload(device, &part));
        Ok(Self {
            columns: codes.columns,
            depth: codes.depth,
            parts: parts.collect::<TractResult<Vec<Part>>>()?,
        })
    }

    /// `x` of `[rows, depth]` times the weights: `[rows, columns]`. Of whole numbers, less `zero` if there
    /// is one, the sums leave as whole numbers, without scales.
    pub(super) fn product(
        &self,
        device: &Device,
        x: &CubeTensor,
        zero: Option<&CubeTensor>,
    ) -> TractResult<CubeTensor> {
        self.beside(1, |part| part.product(device, x.clone(), zero.cloned()))
    }

    /// The windows of `x`, `[batch, channels, height, width]`, times the weights, of which a column is a
    /// filter: `[batch, columns, height, width]`. Whole numbers as in [`Self::product`].
    pub(super) fn convolve(
        &self,
        device: &Device,
        x: &CubeTensor,
        zero: Option<&CubeTensor>,
        taps: &Taps,
    ) -> TractResult<CubeTensor> {
        ensure!(
            self.parts.len() == 1 || taps.groups == 1,
            "filters of {} groups are larger than what the device binds",
            taps.groups
        );
        self.beside(1, |part| {
            part.convolve(device, x.clone(), zero.cloned(), taps)
        })
    }

    /// The real numbers of all, `[columns, depth]`.
    pub(super) fn real(&self, device: &Device) -> TractResult<CubeTensor> {
        self.beside(0, |part| part.real(device))
    }

    /// What each part gives, side by side along an axis.
    fn beside(
        &self,
        axis: usize,
        of_part: impl Fn(&Part) -> TractResult<CubeTensor>,
    ) -> TractResult<CubeTensor> {
        if let [part] = self.parts.as_slice() {
            return of_part(part);
        }
        let parts = self.parts.iter().map(of_part);
        let parts = parts.collect::<TractResult<Vec<CubeTensor>>>()?;
        let real = parts.iter().all(|part| part.dtype == DType::F32);
        Ok(if real {
            CubeBackend::float_cat(parts, axis)
        } else {
            CubeBackend::int_cat(parts, axis)
        })
    }
}

impl Part {
    fn upload(device: &Device, codes: &Codes) -> TractResult<Self> {
        let (columns, blocks) = (codes.columns, codes.blocks());
        Ok(Self {
            bits: codes.bits,
            columns,
            depth: codes.depth,
            block: codes.block,
            words: device.numbers(&codes.words, &[columns, codes.stride()], DType::U32)?,
            scales: device.numbers(&codes.scales, &[columns, blocks], DType::F32)?,
            zeros: device.numbers(&codes.zeros, &[codes.zeros.len()], DType::I32)?,
        })
    }

    fn extents(&self, rows: usize) -> TractResult<Extents> {
        let mut extents = Extents([1; at::COUNT]);
        let stride = self.words.meta.shape().last().copied().unwrap_or_default();
        let blocks = self.depth.div_ceil(self.block.max(1));
        extents.set(
            at::ROWS,
            &[rows, self.columns, self.depth, stride, self.block, blocks],
        )?;
        Ok(extents)
    }

    fn form(&self, x: &CubeTensor, is_moved: bool) -> Form {
        Form {
            bits: self.bits,
            blocked: self.block < self.depth,
            moved: self.zeros.meta.num_elements() > 1,
            numbers: match (x.dtype, is_moved) {
                (DType::F32, _) => Numbers::Real,
                (_, false) => Numbers::Whole,
                (_, true) => Numbers::Moved,
            },
            windows: false,
        }
    }

    fn product(
        &self,
        device: &Device,
        x: CubeTensor,
        zero: Option<CubeTensor>,
    ) -> TractResult<CubeTensor> {
        let rows = x.meta.num_elements() / self.depth.max(1);
        let form = self.form(&x, zero.is_some());
        let call = Call {
            part: self,
            form,
            extents: device.extents(&self.extents(rows)?.0)?,
            rows,
            of_group: self.columns,
            groups: 1,
            shape: vec![rows, self.columns],
        };
        call.run(x, zero)
    }

    fn convolve(
        &self,
        device: &Device,
        x: CubeTensor,
        zero: Option<CubeTensor>,
        taps: &Taps,
    ) -> TractResult<CubeTensor> {
        let [batch, channels, _, _] = <[usize; 4]>::try_from(x.meta.shape().to_vec())
            .map_err(|shape| format_err!("images of extents {shape:?}"))?;
        let groups = taps.groups.max(1);
        ensure!(
            self.columns.is_multiple_of(groups) && channels.is_multiple_of(groups),
            "{} filters over {channels} channels in {groups} groups",
            self.columns
        );
        let (of_group, channels) = (self.columns / groups, channels / groups);
        let [height, width] = taps.output;
        let [down, across] = taps.kernel;
        ensure!(
            channels * down * across == self.depth,
            "filters of {} numbers over {channels} channels",
            self.depth
        );
        let rows = batch * height * width;
        let mut extents = self.extents(rows)?;
        extents.set(at::COLUMNS, &[of_group])?;
        extents.set(at::GROUPS, &[groups, channels])?;
        for (place, numbers) in [
            (at::KERNEL, taps.kernel),
            (at::STRIDES, taps.strides),
            (at::DILATIONS, taps.dilations),
            (at::BEFORE, taps.before),
            (at::IMAGE, taps.image),
            (at::OUTPUT, taps.output),
        ] {
            extents.set(place, &numbers)?;
        }
        let form = Form {
            windows: true,
            ..self.form(&x, zero.is_some())
        };
        let call = Call {
            part: self,
            form,
            extents: device.extents(&extents.0)?,
            rows,
            of_group,
            groups,
            shape: vec![batch, self.columns, height, width],
        };
        call.run(x, zero)
    }

    fn real(&self, device: &Device) -> TractResult<CubeTensor> {
        let extents = device.extents(&self.extents(1)?.0)?;
        let out = empty(&self.words, &[self.columns, self.depth], DType::F32);
        let (cubes, units) = spread(self.words.meta.num_elements());
        let form = self.form(&out, false);
        kernel::unpack::launch(
            &out.client,
            cubes,
            units,
            self.words.clone().into_buffer_arg(),
            self.scales.clone().into_buffer_arg(),
            self.zeros.clone().into_buffer_arg(),
            extents.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            form,
        );
        Ok(out)
    }
}

/// One product.
struct Call<'a> {
    part: &'a Part,
    form: Form,
    extents: CubeTensor,
    rows: usize,
    /// Columns of a group.
    of_group: usize,
    groups: usize,
    /// The extents of what leaves.
    shape: Vec<usize>,
}

impl Call<'_> {
    fn run(self, x: CubeTensor, zero: Option<CubeTensor>) -> TractResult<CubeTensor> {
        let x = into_contiguous(x);
        match x.dtype {
            DType::F32 => {
                let zero = zero.unwrap_or_else(|| self.part.scales.clone());
                self.launch::<f32>(x, zero)
            }
            DType::I32 => {
                let zero = zero.unwrap_or_else(|| self.part.zeros.clone());
                self.launch::<i32>(x, zero)
            }
            other => Err(format_err!("packed weights with {other:?}")),
        }
    }

    fn launch<N: Numeric>(self, x: CubeTensor, zero: CubeTensor) -> TractResult<CubeTensor> {
        let Part {
            words,
            scales,
            zeros,
            ..
        } = self.part;
        let out = empty(&x, &self.shape, x.dtype);
        let client = out.client.clone();
        let arguments = (
            x.into_buffer_arg(),
            zero.into_buffer_arg(),
            words.clone().into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            zeros.clone().into_buffer_arg(),
            self.extents.into_buffer_arg(),
            out.clone().into_buffer_arg(),
        );
        let (x, zero, words, scales, zeros, extents, into) = arguments;
        let tiles = |count: usize| count.div_ceil(kernel::TILE as usize);
        let few_rows = !self.form.windows && self.rows <= FEW_ROWS;
        if few_rows {
            let across = self.of_group.min(MOST_CUBES);
            let cubes = cubes([across, self.of_group.div_ceil(across.max(1)), self.rows])?;
            let units = CubeDim::new_1d(kernel::UNITS);
            kernel::vector::launch::<N>(
                &client, cubes, units, x, zero, words, scales, zeros, extents, into, self.form,
            );
        } else if self.of_group < FEW_COLUMNS {
            let (cubes, units) = spread(self.shape.iter().product());
            kernel::single::launch::<N>(
                &client, cubes, units, x, zero, words, scales, zeros, extents, into, self.form,
            );
        } else {
            let cubes = cubes([tiles(self.of_group), tiles(self.rows), self.groups])?;
            let units = CubeDim::new_1d(kernel::SIDE * kernel::SIDE);
            kernel::product::launch::<N>(
                &client, cubes, units, x, zero, words, scales, zeros, extents, into, self.form,
            );
        }
        Ok(out)
    }
}

/// Real numbers as whole ones of the type `to`.
pub(super) fn quantise(
    x: CubeTensor,
    [scales, zeros]: [&CubeTensor; 2],
    inner: usize,
    to: DatumType,
) -> TractResult<CubeTensor> {
    let (least, most) = match to {
        DatumType::I8 => (-128.0, 127.0),
        DatumType::U8 => (0.0, 255.0),
        other => return Err(format_err!("whole numbers of {other:?}")),
    };
    let x = into_contiguous(x);
    let out = empty(&x, x.meta.shape(), DType::I32);
    let (cubes, units) = spread(x.meta.num_elements());
    let count = scales.meta.num_elements();
    kernel::quantise::launch(
        &out.client,
        cubes,
        units,
        x.into_buffer_arg(),
        scales.clone().into_buffer_arg(),
        zeros.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        u32::try_from(inner)?,
        u32::try_from(count)?,
        least,
        most,
    );
    Ok(out)
}

/// Whole numbers as real ones.
pub(super) fn dequantise(
    x: CubeTensor,
    [scales, zeros]: [&CubeTensor; 2],
    inner: usize,
) -> TractResult<CubeTensor> {
    let x = into_contiguous(x);
    let out = empty(&x, x.meta.shape(), DType::F32);
    let (cubes, units) = spread(x.meta.num_elements());
    let count = scales.meta.num_elements();
    kernel::dequantise::launch(
        &out.client,
        cubes,
        units,
        x.into_buffer_arg(),
        scales.clone().into_buffer_arg(),
        zeros.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        u32::try_from(inner)?,
        u32::try_from(count)?,
    );
    Ok(out)
}

/// The scale and the zero point of bytes for numbers between these two.
pub(super) fn range(least: CubeTensor, most: CubeTensor) -> [CubeTensor; 2] {
    let scale = empty(&least, &[1], DType::F32);
    let zero = empty(&least, &[1], DType::I32);
    kernel::range::launch(
        &scale.client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(1),
        least.into_buffer_arg(),
        most.into_buffer_arg(),
        scale.clone().into_buffer_arg(),
        zero.clone().into_buffer_arg(),
    );
    [scale, zero]
}

/// Room for a tensor beside `like`, that a kernel writes whole.
pub(super) fn empty(like: &CubeTensor, shape: &[usize], of: DType) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * of.size();
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::from(shape.to_vec()),
        like.client.empty(bytes),
        of,
    )
}

/// A unit for each of `count`.
pub(super) fn spread(count: usize) -> (CubeCount, CubeDim) {
    let cubes = count.div_ceil(kernel::UNITS as usize);
    let across = cubes.clamp(1, MOST_CUBES);
    let down = cubes.div_ceil(across);
    // No buffer of the device has so many elements.
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let count = CubeCount::Static(number(across), number(down), 1);
    (count, CubeDim::new_1d(kernel::UNITS))
}

fn cubes(counts: [usize; 3]) -> TractResult<CubeCount> {
    ensure!(
        counts.iter().all(|count| *count <= MOST_CUBES),
        "{counts:?} cubes, of which a device takes {MOST_CUBES} along an axis"
    );
    let [x, y, z] = counts.map(u32::try_from);
    Ok(CubeCount::Static(x?, y?, z?))
}

#[cfg(test)]
mod tests;
