//! From the bytes of a model file to words of packed codes, column by column.

use std::borrow::Cow;

use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_hir::internal::{TractErrorContext as _, bail, ensure};

use crate::tract::Affine;

/// In which order a tensor is read as a matrix: the first `leading` axes of `order` are columns, the others the
/// depth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Arrangement {
    pub(in super::super) order: Vec<usize>,
    pub(in super::super) leading: usize,
}

/// Packed weights in the memory of the processor.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Codes {
    pub(super) bits: u32,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Neighbours in a column that share a scale; all of them, or some that are whole words.
    pub(super) block: usize,
    pub(super) words: Vec<u32>,
    /// One for each block of each column.
    pub(super) scales: Vec<f32>,
    /// The code that stands for 0: of each scale, or one where all have the same.
    pub(super) zeros: Vec<i32>,
}

impl Codes {
    /// Words of a column.
    pub(super) fn stride(&self) -> usize {
        (self.depth * self.bits as usize).div_ceil(32)
    }

    /// Blocks of a column.
    pub(super) fn blocks(&self) -> usize {
        self.depth.div_ceil(self.block.max(1))
    }

    /// All columns, so many at a time.
    pub(super) fn parts(&self, most: usize) -> impl Iterator<Item = Cow<'_, Self>> {
        let starts = (0..self.columns).step_by(most.max(1));
        starts.map(move |start| {
            let columns = most.min(self.columns - start);
            if columns == self.columns {
                return Cow::Borrowed(self);
            }
            let some = |per: usize| start * per..(start + columns) * per;
            let words = self.words.get(some(self.stride()));
            let scales = self.scales.get(some(self.blocks()));
            // One zero point is that of all.
            let zeros = self.zeros.get(some(self.blocks()));
            let zeros = zeros.filter(|_| self.zeros.len() > 1);
            Cow::Owned(Self {
                columns,
                words: words.unwrap_or_default().to_vec(),
                scales: scales.unwrap_or_default().to_vec(),
                zeros: zeros.unwrap_or(&self.zeros).to_vec(),
                ..*self
            })
        })
    }

    /// How many bytes they take on the device.
    pub(in super::super) fn bytes(&self) -> u64 {
        4 * (self.words.len() + self.scales.len() + self.zeros.len()) as u64
    }

    /// Packs a tensor of bytes. `None` where its scales do not lie along the columns.
    pub(in super::super) fn pack(
        tensor: &Tensor,
        affine: &Affine,
        arrangement: &Arrangement,
    ) -> TractResult<Option<Self>> {
        let shape = tensor.shape();
        let wholes = wholes(&tensor.clone().permute_axes(&arrangement.order)?)?;
        let extents: TVec<usize> = arrangement
            .order
            .iter()
            .map(|axis| shape.get(*axis).copied().unwrap_or(1))
            .collect();
        let (leading, trailing) = extents.split_at(arrangement.leading.min(extents.len()));
        let columns = leading.iter().product::<usize>();
        let depth = trailing.iter().product::<usize>();
        ensure!(columns > 0 && depth > 0, "weights without numbers");
        let least = wholes.iter().min().copied().unwrap_or_default();
        let most = wholes.iter().max().copied().unwrap_or_default();
        let bits: u32 = if most - least < 16 { 4 } else { 8 };
        // What 8 bits hold is counted from the least of its type, whatever the values are.
        let least = match (bits, tensor.datum_type()) {
            (4, _) => least,
            (_, DatumType::I8) => -128,
            _ => 0,
        };
        let Some(scales) = Scales::place(affine, shape, arrangement, (columns, depth))? else {
            return Ok(None);
        };
        let per = 32 / bits as usize;
        if scales.block < depth && !scales.block.is_multiple_of(per) {
            return Ok(None);
        }
        let mut words = Vec::with_capacity(columns * depth.div_ceil(per));
        for column in wholes.chunks(depth) {
            for codes in column.chunks(per) {
                let mut word = 0;
                for (place, whole) in (0_u32..).zip(codes) {
                    word |= u32::try_from(whole - least)? << (place * bits);
                }
                words.push(word);
            }
        }
        let mut zeros: Vec<i32> = scales.zeros.iter().map(|zero| zero - least).collect();
        if zeros.windows(2).all(|pair| pair.first() == pair.last()) {
            zeros.truncate(1);
        }
        Ok(Some(Self {
            bits,
            columns,
            depth,
            block: scales.block,
            words,
            scales: scales.scales,
            zeros,
        }))
    }
}

/// The scales of each block of each column.
struct Scales {
    block: usize,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl Scales {
    fn place(
        affine: &Affine,
        shape: &[usize],
        arrangement: &Arrangement,
        (columns, depth): (usize, usize),
    ) -> TractResult<Option<Self>> {
        let (leading, trailing) = arrangement
            .order
            .split_at_checked(arrangement.leading)
            .context("more columns than axes")?;
        let all = affine
            .scales
            .iter()
            .copied()
            .zip(affine.zeros.iter().copied());
        let all: Vec<(f32, i32)> = all.collect();
        if let ([one], None) = (all.as_slice(), affine.along.block) {
            return Ok(Some(Self::of(depth, vec![*one; columns])));
        }
        let axis = affine.along.place(shape)?;
        let extent = |axis: &usize| shape.get(*axis).copied().unwrap_or(1);
        let Some(block) = affine.along.block else {
            // Axes in front of that of the scales and behind it, among the columns.
            let Some(place) = leading.iter().position(|of| *of == axis) else {
                return Ok(None);
            };
            let (_, behind) = leading.split_at(place + 1);
            let inner = behind.iter().map(extent).product::<usize>();
            ensure!(all.len() == extent(&axis), "scales for another extent");
            let of_column = |column: usize| all.get(column / inner.max(1) % all.len()).copied();
            let all = (0..columns).map(of_column).collect::<Option<Vec<_>>>();
            return Ok(all.map(|all| Self::of(depth, all)));
        };
        if trailing != [axis] || !depth.is_multiple_of(block) {
            return Ok(None);
        }
        // The scales are a tensor of the same axes, that of the blocks shorter.
        let mut of_scales: TVec<usize> = shape.into();
        *of_scales.get_mut(axis).context("no such axis")? = depth.div_ceil(block);
        let permuted = |tensor: Tensor| -> TractResult<Tensor> {
            tensor
                .into_shape(&of_scales)?
                .permute_axes(&arrangement.order)
        };
        let scales = permuted(tract_onnx::prelude::tensor1(&affine.scales))?;
        let zeros = permuted(tract_onnx::prelude::tensor1(&affine.zeros))?;
        Ok(Some(Self {
            block,
            scales: scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
            zeros: zeros.try_as_plain_ram()?.as_slice::<i32>()?.to_vec(),
        }))
    }

    fn of(block: usize, columns: Vec<(f32, i32)>) -> Self {
        let (scales, zeros) = columns.into_iter().unzip();
        Self {
            block,
            scales,
            zeros,
        }
    }
}

/// The elements of a tensor of bytes.
fn wholes(tensor: &Tensor) -> TractResult<Vec<i32>> {
    let view = tensor.try_as_plain_ram()?;
    match tensor.datum_type() {
        DatumType::I8 => Ok(view
            .as_slice::<i8>()?
            .iter()
            .map(|of| (*of).into())
            .collect()),
        DatumType::U8 => Ok(view
            .as_slice::<u8>()?
            .iter()
            .map(|of| (*of).into())
            .collect()),
        other => bail!("weights of {other:?} are not packed"),
    }
}
