//! Products of matrices of signed bytes, with sums of 32 bits.
//!
//! Where the processor has VNNI the inner loops are our own ([`crate::int8::product`]), which read
//! activations where they lie. Elsewhere they are tract-linalg's, which has them for every processor:
//! SDOT on ARM, and plain ones. Its kernels read both matrices in panels of their own formats; weights
//! are brought into theirs once, activations at each call.

use crate::int8::product::Weights as Ours;
use tract_onnx::prelude::tract_linalg::mmm::{
    AsInputValue, EagerPackedInput, FusedSpec, MMMInputFormat, MMMInputValue, MatMatMul,
    MmmDispatch, PackedExoticFact, Query, Suitable, pick_by_shape,
};
use tract_onnx::prelude::tract_linalg::pack::PackedI8K4;

use tract_onnx::tract_hir::internal::{
    Blob, DatumType, Tensor, ToDim, TractErrorContext as _, TractResult, ensure, tvec,
};

/// Weights, ready to be multiplied with.
#[derive(Debug)]
pub(super) struct Weights {
    way: Way,
    depth: usize,
    columns: usize,
    /// The sum of each column.
    sums: Vec<i32>,
    /// The zero point of each column, as a signed byte has it; empty where all are 0.
    zeros: Vec<i32>,
}

/// Whose inner loops multiply.
#[derive(Debug)]
enum Way {
    /// Our own. They take activations as unsigned bytes: 128 more than the signed ones.
    Ours(Ours),
    /// tract-linalg's.
    Linalg {
        kernel: Box<dyn MatMatMul>,
        packing: usize,
        panels: Box<dyn MMMInputValue>,
    },
}

impl Weights {
    /// Packs weights given column by column, `channels` of them for each of `taps`, with the zero point
    /// of each column.
    pub(super) fn pack(
        columns: &[i8],
        (taps, channels): (usize, usize),
        zeros: Vec<i32>,
    ) -> TractResult<Self> {
        let (depth, count) = (taps * channels, zeros.len());
        ensure!(
            columns.len() == depth * count,
            "{} weights are no {count} columns of {depth}",
            columns.len()
        );
        let straight = zeros.iter().all(|zero| *zero == 0);
        let weight = |tap: usize, channel: usize, column: usize| {
            let at = column * depth + tap * channels + channel;
            columns.get(at).copied().unwrap_or_default()
        };
        let ours = straight.then(|| Ours::pack((taps, channels, count), weight));
        let way = match ours.flatten() {
            Some(ours) => Way::Ours(ours),
            None => linalg(columns, depth, count)?,
        };
        let sum = |column: &[i8]| column.iter().map(|weight| i32::from(*weight)).sum();
        let sums = if depth == 0 {
            vec![0; count]
        } else {
            columns.chunks_exact(depth).map(sum).collect()
        };
        Ok(Self {
            way,
            depth,
            columns: count,
            sums,
            zeros: if straight { Vec::new() } else { zeros },
        })
    }

    /// Our own weights, where the processor multiplies with them.
    pub(super) fn ours(&self) -> Option<&Ours> {
        match &self.way {
            Way::Ours(ours) => Some(ours),
            Way::Linalg { .. } => None,
        }
    }

    /// How many numbers a row of activations has.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// How many sums come out for each row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// How many bytes they hold.
    pub(super) fn bytes(&self) -> u64 {
        match &self.way {
            Way::Ours(ours) => ours.bytes(),
            Way::Linalg { .. } => (self.depth * self.columns) as u64,
        }
    }

    /// The zero point of each column; empty where all are 0.
    pub(super) fn zeros(&self) -> &[i32] {
        &self.zeros
    }

    /// What has to be added to the sums of each column where activations have the zero point `zero`, as
    /// a signed byte has it.
    pub(super) fn offset(&self, column: usize, zero: i32) -> i32 {
        let zero = match self.way {
            Way::Ours(_) => zero + 128,
            Way::Linalg { .. } => zero,
        };
        let sum = self.sums.get(column).copied().unwrap_or_default();
        let of_weights = self.zeros.get(column).copied().unwrap_or_default();
        let depth = i32::try_from(self.depth).unwrap_or(i32::MAX);
        let both = zero.wrapping_mul(of_weights).wrapping_mul(depth);
        both.wrapping_sub(zero.wrapping_mul(sum))
    }

