//! Products of a matrix with weights, where the rows of the matrix may lie scattered in an image.
//!
//! ```text
//! image     rows of `depth` numbers, wherever they lie
//! places    [rows, taps]: where the numbers of each tap of each row begin, or `OUTSIDE`
//! weights   [taps, depth, columns]        bias [columns]
//! result    [rows, columns] = bias + sum over taps and depth
//! ```
//!
//! With one tap and places one after the other this is a product of matrices; with the places of a
//! filter's pixels it is a convolution, of which no patch is ever laid out.
//!
//! The loops are written once over `Dot`, the numbers and vectors that they run on; [`crate::float`]
//! and [`crate::int8`] have those. Each sum is added up in one order, whatever rows and columns stand
//! beside it. Allocates nothing, and must never read outside its slices.

use std::ops::Range;

mod panels;
mod tile;

pub(crate) use panels::{Panels, View};
use tile::tile;

/// The place of what falls on padding, among places in an image.
pub const OUTSIDE: usize = usize::MAX;

/// Two panels of so many groups of weights for each column stay in the nearest cache.
const SHALLOW: usize = 128;

/// A vector of sums, one for each of some columns, and what is added to it. Its methods may only be
/// called, inlined, from functions that are compiled for processors that have it.
pub(crate) trait Dot: Copy {
    /// What rows are made of.
    type Number: Copy + Default;
    /// What weights are.
    type Weight: Copy + Default;
    /// What they are summed up in.
    type Sum: Copy + Default;
    /// What sums are held in as they leave.
    type Bounds: Copy;
    /// `GROUP` numbers of a row, four at most: as an array of them lies, of which every value is one.
    type Group: Copy;
    /// The same for each column.
    type Numbers: Copy;
    /// `GROUP` weights of each column.
    type Weights: Copy;

    /// How many columns a vector has.
    const COLUMNS: usize;
    /// How many products of a column are added at once.
    const GROUP: usize;
    /// As many rows as leave registers for the columns.
    const ROWS: usize;

    /// The first of `sums`; zeros when there are too few.
    fn sums(sums: &[Self::Sum]) -> Self;
    /// A group, for each column.
    fn numbers(group: Self::Group) -> Self::Numbers;
    /// The first of `weights`, `GROUP` for each column; zeros when there are too few.
    fn weights(weights: &[Self::Weight]) -> Self::Weights;
    /// With the products of these added.
    fn plus(self, numbers: Self::Numbers, weights: Self::Weights) -> Self;
    /// Writes the sums within bounds to the beginning of `to`, when they find room.
    fn store(self, bounds: Self::Bounds, to: &mut [Self::Sum]);
}

/// The left side of a product.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, N> {
    /// The numbers.
    pub image: &'a [N],
    /// Where each tap of each row begins, or [`OUTSIDE`].
    pub places: &'a [usize],
    /// What stands outside: as many numbers as a tap has.
    pub outside: &'a [N],
}

/// Where the sums go: row after row, each `stride` after the one before.
#[derive(Debug)]
pub(crate) struct Results<'a, S, B> {
    pub(crate) numbers: &'a mut [S],
    pub(crate) stride: usize,
    pub(crate) bounds: B,
}

impl<N> Rows<'_, N> {
    /// Whether `depth` numbers can be read at every place.
    fn are_inside(&self, depth: usize) -> bool {
        are_inside(self.places, self.image.len(), depth)
            && (self.outside.len() >= depth || !self.places.contains(&OUTSIDE))
    }
}

/// Whether each of `places` is [`OUTSIDE`], or has `depth` numbers of an image of `length` behind it.
#[inline(always)]
pub(crate) fn are_inside(places: &[usize], length: usize, depth: usize) -> bool {
    // One past the last, so that `OUTSIDE` comes first.
    let ends = (length + 1).saturating_sub(depth);
    // All of them, without a branch: the compiler looks at many at once.
    let inside = |place: &usize| place.wrapping_add(1) <= ends;
    places.iter().fold(true, |all, place| all & inside(place))
}

