//! One tile of a product: some rows with some panels, whose sums stay in registers from the bias to the
//! results.
//!
//! What is unchecked here was checked once for the whole product; see [`super::multiply`].

use super::{Dot, OUTSIDE, Results, Rows, View};

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// The sums of some rows with some panels, `VECTORS` vectors each, in registers.
type Sums<D, const ROWS: usize, const PANELS: usize, const VECTORS: usize> =
    [[[D; VECTORS]; PANELS]; ROWS];

/// Computes `ROWS` rows from `row` on with `PANELS` panels from `panel` on, and writes the results.
#[inline(always)]
pub(super) fn tile<D: Dot, const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    (row, panel): (usize, usize),
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let (wide, taps) = (2 * D::COLUMNS, panels.taps);
    let mut first = [[D::sums(&[]); VECTORS]; PANELS];
    for (number, vectors) in first.iter_mut().enumerate() {
        let bias = panels.bias.get((panel + number) * wide..);
        let bias = bias.unwrap_or_default().chunks_exact(D::COLUMNS);
        for (vector, bias) in vectors.iter_mut().zip(bias) {
            *vector = D::sums(bias);
        }
    }
    let Some(places) = rows.places.get(row * taps..(row + ROWS) * taps) else {
        return;
    };
    let wanted = wanted::<D>(panels, (row, ROWS, panel));
    let sums = summed([first; ROWS], panels, rows, (places, panel, wanted));
    write(&sums, panels.columns, (row, panel), results);
}

/// `sums` with all products added. They are passed by value and come back as another: what is written
/// and read one after the other elsewhere would keep the compiler from holding them in registers here.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a check of each tap costs more than a short one's products"
)]
fn summed<D: Dot, const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
    mut sums: Sums<D, ROWS, PANELS, VECTORS>,
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    (places, panel, wanted): (&[usize], usize, *const u8),
) -> Sums<D, ROWS, PANELS, VECTORS> {
    let (taps, depth) = (panels.taps, panels.depth);
    let groups = depth / D::GROUP;
    let line = 2 * D::COLUMNS * D::GROUP;
    let length = depth.div_ceil(D::GROUP) * line;
    if places.len() < taps * ROWS {
        return sums;
    }
    for tap in 0..taps {
        let mut of_row = [std::ptr::null::<D::Number>(); ROWS];
        for (row, of_row) in of_row.iter_mut().enumerate() {
            // SAFETY: there are `taps` places for each of `ROWS` rows, as was checked.
            let place = unsafe { *places.get_unchecked(row * taps + tap) };
            *of_row = if place == OUTSIDE {
                rows.outside.as_ptr()
            } else {
                rows.image.as_ptr().wrapping_add(place)
            };
        }
        let mut of_panel = [&[] as &[D::Weight]; PANELS];
        for (number, of_panel) in of_panel.iter_mut().enumerate() {
            let at = ((panel + number) * taps + tap) * length;
            *of_panel = panels.weights.get(at..at + length).unwrap_or_default();
        }
        let wanted = wanted.wrapping_add(tap * depth.div_ceil(D::GROUP) * LINE);
        // SAFETY: `multiply` checked that every place has `depth` numbers, as what is outside has.
        unsafe { add(&mut sums, of_row, of_panel, (groups, wanted)) };
        let whole = groups * D::GROUP;
        if whole < depth {
            let mut last = [[D::Number::default(); 4]; ROWS];
            for (last, row) in last.iter_mut().zip(&mut of_row) {
                let rest = row.wrapping_add(whole);
                // SAFETY: as above.
                let rest = unsafe { std::slice::from_raw_parts(rest, depth - whole) };
                last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                *row = last.as_ptr();
            }
            for weights in &mut of_panel {
                *weights = weights.get(groups * line..).unwrap_or_default();
            }
            // SAFETY: a group is of four numbers at most.
            unsafe { add(&mut sums, of_row, of_panel, (1, wanted)) };
        }
    }
    sums
}