    /// A matrix that takes the sums of up to `rows` rows.
    pub(super) fn sums_for(&self, rows: usize) -> TractResult<Tensor> {
        Tensor::zero::<i32>(&[rows, self.columns])
    }

    /// Multiplies `rows`, of [`Weights::depth`] activations each, and writes their sums into the first
    /// rows of `sums`. Returns how many rows there were.
    #[expect(
        unsafe_code,
        reason = "tract-linalg's kernels are called through raw pointers"
    )]
    pub(super) fn multiply(&self, rows: &[i8], sums: &mut Tensor) -> TractResult<usize> {
        let count = rows.len() / self.depth.max(1);
        ensure!(
            sums.datum_type() == DatumType::I32
                && sums.rank() == 2
                && sums.shape().first().is_some_and(|room| *room >= count)
                && sums.shape().get(1) == Some(&self.columns),
            "sums of shape {:?} take no {count} rows",
            sums.shape()
        );
        if count == 0 || self.columns == 0 {
            return Ok(count);
        }
        let (kernel, packing, weights) = match &self.way {
            Way::Ours(ours) => {
                let unsigned = rows.iter().map(|number| number.cast_unsigned() ^ 0x80);
                let unsigned: Vec<u8> = unsigned.collect();
                // Taps lie one after the other.
                let places = (0..count * self.depth).step_by(ours.depth().max(1));
                let places: Vec<usize> = places.collect();
                let mut view = sums.try_as_plain_ram_mut()?;
                ours.multiply(&unsigned, &places, &[], view.as_slice_mut::<i32>()?);
                return Ok(count);
            }
            Way::Linalg {
                kernel,
                packing,
                panels,
            } => (kernel, *packing, panels),
        };
        let (format, _) = kernel
            .packings()
            .get(packing)
            .context("a kernel without the packing it was chosen for")?;
        let activations = panels(&**format, rows, self.depth)?;
        // SAFETY: the sums are a matrix of i32, which is what the kernel adds up in.
        let store = unsafe { kernel.c_view(Some(0), Some(1)) };
        // SAFETY: the view is of a tensor that lives until the kernel has run, and is not read or
        // written by anyone else meanwhile.
        let store = unsafe { store.wrap(&sums.view_mut()) };
        let steps = [
            FusedSpec::AddMatMul {
                a: AsInputValue::Owned(activations),
                b: AsInputValue::Borrowed(&**weights),
                packing,
            },
            FusedSpec::Store(store),
        ];
        // SAFETY: the kernel is one this processor can run; both matrices are packed in the formats of
        // this packing, to the same depth; the sums have room for `count` rows and all columns.
        unsafe { kernel.run(count, self.columns, &steps)? };
        Ok(count)
    }
}

/// What is asked of a kernel.
fn query(depth: usize, columns: usize) -> Query {
    Query {
        weight: DatumType::I8.into(),
        activation: DatumType::I8,
        accumulators: tvec!(DatumType::I32),
        store: None,
        allow_extractor: false,
        m: None,
        k: Some(depth),
        // A single column would get a kernel for vectors, which reads the other matrix otherwise.
        n: Some(columns.max(2)),
    }
}

/// Weights in the format of the kernel that tract-linalg has for them.
fn linalg(columns: &[i8], depth: usize, count: usize) -> TractResult<Way> {
    let (kernel, packing, _) = chosen(&query(depth, count), depth)
        .context("this processor has no kernel for products of bytes")?;
    let (_, format) = kernel
        .packings()
        .get(packing)
        .context("a kernel without the packing it was chosen for")?;
    let matrix = Tensor::from_shape(&[count, depth], columns)?;
    let panels = format.prepare_one(&matrix, 1, 0)?;
    Ok(Way::Linalg {
        kernel,
        packing,
        panels,
    })
}

/// The kernel for a product of this depth: never one that reads more numbers of a column than the column
/// has. AMX takes 64 at once; tract 0.23.9 fills only the left side up to that, and reads up to 60 numbers
/// behind the weights, which ends the process where they end their page.
fn chosen(query: &Query, depth: usize) -> Option<Suitable> {
    let dispatch = MmmDispatch::native();
    let mut suitable = dispatch.suitable(query);
    suitable.retain(|(kernel, packing, _)| {
        let formats = kernel.packings().get(*packing);
        formats.is_some_and(|(left, right)| {
            let at_once = left.k_alignment().max(right.k_alignment());
            at_once <= FILLED || depth.is_multiple_of(at_once)
        })
    });
    let by_shape = || pick_by_shape(query, &suitable).and_then(|at| suitable.get(at).cloned());
    dispatch.preferred(query, &suitable).or_else(by_shape)
}

