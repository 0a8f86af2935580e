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
use std::sync::{Mutex, PoisonError};

use crate::{pages, team};

/// The place of what falls on padding, among places in an image.
pub const OUTSIDE: usize = usize::MAX;

/// Two panels of so many groups of weights for each column stay in the nearest cache.
const SHALLOW: usize = 128;

/// Rows for each thread that are enough to be shared out; of fewer, columns are.
const ROWS: usize = 32;

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// Bytes of weights that go by in about a nanosecond, each as often as there are rows.
const PASSED: usize = 128;

/// Numbers of an image that stay in a second-level cache while all columns pass over them.
const NEAR: usize = 1 << 16;

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

/// Weights in panels of two vectors of columns each: `[panel, tap, depth / group, column, group]`.
#[derive(Debug, Clone)]
pub(crate) struct Panels<W, S> {
    weights: Vec<W>,
    /// The bias of each column, filled up to whole panels.
    bias: Vec<S>,
    taps: usize,
    depth: usize,
    columns: usize,
    /// Columns of a panel.
    panel: usize,
}

/// Some of the panels, side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a, W, S> {
    weights: &'a [W],
    bias: &'a [S],
    taps: usize,
    depth: usize,
    columns: usize,
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

impl<W: Copy + Default, S: Copy + Default> Panels<W, S> {
    /// Packs weights for vectors of `wide` columns in groups of `group`. `weight(tap, depth, column)`
    /// is one of them; no `bias` is all 0.
    pub(crate) fn pack(
        (wide, group): (usize, usize),
        (taps, depth, columns): (usize, usize, usize),
        weight: impl Fn(usize, usize, usize) -> W,
        bias: Option<&[S]>,
    ) -> Self {
        let panel = 2 * wide;
        let count = columns.div_ceil(panel);
        let groups = depth.div_ceil(group);
        let mut weights = pages::list_of(count * taps * groups * group * panel);
        for first in (0..columns).step_by(panel) {
            for (tap, at) in (0..taps).flat_map(|tap| (0..groups).map(move |at| (tap, at))) {
                for column in first..first + panel {
                    weights.extend((at * group..at * group + group).map(|place| {
                        if column < columns && place < depth {
                            weight(tap, place, column)
                        } else {
                            W::default()
                        }
                    }));
                }
            }
        }
        let given = bias.unwrap_or_default().iter().copied();
        let mut bias: Vec<S> = given.take(columns).collect();
        bias.resize(count * panel, S::default());
        Self {
            weights,
            bias,
            taps,
            depth,
            columns,
            panel,
        }
    }

    /// All panels.
    pub(crate) fn all(&self) -> View<'_, W, S> {
        View {
            weights: &self.weights,
            bias: &self.bias,
            taps: self.taps,
            depth: self.depth,
            columns: self.columns,
        }
    }

    /// The panels that hold `columns`, which begin where a panel does.
    fn some(&self, columns: Range<usize>) -> View<'_, W, S> {
        // What is filled up to whole panels.
        let all = self.bias.len().max(1);
        let of_column = self.weights.len() / all;
        let end = columns.end.min(self.columns);
        let filled = all.min(end.next_multiple_of(self.panel.max(1)));
        let (first, filled) = (columns.start.min(filled), filled);
        View {
            weights: self
                .weights
                .get(first * of_column..filled * of_column)
                .unwrap_or_default(),
            bias: self.bias.get(first..filled).unwrap_or_default(),
            columns: end.saturating_sub(first),
            ..self.all()
        }
    }

    /// How many places a row has.
    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    /// How many sums come out for each row.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of_val(&*self.weights) + size_of_val(&*self.bias)) as u64
    }

    /// How many numbers a tap of a row has.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// How many rows are best multiplied at once, of `rows` that there are: so many that what they read
    /// and write stays near, and that each thread of the call has some.
    pub(crate) fn block(&self, rows: usize) -> usize {
        let most = NEAR / self.depth.max(self.columns).max(1);
        let most = most.clamp(48, 480);
        // Blocks of the same size: a last one of few rows would read all weights for them.
        let block = rows.div_ceil(rows.div_ceil(most).max(1));
        let block = block.next_multiple_of(12).max(12);
        if self.is_worth_sharing(rows) && rows >= team::threads() * ROWS {
            block.min(team::part(rows, 4, 48))
        } else {
            block
        }
    }

    /// Whether a product of so many rows takes longer than it takes to share it with another thread.
    pub(crate) fn is_worth_sharing(&self, rows: usize) -> bool {
        // A few rows wait for the weights, not for the sums.
        team::is_worth(self.nanoseconds() * rows.max(4))
    }

    /// About how long a row takes, among others.
    pub(crate) fn nanoseconds(&self) -> usize {
        size_of_val(&*self.weights).div_ceil(PASSED)
    }

    /// Multiplies `rows` rows by `run`, which is given some of the panels and where their sums go; by
    /// several threads of the call where that is worth it. Rows that are shared out themselves come here
    /// in blocks, of which each has one thread.
    pub(crate) fn share<B: Copy + Sync>(
        &self,
        rows: usize,
        mut results: Results<'_, S, B>,
        run: impl Fn(View<'_, W, S>, &mut Results<'_, S, B>) + Sync,
    ) where
        W: Sync,
        S: Send + Sync,
    {
        let panels = self.columns.div_ceil(self.panel.max(1));
        if panels < 2 || !self.is_worth_sharing(rows) {
            run(self.all(), &mut results);
            return;
        }
        let columns = team::part(panels, 1, 2) * self.panel;
        let Results { stride, bounds, .. } = results;
        let whole = Mutex::new(results.numbers);
        team::each(self.columns.div_ceil(columns), |part| {
            let first = part * columns;
            let view = self.some(first..first + columns);
            let mut numbers = vec![S::default(); rows * view.columns];
            let mut results = Results {
                numbers: &mut numbers,
                stride: view.columns,
                bounds,
            };
            run(view, &mut results);
            let mut whole = whole.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, numbers) in numbers.chunks_exact(view.columns.max(1)).enumerate() {
                let at = row * stride + first;
                if let Some(to) = whole.get_mut(at..at + numbers.len()) {
                    to.copy_from_slice(numbers);
                }
            }
        });
    }
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

/// The sums of some rows with some panels, `VECTORS` vectors each, in registers.
type Sums<D, const ROWS: usize, const PANELS: usize, const VECTORS: usize> =
    [[[D; VECTORS]; PANELS]; ROWS];

#[inline(always)]
fn tile<D: Dot, const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
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
                // SAFETY: as above.
                let rest = unsafe { std::slice::from_raw_parts(row.add(whole), depth - whole) };
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
            // SAFETY: a row has `groups` groups, as the caller says.
            let numbers = unsafe {
                row.add(place * D::GROUP)
                    .cast::<D::Group>()
                    .read_unaligned()
            };
            let numbers = D::numbers(numbers);
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