/// Adds the products of `groups` groups. Nothing in the loop branches: one check in it, and the compiler
/// keeps the sums in memory.
///
/// # Safety
/// Each of `rows` points to as many groups of numbers.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "checks of each access cost this loop, the one that networks spend their time in, two thirds of its speed"
)]
unsafe fn add<D: Dot, const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
    sums: &mut Sums<D, ROWS, PANELS, VECTORS>,
    rows: [*const D::Number; ROWS],
    panels: [&[D::Weight]; PANELS],
    (groups, wanted): (usize, *const u8),
) {
    let vector = D::COLUMNS * D::GROUP;
    let line = 2 * vector;
    if panels.iter().any(|panel| panel.len() < groups * line) || VECTORS > 2 {
        return;
    }
    for place in 0..groups {
        ahead(wanted.wrapping_add(place * LINE));
        let mut weights = [[D::weights(&[]); VECTORS]; PANELS];
        for (weights, panel) in weights.iter_mut().zip(panels) {
            for (number, weights) in weights.iter_mut().enumerate() {
                let at = place * line + number * vector;
                // SAFETY: a panel has `groups` lines, as was checked, each of two vectors.
                *weights = D::weights(unsafe { panel.get_unchecked(at..at + vector) });
            }
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            let group = row.wrapping_add(place * D::GROUP).cast::<D::Group>();
            // SAFETY: a row has `groups` groups, as the caller says.
            let numbers = D::numbers(unsafe { group.read_unaligned() });
            for (sums, weights) in sums.iter_mut().zip(weights) {
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = sum.plus(numbers, weights);
                }
            }
        }
    }
}

/// Where the weights lie that are wanted next while the tile from `row` on takes a panel in: its first
/// tiles ask for the panel behind, so that it comes from memory while this one is computed with.
#[inline(always)]
fn wanted<D: Dot>(
    panels: View<'_, D::Weight, D::Sum>,
    (row, rows, panel): (usize, usize, usize),
) -> *const u8 {
    let line = 2 * D::COLUMNS * D::GROUP * size_of::<D::Weight>();
    let steps = panels.taps * panels.depth.div_ceil(D::GROUP);
    let tile = row / rows;
    let at = if tile * LINE < line {
        (panel + 1) * steps * line + tile * steps * LINE
    } else {
        panel * steps * line
    };
    panels.weights.as_ptr().cast::<u8>().wrapping_add(at)
}

/// Has the processor bring what lies in `place` nearer.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "a third of the time of deep products was spent waiting for weights from memory"
    )
)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "there is no stable instruction for it")
)]
fn ahead(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

        // SAFETY: a prefetch reads nothing that the program can see, and fails nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
    }
}

/// Writes the sums.
#[inline(always)]
fn write<D: Dot, const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
    sums: &Sums<D, ROWS, PANELS, VECTORS>,
    columns: usize,
    (row, panel): (usize, usize),
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let (first, wide) = (2 * panel * D::COLUMNS, PANELS * VECTORS * D::COLUMNS);
    if first + wide <= columns {
        // Panels stand side by side; more than one have two vectors each.
        for (number, of_row) in sums.iter().enumerate() {
            let start = (row + number) * results.stride + first;
            let Some(line) = results.numbers.get_mut(start..start + wide) else {
                return;
            };
            let vectors = of_row.iter().flatten();
            for (vector, to) in vectors.zip(line.chunks_exact_mut(D::COLUMNS)) {
                vector.store(results.bounds, to);
            }
        }
        return;
    }
    for (number, of_row) in sums.iter().enumerate() {
        let start = (row + number) * results.stride;
        let Some(line) = results.numbers.get_mut(start..) else {
            return;
        };
        let length = line.len().min(columns);
        for (number, vector) in of_row.iter().flatten().enumerate() {
            let first = (2 * panel + number) * D::COLUMNS;
            let Some(to) = line.get_mut(first..length) else {
                break;
            };
            if to.len() >= D::COLUMNS {
                vector.store(results.bounds, to);
            } else {
                let mut whole = [D::Sum::default(); 16];
                vector.store(results.bounds, &mut whole);
                to.iter_mut().zip(whole).for_each(|(to, sum)| *to = sum);
            }
        }
    }
}