/// Numbers up to which every format fills both sides up.
const FILLED: usize = 4;

/// Activations in the format of a kernel.
fn panels(
    format: &dyn MMMInputFormat,
    rows: &[i8],
    depth: usize,
) -> TractResult<Box<dyn MMMInputValue>> {
    let count = rows.len() / depth.max(1);
    if let Some(fours) = format.downcast_ref::<PackedI8K4>() {
        let panel = fours.single_panel_len(depth);
        return Ok(packed(
            fours,
            rows,
            depth,
            (panel, fours.alignment()),
            in_fours,
        ));
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(lines) =
        format.downcast_ref::<tract_onnx::prelude::tract_linalg::x86_64::amx::PackedAmxA>()
    {
        let panel = lines.single_panel_len(depth);
        return Ok(packed(
            lines,
            rows,
            depth,
            (panel, lines.alignment()),
            in_lines,
        ));
    }
    let matrix = Tensor::from_shape(&[count, depth], rows)?;
    format.prepare_one(&matrix, 1, 0)
}

/// Lays rows out in panels of `panel` bytes by `fill`, which takes the rows of one panel, their depth,
/// and how many rows a panel has.
#[expect(
    unsafe_code,
    reason = "tract's aligned memory has no other way to be made"
)]
fn packed<F: MMMInputFormat + Clone>(
    format: &F,
    rows: &[i8],
    depth: usize,
    (panel, alignment): (usize, usize),
    fill: fn(&[i8], usize, usize, &mut [u8]),
) -> Box<dyn MMMInputValue> {
    let count = rows.len() / depth.max(1);
    let width = format.r().max(1);
    let length = count.div_ceil(width) * panel;
    // SAFETY: the alignment is the format's own, a power of two; every byte is written below before
    // any is read.
    let mut blob = unsafe { Blob::new_for_size_and_align(length, alignment) };
    let bytes = blob.as_bytes_mut();
    bytes.fill(0);
    let of_panel = rows.chunks((depth * width).max(1));
    for (bytes, rows) in bytes.chunks_exact_mut(panel.max(1)).zip(of_panel) {
        fill(rows, depth, width, bytes);
    }
    Box::new(EagerPackedInput {
        fact: PackedExoticFact {
            format: Box::new(format.clone()),
            mn: count.to_dim(),
            k: depth,
        },
        packed: blob.into(),
        panel_bytes: panel,
        mn: count,
    })
}

/// Four numbers of a row, then four of the next one: what VNNI and SDOT multiply at once.
fn in_fours(rows: &[i8], depth: usize, width: usize, panel: &mut [u8]) {
    for (place, row) in rows.chunks_exact(depth.max(1)).enumerate() {
        let into = panel.get_mut(place * 4..).unwrap_or_default();
        for (four, into) in row.chunks(4).zip(into.chunks_mut(width * 4)) {
            if let ([a, b, c, d], [w, x, y, z, ..]) = (four, &mut *into) {
                (*w, *x, *y, *z) = (
                    a.cast_unsigned(),
                    b.cast_unsigned(),
                    c.cast_unsigned(),
                    d.cast_unsigned(),
                );
            } else {
                for (into, value) in into.iter_mut().zip(four) {
                    *into = value.cast_unsigned();
                }
            }
        }
    }
}

/// Row after row, each filled up with zeros: what AMX loads.
#[cfg(target_arch = "x86_64")]
fn in_lines(rows: &[i8], depth: usize, width: usize, panel: &mut [u8]) {
    let line = panel.len() / width.max(1);
    let lines = panel.chunks_exact_mut(line.max(1));
    for (into, row) in lines.zip(rows.chunks_exact(depth.max(1))) {
        for (into, value) in into.iter_mut().zip(row) {
            *into = value.cast_unsigned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kernel_reads_behind_a_column() {
        for depth in 1..300 {
            for columns in [2, 16, 40] {
                let (kernel, packing, _) = chosen(&query(depth, columns), depth).unwrap();
                let (left, right) = &kernel.packings()[packing];
                let at_once = left.k_alignment().max(right.k_alignment());
                assert!(
                    at_once <= 4 || depth % at_once == 0,
                    "{} takes {at_once} of {depth}",
                    kernel.name()
                );
            }
        }
    }
}
