//! The walk: from the roots to the leaves, several rows or several trees at a time.

use super::{Aggregate, Mode, NarrowRowError, Node, Trees};

/// How many walks run interleaved: enough to cover the latency of their loads.
const LANES: usize = 8;

/// A block of rows stays in the nearest cache while every tree passes over it.
const BLOCK: usize = 128;

/// The type of thresholds and features.
pub trait Threshold: Copy + PartialOrd + std::fmt::Debug + Send + Sync + 'static {
    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The value, widened.
    fn to_f64(self) -> f64;

    /// Whether the value is missing.
    fn is_missing(self) -> bool;
}

impl Threshold for f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "thresholds of f32 models were f32 in the file"
    )]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

impl Threshold for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

/// One comparison for all nodes, chosen once per call so that the walk does not branch on it.
trait Compare {
    fn holds<T: Threshold>(node: &Node<T>, x: T) -> bool;
}

struct LessOrEqual;
struct Less;
struct PerNode;

impl Compare for LessOrEqual {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T) -> bool {
        x <= node.threshold
    }
}

impl Compare for Less {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T) -> bool {
        x < node.threshold
    }
}

impl Compare for PerNode {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T) -> bool {
        node.mode.holds(x, node.threshold)
    }
}

impl Aggregate {
    /// The number that no vote changes.
    pub(super) fn start(self) -> f64 {
        match self {
            Self::Sum | Self::Average => 0.0,
            Self::Min => f64::INFINITY,
            Self::Max => f64::NEG_INFINITY,
        }
    }

    /// One more vote.
    pub(super) fn add(self, so_far: f64, weight: f64) -> f64 {
        match self {
            Self::Sum | Self::Average => so_far + weight,
            Self::Min => so_far.min(weight),
            Self::Max => so_far.max(weight),
        }
    }

    /// The number after the last vote.
    pub(super) fn finish(self, so_far: f64, trees: usize) -> f64 {
        match self {
            Self::Sum => so_far,
            #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 trees")]
            Self::Average => so_far / trees as f64,
            Self::Min | Self::Max if so_far.is_infinite() => 0.0,
            Self::Min | Self::Max => so_far,
        }
    }
}

impl<T: Threshold> Trees<T> {
    /// Writes the aggregated votes of `rows`, row-major and `width` wide, into `scores`: one
    /// number per row and target, row-major.
    ///
    /// # Errors
    /// When rows have fewer features than the trees look at.
    pub fn aggregate(
        &self,
        rows: &[T],
        width: usize,
        aggregate: Aggregate,
        scores: &mut [f64],
    ) -> Result<(), NarrowRowError> {
        if width < self.features {
            return Err(NarrowRowError {
                needed: self.features,
                got: width,
            });
        }
        scores.fill(aggregate.start());
        match self.mode {
            Some(Mode::LessOrEqual) => {
                self.run::<LessOrEqual>(rows, width.max(1), aggregate, scores);
            }
            Some(Mode::Less) => self.run::<Less>(rows, width.max(1), aggregate, scores),
            _ => self.run::<PerNode>(rows, width.max(1), aggregate, scores),
        }
        for score in scores.iter_mut() {
            *score = aggregate.finish(*score, self.roots.len());
        }
        Ok(())
    }

    fn run<C: Compare>(&self, rows: &[T], width: usize, aggregate: Aggregate, scores: &mut [f64]) {
        let targets = self.targets.max(1);
        for (rows, scores) in rows
            .chunks(BLOCK * width)
            .zip(scores.chunks_mut(BLOCK * targets))
        {
            let whole = rows.len() / width / LANES * LANES;
            let (many, few) = rows.split_at(whole * width);
            let (many_scores, few_scores) = scores.split_at_mut(whole * targets);
            for root in &self.roots {
                let groups = many
                    .chunks_exact(LANES * width)
                    .zip(many_scores.chunks_exact_mut(LANES * targets));
                for (rows, scores) in groups {
                    self.rows_of_one_tree::<C>(*root, (rows, width), aggregate, scores);
                }
            }
            for (row, scores) in few
                .chunks_exact(width)
                .zip(few_scores.chunks_exact_mut(targets))
            {
                for roots in self.roots.chunks(LANES) {
                    self.trees_of_one_row::<C>(roots, row, aggregate, scores);
                }
            }
        }
    }

    /// `LANES` rows down one tree.
    #[inline]
    fn rows_of_one_tree<C: Compare>(
        &self,
        root: u32,
        (rows, width): (&[T], usize),
        aggregate: Aggregate,
        scores: &mut [f64],
    ) {
        let mut lanes: [&[T]; LANES] = [&[]; LANES];
        for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(width)) {
            *lane = row;
        }
        let leaves = self.descend::<C>([root; LANES], lanes);
        for (leaf, scores) in leaves
            .iter()
            .zip(scores.chunks_exact_mut(self.targets.max(1)))
        {
            self.vote(*leaf, aggregate, scores);
        }
    }

    /// One row down at most `LANES` trees. The lanes left over walk the last tree once more.
    #[inline]
    fn trees_of_one_row<C: Compare>(
        &self,
        roots: &[u32],
        row: &[T],
        aggregate: Aggregate,
        scores: &mut [f64],
    ) {
        let mut start = [roots.last().copied().unwrap_or_default(); LANES];
        for (lane, root) in start.iter_mut().zip(roots) {
            *lane = *root;
        }
        let leaves = self.descend::<C>(start, [row; LANES]);
        for leaf in leaves.iter().take(roots.len()) {
            self.vote(*leaf, aggregate, scores);
        }
    }

    /// Walks every lane to its leaf. A lane that has arrived stays, so that no step branches on
    /// which lanes are still moving.
    #[inline]
    fn descend<C: Compare>(&self, mut at: [u32; LANES], rows: [&[T]; LANES]) -> [u32; LANES] {
        loop {
            let mut moving = false;
            for (at, row) in at.iter_mut().zip(rows) {
                // Every index was checked when the ensemble was built, and the width of a row
                // before the walk: what is missing here is never missing.
                let Some(node) = self.nodes.get(*at as usize) else {
                    continue;
                };
                let Some(x) = row.get(node.feature as usize) else {
                    continue;
                };
                let holds = C::holds(node, *x) | (node.missing_is_true & x.is_missing());
                let next = node.child + u32::from(!holds);
                let inner = node.mode != Mode::Leaf;
                *at = if inner { next } else { *at };
                moving |= inner;
            }
            if !moving {
                return at;
            }
        }
    }

    #[inline]
    fn vote(&self, leaf: u32, aggregate: Aggregate, scores: &mut [f64]) {
        let Some(node) = self.nodes.get(leaf as usize) else {
            return;
        };
        if self.single {
            if let Some(score) = scores.first_mut() {
                *score = aggregate.add(*score, node.threshold.to_f64());
            }
            return;
        }
        let Some(range) = self.leaves.get(node.child as usize) else {
            return;
        };
        for (target, weight) in self
            .votes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
        {
            if let Some(score) = scores.get_mut(*target as usize) {
                *score = aggregate.add(*score, *weight);
            }
        }
    }
}
