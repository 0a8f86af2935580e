//! The walk: from the roots to the leaves, several rows or several trees at a time.

use super::{Aggregate, Mode, NarrowRowError, Node, Trees};

/// How many walks run interleaved: enough to cover the latency of their loads.
const LANES: usize = 8;

/// How many steps are walked between looking whether every lane has arrived.
const BURST: u32 = 4;

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
        let rows = (rows, width);
        match (self.mode, self.missing) {
            (Some(Mode::LessOrEqual), false) => {
                self.run::<LessOrEqual, false>(rows, aggregate, scores);
            }
            (Some(Mode::LessOrEqual), true) => {
                self.run::<LessOrEqual, true>(rows, aggregate, scores);
            }
            (Some(Mode::Less), false) => self.run::<Less, false>(rows, aggregate, scores),
            (Some(Mode::Less), true) => self.run::<Less, true>(rows, aggregate, scores),
            _ => self.run::<PerNode, true>(rows, aggregate, scores),
        }
        for score in scores.iter_mut() {
            *score = aggregate.finish(*score, self.roots.len());
        }
        Ok(())
    }

    fn run<C: Compare, const MISSING: bool>(
        &self,
        (rows, width): (&[T], usize),
        aggregate: Aggregate,
        scores: &mut [f64],
    ) {
        let targets = self.targets.max(1);
        for (rows, scores) in rows
            .chunks(BLOCK * width)
            .zip(scores.chunks_mut(BLOCK * targets))
        {
            let whole = rows.len() / width / LANES * LANES;
            let (many, few) = rows.split_at(whole * width);
            let (many_scores, few_scores) = scores.split_at_mut(whole * targets);
            let offsets = std::array::from_fn(|lane| lane * width);
            for root in &self.roots {
                let groups = many.chunks_exact(LANES * width);
                for (rows, scores) in groups.zip(many_scores.chunks_exact_mut(LANES * targets)) {
                    let mut at = [root.node; LANES];
                    self.descend::<C, MISSING>(&mut at, root.depth, rows, offsets);
                    for (leaf, scores) in at.iter().zip(scores.chunks_exact_mut(targets)) {
                        self.vote(*leaf, aggregate, scores);
                    }
                }
            }
            let few = few
                .chunks_exact(width)
                .zip(few_scores.chunks_exact_mut(targets));
            for (row, scores) in few {
                self.all_trees::<C, MISSING>(row, aggregate, scores);
            }
        }
    }

    /// One row down all trees, several at a time. The lanes left over stand at the first root.
    fn all_trees<C: Compare, const MISSING: bool>(
        &self,
        row: &[T],
        aggregate: Aggregate,
        scores: &mut [f64],
    ) {
        for roots in self.roots.chunks(LANES) {
            let mut at = [0; LANES];
            let mut depth = 0;
            for (at, root) in at.iter_mut().zip(roots) {
                *at = root.node;
                depth = depth.max(root.depth);
            }
            self.descend::<C, MISSING>(&mut at, depth, row, [0; LANES]);
            for leaf in at.iter().take(roots.len()) {
                self.vote(*leaf, aggregate, scores);
            }
        }
    }

    /// Walks every lane to its leaf; lane `i` reads the row that begins at `offsets[i]`. A lane
    /// that has arrived stays where it is.
    #[expect(
        unsafe_code,
        reason = "checked, a batch of 32 takes half as long again"
    )]
    #[inline(always)]
    fn descend<C: Compare, const MISSING: bool>(
        &self,
        at: &mut [u32; LANES],
        depth: u32,
        rows: &[T],
        offsets: [usize; LANES],
    ) {
        assert!(
            offsets
                .iter()
                .all(|offset| offset + self.features <= rows.len())
        );
        let mut left = depth;
        while left > 0 {
            for _ in 0..left.min(BURST) {
                for (at, offset) in at.iter_mut().zip(offsets) {
                    let node = self.node(*at);
                    let place = offset + node.feature as usize;
                    debug_assert!(
                        place < rows.len(),
                        "feature {} is beyond the row",
                        node.feature
                    );
                    // SAFETY: `feature` is below `features` by the invariant of `Node`, and the
                    // assertion above leaves that many values after every offset.
                    let x = unsafe { *rows.get_unchecked(place) };
                    let holds =
                        C::holds(node, x) | (MISSING && node.missing_is_true && x.is_missing());
                    *at = node.child + u32::from(!holds & node.branches);
                }
            }
            left -= left.min(BURST);
            if left > 0 && at.iter().all(|at| !self.node(*at).branches) {
                return;
            }
        }
    }

    /// The node at a place that the walk has reached.
    #[expect(
        unsafe_code,
        reason = "checked, a batch of 32 takes half as long again"
    )]
    #[inline(always)]
    fn node(&self, at: u32) -> &Node<T> {
        debug_assert!((at as usize) < self.nodes.len(), "no node {at}");
        // SAFETY: every place is a root or a child of a node, and all of those are below the
        // number of nodes by the invariant of `Node`; place 0 exists wherever there is a tree.
        unsafe { self.nodes.get_unchecked(at as usize) }
    }

    #[inline(always)]
    fn vote(&self, leaf: u32, aggregate: Aggregate, scores: &mut [f64]) {
        if self.single {
            if let Some(score) = scores.first_mut() {
                *score = aggregate.add(*score, self.node(leaf).threshold.to_f64());
            }
            return;
        }
        let ballot = self.ballots.get(leaf as usize).cloned().unwrap_or_default();
        let votes = self.votes.get(ballot.start as usize..ballot.end as usize);
        for (target, weight) in votes.unwrap_or_default() {
            if let Some(score) = scores.get_mut(*target as usize) {
                *score = aggregate.add(*score, *weight);
            }
        }
    }
}
