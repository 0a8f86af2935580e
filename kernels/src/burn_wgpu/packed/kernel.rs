//! The kernels over packed weights. None needs subgroups or more than 9 KiB of shared memory.
//!
//! ```text
//! words    u32 [columns, stride]    codes of one column, one after the other, the first in the lowest bits
//! scales   f32 [columns, blocks]    zeros  i32, the same, or one: a weight is (code - zero) * scale
//! x        f32 or i32; of whole numbers the sums of 32 bits leave, and no scale is looked at
//! ```
//!
//! Every kernel has a plain form in `packed/tests.rs`.

#![expect(
    clippy::indexing_slicing,
    reason = "on the device, where an index is held within its buffer"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "places are counted in 32 bits on the device, and no buffer there has more"
)]

use cubecl::prelude::*;

/// Places of numbers in `extents`.
pub(super) mod at {
    pub(in super::super) const ROWS: usize = 0;
    /// Of one group.
    pub(in super::super) const COLUMNS: usize = 1;
    pub(in super::super) const DEPTH: usize = 2;
    pub(in super::super) const STRIDE: usize = 3;
    pub(in super::super) const BLOCK: usize = 4;
    pub(in super::super) const BLOCKS: usize = 5;
    pub(in super::super) const GROUPS: usize = 6;
    /// Of one group.
    pub(in super::super) const CHANNELS: usize = 7;
    /// Rows, columns.
    pub(in super::super) const KERNEL: usize = 8;
    pub(in super::super) const STRIDES: usize = 10;
    pub(in super::super) const DILATIONS: usize = 12;
    pub(in super::super) const BEFORE: usize = 14;
    pub(in super::super) const IMAGE: usize = 16;
    pub(in super::super) const OUTPUT: usize = 18;
    /// How many there are.
    pub(in super::super) const COUNT: usize = 20;
}

/// What is multiplied with the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Numbers {
    /// Real numbers: the scales count.
    Real,
    /// Whole ones.
    Whole,
    /// Whole ones with a zero point.
    Moved,
}

impl Numbers {
    fn is_real(self) -> bool {
        self == Self::Real
    }

    fn is_moved(self) -> bool {
        self == Self::Moved
    }
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// 8 or 4.
    pub(super) bits: u32,
    /// Whether a column has more than one scale.
    pub(super) blocked: bool,
    /// Whether each scale has a zero point of its own, not all the same.
    pub(super) moved: bool,
    /// What `x` is.
    pub(super) numbers: Numbers,
    /// Whether `x` is images, of which a row is a window.
    pub(super) windows: bool,
}

/// Units of a cube of [`product()`], on each axis.
pub(super) const SIDE: u32 = 16;
/// Rows and columns that a cube of [`product()`] computes.
pub(super) const TILE: u32 = 32;
/// Neighbours along the depth that it has in shared memory at a time.
const STEP: u32 = 32;
/// Their rows there, one longer so that neighbours lie in different banks.
const ROW: u32 = STEP + 1;
/// Units of a cube of [`vector()`].
pub(super) const UNITS: u32 = 64;

/// One weight.
#[cube]
fn weight<N: Numeric>(word: u32, place: u32, scale: f32, zero: i32, #[comptime] form: Form) -> N {
    let mask = comptime!((1u32 << form.bits) - 1);
    let code = (word >> (place * comptime!(form.bits))) & mask;
    let whole = i32::cast_from(code) - zero;
    if comptime!(form.numbers.is_real()) {
        N::cast_from(f32::cast_from(whole) * scale)
    } else {
        N::cast_from(whole)
    }
}

/// The place of the scale of neighbour `k` of a column.
#[cube]
fn scale_at(column: u32, k: u32, extents: &[u32], #[comptime] form: Form) -> usize {
    if comptime!(form.blocked) {
        (column * extents[at::BLOCKS] + k / extents[at::BLOCK]) as usize
    } else {
        column as usize
    }
}

/// The zero point beside the scale at `place`.
#[cube]
fn zero_at(zeros: &[i32], place: usize, #[comptime] form: Form) -> i32 {
    if comptime!(form.moved) {
        zeros[place]
    } else {
        zeros[0]
    }
}

