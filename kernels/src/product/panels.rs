//! Weights as products read them, and how a product is divided: into blocks of rows, or by columns among
//! threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::Results;
use crate::{pages, team};

/// Rows for each thread that are enough to be shared out; of fewer, columns are.
const ROWS: usize = 32;

/// Bytes of weights that go by in about a nanosecond, each as often as there are rows.
const PASSED: usize = 128;

/// Numbers of an image that stay in a second-level cache while all columns pass over them.
const NEAR: usize = 1 << 16;

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
    pub(super) weights: &'a [W],
    pub(super) bias: &'a [S],
    pub(super) taps: usize,
    pub(super) depth: usize,
    pub(super) columns: usize,
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
