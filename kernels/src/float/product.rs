//! Products of real numbers with weights; see [`crate::product`] for how rows, places and weights lie.

use super::Bounds;
use super::lanes::{Lanes, Width, with_width};
use crate::product::{self, Dot, Panels, Results, Rows, View};
use crate::team;

/// Weights, packed.
#[derive(Debug, Clone)]
pub struct Weights {
    width: Width,
    panels: Panels<f32, f32>,
    /// What padding is.
    zeros: Vec<f32>,
}

/// Vectors of real numbers, as products use them.
#[derive(Debug, Clone, Copy)]
struct Reals<L>(L);

impl<L: Lanes> Dot for Reals<L> {
    type Number = f32;
    type Weight = f32;
    type Sum = f32;
    type Bounds = Bounds;
    type Group = f32;
    type Numbers = L;
    type Weights = L;

    const COLUMNS: usize = L::NUMBERS;
    const GROUP: usize = 1;
    const ROWS: usize = L::ROWS;

    #[inline(always)]
    fn sums(sums: &[f32]) -> Self {
        Self(L::load(sums))
    }

    #[inline(always)]
    fn numbers(number: f32) -> L {
        L::splat(number)
    }

    #[inline(always)]
    fn weights(weights: &[f32]) -> L {
        L::load(weights)
    }

    #[inline(always)]
    fn plus(self, numbers: L, weights: L) -> Self {
        Self(numbers.mul_add(weights, self.0))
    }

    #[inline(always)]
    fn store(self, bounds: Bounds, to: &mut [f32]) {
        let (least, most) = (L::splat(bounds.least), L::splat(bounds.most));
        self.0.within(least, most).store(to);
    }
}

impl Weights {
    /// Packs weights of `(taps, depth, columns)`. `weight(tap, depth, column)` is one of them; no
    /// `bias` is all 0.
    #[must_use]
    pub fn pack(
        extents: (usize, usize, usize),
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Self {
        Self::pack_for(Width::widest(), extents, weight, bias)
    }

    pub(super) fn pack_for(
        width: Width,
        extents: (usize, usize, usize),
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Self {
        Self {
            width,
            panels: Panels::pack((width.numbers(), 1), extents, weight, bias),
            zeros: vec![0.0; extents.1],
        }
    }

    /// How many sums come out for each row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.panels.columns()
    }

    /// How many numbers a tap of a row has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.panels.depth()
    }

    /// About how long a row takes, among others.
    pub(crate) fn nanoseconds(&self) -> usize {
        self.panels.nanoseconds()
    }

    /// How many bytes they hold.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.panels.bytes()
    }

    /// How many rows are best multiplied at once, of `rows` that there are.
    #[must_use]
    pub fn block(&self, rows: usize) -> usize {
        self.panels.block(rows)
    }

    /// Multiplies, and writes as many rows as there are `places`, each `stride` after the one before.
    pub fn multiply(
        &self,
        image: &[f32],
        places: &[usize],
        bounds: Bounds,
        numbers: &mut [f32],
        stride: usize,
    ) {
        let rows = Rows {
            image,
            places,
            outside: &self.zeros,
        };
        let results = Results {
            numbers,
            stride,
            bounds,
        };
        let count = places.len() / self.panels.taps().max(1);
        self.panels.share(count, results, |panels, results| {
            run(self.width, panels, rows, results);
        });
    }

    /// Multiplies a matrix, which lies row after row.
    pub fn multiply_matrix(
        &self,
        matrix: &[f32],
        bounds: Bounds,
        numbers: &mut [f32],
        stride: usize,
    ) {
        let depth = self.panels.depth();
        let count = matrix.len() / depth.max(1);
        let block = self.block(count);
        let blocks = numbers.chunks_mut((block * stride).max(1));
        let blocks = (0..count).step_by(block).zip(blocks);
        team::each_of(blocks.collect(), |(first, numbers)| {
            let rows = first..count.min(first + block);
            let places: Vec<usize> = rows.map(|row| row * depth).collect();
            self.multiply(matrix, &places, bounds, numbers, stride);
        });
    }
}

with_width! {
    fn run(panels: View<'_, f32, f32>, rows: Rows<'_, f32>, results: &mut Results<'_, f32, Bounds>) = all
}

#[inline(always)]
fn all<L: Lanes>(
    panels: View<'_, f32, f32>,
    rows: Rows<'_, f32>,
    results: &mut Results<'_, f32, Bounds>,
) {
    product::multiply::<Reals<L>>(panels, rows, results);
}
