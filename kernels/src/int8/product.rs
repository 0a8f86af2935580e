//! Products of unsigned bytes with signed weights, summed up in 32 bits; see [`crate::product`] for how
//! rows, places and weights lie.
//!
//! There are such products only where the processor has an instruction for four at once (VNNI): it
//! makes them faster than any other way.

use super::dots::Width;
use crate::product::{Panels, Results, Rows};

/// Weights, packed.
#[derive(Debug, Clone)]
pub struct Weights {
    width: Width,
    panels: Panels<i8, i32>,
    /// The sum of each column.
    sums: Vec<i32>,
}

impl Weights {
    /// Packs weights of `(taps, depth, columns)`. `weight(tap, depth, column)` is one of them. `None`
    /// where the processor has no instruction for it.
    #[must_use]
    pub fn pack(
        extents: (usize, usize, usize),
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Option<Self> {
        Some(Self::pack_for(Width::widest()?, extents, weight))
    }

    pub(super) fn pack_for(
        width: Width,
        (taps, depth, columns): (usize, usize, usize),
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Self {
        let places = || (0..taps).flat_map(|tap| (0..depth).map(move |place| (tap, place)));
        let sum = |column| {
            let weights = places().map(|(tap, place)| i32::from(weight(tap, place, column)));
            weights.sum()
        };
        Self {
            width,
            sums: (0..columns).map(sum).collect(),
            panels: Panels::pack((width.columns(), 4), (taps, depth, columns), weight, None),
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

    /// The sum of all weights of each column.
    #[must_use]
    pub fn sums(&self) -> &[i32] {
        &self.sums
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

    /// Multiplies, and writes as many rows of sums as there are `places`, one after the other.
    /// `outside` is what a tap on padding reads.
    pub fn multiply(&self, image: &[u8], places: &[usize], outside: &[u8], sums: &mut [i32]) {
        let rows = Rows {
            image,
            places,
            outside,
        };
        let results = Results {
            numbers: sums,
            stride: self.panels.columns(),
            bounds: (),
        };
        let count = places.len() / self.panels.taps().max(1);
        self.panels.share(count, results, |panels, results| {
            self.width.multiply(panels, rows, results);
        });
    }
}