/// The element of `x` that weight `k` of a column of `group` is multiplied with for `row`.
#[cube]
fn left<N: Numeric>(
    x: &[N],
    zero: &[N],
    extents: &[u32],
    row: u32,
    k: u32,
    group: u32,
    #[comptime] form: Form,
) -> N {
    let mut value = N::from_int(0);
    if row < extents[at::ROWS] && k < extents[at::DEPTH] {
        if comptime!(form.windows) {
            let width = extents[at::OUTPUT + 1];
            let pixels = extents[at::OUTPUT] * width;
            let taps = extents[at::KERNEL] * extents[at::KERNEL + 1];
            let pixel = row % pixels;
            let tap = k % taps;
            let down = pixel / width * extents[at::STRIDES]
                + tap / extents[at::KERNEL + 1] * extents[at::DILATIONS];
            let right = pixel % width * extents[at::STRIDES + 1]
                + tap % extents[at::KERNEL + 1] * extents[at::DILATIONS + 1];
            let inside = down >= extents[at::BEFORE]
                && down < extents[at::BEFORE] + extents[at::IMAGE]
                && right >= extents[at::BEFORE + 1]
                && right < extents[at::BEFORE + 1] + extents[at::IMAGE + 1];
            if inside {
                let channels = extents[at::CHANNELS];
                let channel = (row / pixels * extents[at::GROUPS] + group) * channels + k / taps;
                let line = channel * extents[at::IMAGE] + down - extents[at::BEFORE];
                let place = line * extents[at::IMAGE + 1] + right - extents[at::BEFORE + 1];
                value = x[place as usize];
                if comptime!(form.numbers.is_moved()) {
                    value -= zero[0];
                }
            }
        } else {
            value = x[(row * extents[at::DEPTH] + k) as usize];
            if comptime!(form.numbers.is_moved()) {
                value -= zero[0];
            }
        }
    }
    value
}

/// Where the sum of `row` and `column` of `group` goes.
#[cube]
fn output_at(row: u32, column: u32, group: u32, extents: &[u32], #[comptime] form: Form) -> usize {
    let columns = extents[at::COLUMNS];
    if comptime!(form.windows) {
        let pixels = extents[at::OUTPUT] * extents[at::OUTPUT + 1];
        let image = (row / pixels * extents[at::GROUPS] + group) * columns + column;
        (image * pixels + row % pixels) as usize
    } else {
        (row * columns + column) as usize
    }
}

/// One word of weights into shared memory, by each unit: the depth from `begin` on.
#[cube]
fn load<N: Numeric>(
    words: &[u32],
    scales: &[f32],
    zeros: &[i32],
    extents: &[u32],
    rights: &mut [N],
    begin: u32,
    group: u32,
    #[comptime] form: Form,
) {
    let per = comptime!(32 / form.bits);
    let column = UNIT_POS / comptime!(form.bits);
    let word = UNIT_POS % comptime!(form.bits);
    let of_group = CUBE_POS_X * TILE + column;
    let place = begin / per + word;
    let is_there = of_group < extents[at::COLUMNS] && place < extents[at::STRIDE];
    let of_all = group * extents[at::COLUMNS] + of_group;
    let mut codes = 0u32;
    let mut scale = 0f32;
    let mut zero = 0i32;
    if is_there {
        codes = words[(of_all * extents[at::STRIDE] + place) as usize];
        let at = scale_at(of_all, place * per, extents, form);
        scale = scales[at];
        zero = zero_at(zeros, at, form);
    }
    #[unroll]
    for i in 0..per {
        let mut value = N::from_int(0);
        if is_there && place * per + i < extents[at::DEPTH] {
            value = weight::<N>(codes, i, scale, zero, form);
        }
        rights[(column * ROW + word * per + i) as usize] = value;
    }
}

/// Writes a sum, if there is such a row and such a column.
#[cube]
fn put<N: Numeric>(
    out: &mut [N],
    sum: N,
    row: u32,
    column: u32,
    group: u32,
    extents: &[u32],
    #[comptime] form: Form,
) {
    if row < extents[at::ROWS] && column < extents[at::COLUMNS] {
        out[output_at(row, column, group, extents, form)] = sum;
    }
}