/// Multiplies every row with every panel, the panels on the outside: a panel stays in the nearest
/// cache. Writes as many rows as `rows.places` has; none, when a tap is not in the image whole.
#[inline(always)]
pub(crate) fn multiply<D: Dot>(
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let are_inside = rows.are_inside(panels.depth);
    debug_assert!(are_inside, "a tap is not in the image");
    if !are_inside {
        return;
    }
    let count = rows.places.len() / panels.taps.max(1);
    let panel_count = panels.columns.div_ceil(2 * D::COLUMNS);
    // Of a last panel that one vector is enough for, the other half holds nothing.
    let last = panels.columns % (2 * D::COLUMNS);
    let wide = panel_count - usize::from((1..=D::COLUMNS).contains(&last));
    let whole = count - count % 4;
    let shallow = panels.taps * panels.depth <= SHALLOW * D::GROUP;
    let mut panel = 0;
    // Two panels that lie in the nearest cache together share what is read of the rows.
    while shallow && D::ROWS == 12 && panel + 2 <= wide {
        let mut row = 0;
        while row + 6 <= whole {
            tile::<D, 6, 2, 2>(panels, rows, (row, panel), results);
            row += 6;
        }
        few::<D, 2, 2>(panels, rows, (row..whole, panel), results);
        panel += 2;
    }
    while panel < wide {
        alone::<D, 2>(panels, rows, (whole, panel), results);
        panel += 1;
    }
    if wide < panel_count {
        alone::<D, 1>(panels, rows, (whole, wide), results);
    }
    // A few rows alone have too few sums to keep the processor busy: they take panels together.
    if count - whole >= 2 {
        together::<D, 2, 2>(panels, rows, (whole, panel_count), results);
    }
    if (count - whole) % 2 == 1 {
        together::<D, 1, 4>(panels, rows, (count - 1, panel_count), results);
    }
}

/// The first `whole` rows with one panel, of which `VECTORS` vectors count.
#[inline(always)]
fn alone<D: Dot, const VECTORS: usize>(
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    (whole, panel): (usize, usize),
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let mut row = 0;
    while row + D::ROWS <= whole {
        match D::ROWS {
            12 => tile::<D, 12, 1, VECTORS>(panels, rows, (row, panel), results),
            6 => tile::<D, 6, 1, VECTORS>(panels, rows, (row, panel), results),
            _ => tile::<D, 4, 1, VECTORS>(panels, rows, (row, panel), results),
        }
        row += D::ROWS;
    }
    if D::ROWS > 8 && row + 8 <= whole {
        tile::<D, 8, 1, VECTORS>(panels, rows, (row, panel), results);
        row += 8;
    }
    few::<D, 1, VECTORS>(panels, rows, (row..whole, panel), results);
}

/// An even number of rows, less than eight.
#[inline(always)]
fn few<D: Dot, const PANELS: usize, const VECTORS: usize>(
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    (left, panel): (Range<usize>, usize),
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let mut row = left.start;
    while row + 4 <= left.end {
        tile::<D, 4, PANELS, VECTORS>(panels, rows, (row, panel), results);
        row += 4;
    }
    if row < left.end {
        tile::<D, 2, PANELS, VECTORS>(panels, rows, (row, panel), results);
    }
}

/// `ROWS` rows with all panels, `PANELS` at a time.
#[inline(always)]
fn together<D: Dot, const ROWS: usize, const PANELS: usize>(
    panels: View<'_, D::Weight, D::Sum>,
    rows: Rows<'_, D::Number>,
    (row, count): (usize, usize),
    results: &mut Results<'_, D::Sum, D::Bounds>,
) {
    let whole = count - count % PANELS;
    for panel in (0..whole).step_by(PANELS) {
        tile::<D, ROWS, PANELS, 2>(panels, rows, (row, panel), results);
    }
    for panel in whole..count {
        tile::<D, ROWS, 1, 2>(panels, rows, (row, panel), results);
    }
}