/// A tile of rows and columns by each cube: the cubes lie over columns, rows, groups.
#[cube(launch)]
pub(super) fn product<N: Numeric>(
    x: &[N],
    zero: &[N],
    words: &[u32],
    scales: &[f32],
    zeros: &[i32],
    extents: &[u32],
    out: &mut [N],
    #[comptime] form: Form,
) {
    let mut lefts = Shared::<[N]>::new_slice(comptime!((TILE * ROW) as usize));
    let mut rights = Shared::<[N]>::new_slice(comptime!((TILE * ROW) as usize));
    let first_row = CUBE_POS_Y * TILE;
    let first_column = CUBE_POS_X * TILE;
    let group = CUBE_POS_Z;
    let down = UNIT_POS / SIDE;
    let across = UNIT_POS % SIDE;
    let mut sum_00 = N::from_int(0);
    let mut sum_01 = N::from_int(0);
    let mut sum_10 = N::from_int(0);
    let mut sum_11 = N::from_int(0);
    let mut begin = 0u32;
    while begin < extents[at::DEPTH] {
        #[unroll]
        for turn in 0..comptime!(TILE * STEP / (SIDE * SIDE)) {
            let place = UNIT_POS + turn * comptime!(SIDE * SIDE);
            let row = place / STEP;
            let k = place % STEP;
            lefts[(row * ROW + k) as usize] =
                left::<N>(x, zero, extents, first_row + row, begin + k, group, form);
        }
        // STEP codes of a column are `bits` words.
        if UNIT_POS < comptime!(TILE * form.bits) {
            load::<N>(
                words,
                scales,
                zeros,
                extents,
                &mut rights,
                begin,
                group,
                form,
            );
        }
        sync_cube();
        for k in 0..STEP {
            let upper = lefts[(down * 2 * ROW + k) as usize];
            let lower = lefts[((down * 2 + 1) * ROW + k) as usize];
            let first = rights[(across * 2 * ROW + k) as usize];
            let second = rights[((across * 2 + 1) * ROW + k) as usize];
            sum_00 += upper * first;
            sum_01 += upper * second;
            sum_10 += lower * first;
            sum_11 += lower * second;
        }
        sync_cube();
        begin += STEP;
    }
    let row = first_row + down * 2;
    let column = first_column + across * 2;
    put(out, sum_00, row, column, group, extents, form);
    put(out, sum_01, row, column + 1, group, extents, form);
    put(out, sum_10, row + 1, column, group, extents, form);
    put(out, sum_11, row + 1, column + 1, group, extents, form);
}

/// One row and one column by each cube, whose units share the depth: for few rows. The cubes lie over
/// columns (two axes) and rows.
#[cube(launch)]
pub(super) fn vector<N: Numeric>(
    x: &[N],
    zero: &[N],
    words: &[u32],
    scales: &[f32],
    zeros: &[i32],
    extents: &[u32],
    out: &mut [N],
    #[comptime] form: Form,
) {
    let mut sums = Shared::<[N]>::new_slice(comptime!(UNITS as usize));
    let column = CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X;
    let row = CUBE_POS_Z;
    let per = comptime!(32 / form.bits);
    let mut sum = N::from_int(0);
    if column < extents[at::COLUMNS] {
        let mut place = UNIT_POS;
        while place < extents[at::STRIDE] {
            let codes = words[(column * extents[at::STRIDE] + place) as usize];
            let at = scale_at(column, place * per, extents, form);
            let scale = scales[at];
            let of_zero = zero_at(zeros, at, form);
            #[unroll]
            for i in 0..per {
                let value = left::<N>(x, zero, extents, row, place * per + i, 0u32, form);
                sum += value * weight::<N>(codes, i, scale, of_zero, form);
            }
            place += UNITS;
        }
    }
    sums[UNIT_POS as usize] = sum;
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        sync_cube();
        if UNIT_POS < half {
            let other = sums[(UNIT_POS + half) as usize];
            sums[UNIT_POS as usize] += other;
        }
        half /= 2;
    }
    if UNIT_POS == 0 && column < extents[at::COLUMNS] {
        out[(row * extents[at::COLUMNS] + column) as usize] = sums[0];
    }
}

/// One number of the output by each unit: for few columns in each group.
#[cube(launch)]
pub(super) fn single<N: Numeric>(
    x: &[N],
    zero: &[N],
    words: &[u32],
    scales: &[f32],
    zeros: &[i32],
    extents: &[u32],
    out: &mut [N],
    #[comptime] form: Form,
) {
    let of_group = extents[at::COLUMNS];
    let columns = of_group * extents[at::GROUPS];
    let place = ABSOLUTE_POS as u32;
    if place < extents[at::ROWS] * columns {
        let row = place / columns;
        let column = place % columns;
        let group = column / of_group;
        let per = comptime!(32 / form.bits);
        let mut sum = N::from_int(0);
        for word in 0..extents[at::STRIDE] {
            let codes = words[(column * extents[at::STRIDE] + word) as usize];
            let at = scale_at(column, word * per, extents, form);
            let scale = scales[at];
            let of_zero = zero_at(zeros, at, form);
            #[unroll]
            for i in 0..per {
                let value = left::<N>(x, zero, extents, row, word * per + i, group, form);
                sum += value * weight::<N>(codes, i, scale, of_zero, form);
            }
        }
        out[output_at(row, column % of_group, group, extents, form)] = sum;
    }
}

/// The weights themselves, `[columns, depth]`: one word by each unit.
#[cube(launch)]
pub(super) fn unpack(
    words: &[u32],
    scales: &[f32],
    zeros: &[i32],
    extents: &[u32],
    out: &mut [f32],
    #[comptime] form: Form,
) {
    let place = ABSOLUTE_POS as u32;
    let stride = extents[at::STRIDE];
    if place < extents[at::COLUMNS] * stride {
        let per = comptime!(32 / form.bits);
        let column = place / stride;
        let word = place % stride;
        let at = scale_at(column, word * per, extents, form);
        let codes = words[place as usize];
        let scale = scales[at];
        let zero = zero_at(zeros, at, form);
        #[unroll]
        for i in 0..per {
            let k = word * per + i;
            if k < extents[at::DEPTH] {
                out[(column * extents[at::DEPTH] + k) as usize] =
                    weight::<f32>(codes, i, scale, zero, form);
            }
        }
    }
}

/// Real numbers to whole ones between `least` and `most`: `round(x / scale) + zero`. A scale is for
/// `inner` neighbours, and behind the last comes the first again.
#[cube(launch)]
pub(super) fn quantise(
    x: &[f32],
    scales: &[f32],
    zeros: &[i32],
    out: &mut [i32],
    inner: u32,
    count: u32,
    least: f32,
    most: f32,
) {
    if ABSOLUTE_POS < out.len() {
        let at = (ABSOLUTE_POS as u32 / inner % count) as usize;
        let steps = (x[ABSOLUTE_POS] / scales[at]).round() + f32::cast_from(zeros[at]);
        out[ABSOLUTE_POS] = i32::cast_from(clamp(steps, least, most));
    }
}

/// Whole numbers to real ones: `(x - zero) * scale`, with scales as [`quantise()`] has them.
#[cube(launch)]
pub(super) fn dequantise(
    x: &[i32],
    scales: &[f32],
    zeros: &[i32],
    out: &mut [f32],
    inner: u32,
    count: u32,
) {
    if ABSOLUTE_POS < out.len() {
        let at = (ABSOLUTE_POS as u32 / inner % count) as usize;
        out[ABSOLUTE_POS] = f32::cast_from(x[ABSOLUTE_POS] - zeros[at]) * scales[at];
    }
}

/// The scale and the zero point of bytes for numbers between `least` and `most`, and 0.
#[cube(launch)]
pub(super) fn range(least: &[f32], most: &[f32], scale: &mut [f32], zero: &mut [i32]) {
    if ABSOLUTE_POS == 0 {
        let low = least[0].min(0.0f32);
        let high = most[0].max(0.0f32);
        let mut step = (high - low) / 255.0f32;
        if high == low {
            step = 1.0f32;
        }
        scale[0] = step;
        zero[0] = i32::cast_from(clamp((-low / step).round(), 0.0f32, 255.0f32));
    }
}
