//! The walk: from the roots to the leaves, several rows or several trees at a time.

use super::{Absent, Aggregate, Members, Mode, NarrowRowError, Node, Trees, ZERO};

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

    /// Whether the value is next to 0, and missing where that counts.
    fn is_zero(self) -> bool;

    /// The number of a set, kept where a threshold would be.
    fn from_index(index: u32) -> Self;

    /// The number of a set.
    fn index(self) -> u32;
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

    fn is_zero(self) -> bool {
        self.abs() <= ZERO
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(index)
    }

    fn index(self) -> u32 {
        self.to_bits()
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

    fn is_zero(self) -> bool {
        self.abs() <= f64::from(ZERO)
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(u64::from(index))
    }

    fn index(self) -> u32 {
        // Only ever asked of what `from_index` made.
        u32::try_from(self.to_bits()).unwrap_or(u32::MAX)
    }
}

/// The type in which votes are counted.
pub trait Score: Copy + std::fmt::Debug + 'static {
    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The value, widened.
    fn to_f64(self) -> f64;

    /// One more vote.
    #[must_use]
    fn add(self, aggregate: Aggregate, weight: Self) -> Self;
}

macro_rules! score {
    ($score:ty) => {
        impl Score for $score {
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                Threshold::from_f64(value)
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                Threshold::to_f64(self)
            }

            #[inline(always)]
            fn add(self, aggregate: Aggregate, weight: Self) -> Self {
                match aggregate {
                    Aggregate::Sum | Aggregate::Average => self + weight,
                    Aggregate::Min => self.min(weight),
                    Aggregate::Max => self.max(weight),
                }
            }
        }
    };
}

score!(f32);
score!(f64);

/// One comparison for all nodes, chosen once per call so that the walk does not branch on it.
trait Compare {
    fn holds<T: Threshold>(node: &Node<T>, x: T, sets: &[Members]) -> bool;
}

struct LessOrEqual;
struct Less;
struct PerNode;

impl Compare for LessOrEqual {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T, _: &[Members]) -> bool {
        x <= node.threshold
    }
}

impl Compare for Less {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T, _: &[Members]) -> bool {
        x < node.threshold
    }
}

impl Compare for PerNode {
    #[inline(always)]
    fn holds<T: Threshold>(node: &Node<T>, x: T, sets: &[Members]) -> bool {
        match node.test.mode() {
            Mode::Member => sets
                .get(node.threshold.index() as usize)
                .is_some_and(|set| set.contains(x.to_f64())),
            mode => mode.holds(x, node.threshold),
        }
    }
}

/// What is missing, chosen once per call.
trait Rule {
    fn apply<T: Threshold>(node: &Node<T>, x: T, holds: bool) -> bool;
}

struct Compared;
struct NaN;
struct Zero;

impl Rule for Compared {
    #[inline(always)]
    fn apply<T: Threshold>(_: &Node<T>, _: T, holds: bool) -> bool {
        holds
    }
}

impl Rule for NaN {
    #[inline(always)]
    fn apply<T: Threshold>(node: &Node<T>, x: T, holds: bool) -> bool {
        holds | (node.test.missing_is_true() & x.is_missing())
    }
}

impl Rule for Zero {
    #[inline(always)]
    fn apply<T: Threshold>(node: &Node<T>, x: T, holds: bool) -> bool {
        let zero = node.test.zero_is_missing() & x.is_zero();
        (holds & !zero) | (node.test.missing_is_true() & (zero | x.is_missing()))
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
    pub fn aggregate<S: Score>(
        &self,
        rows: &[T],
        width: usize,
        aggregate: Aggregate,
        scores: &mut [S],
    ) -> Result<(), NarrowRowError> {
        scores.fill(S::from_f64(aggregate.start()));
        self.count((rows, width), aggregate, scores)?;
        for score in scores.iter_mut() {
            *score = S::from_f64(aggregate.finish(score.to_f64(), self.roots.len()));
        }
        Ok(())
    }

    /// Adds the votes of `rows`, row-major and `width` wide, to what `scores` has: one number per
    /// row and target, row-major. Each sum is made in the order of the trees.
    ///
    /// # Errors
    /// When rows have fewer features than the trees look at.
    pub fn add_to<S: Score>(
        &self,
        rows: &[T],
        width: usize,
        scores: &mut [S],
    ) -> Result<(), NarrowRowError> {
        self.count((rows, width), Aggregate::Sum, scores)
    }

    fn count<S: Score>(
        &self,
        rows: (&[T], usize),
        aggregate: Aggregate,
        scores: &mut [S],
    ) -> Result<(), NarrowRowError> {
        if rows.1 < self.features {
            return Err(NarrowRowError {
                needed: self.features,
                got: rows.1,
            });
        }
        match (self.mode, self.absent) {
            (Some(Mode::LessOrEqual), Absent::Compared) => {
                self.run::<LessOrEqual, Compared, S>(rows, aggregate, scores);
            }
            (Some(Mode::LessOrEqual), Absent::NaN) => {
                self.run::<LessOrEqual, NaN, S>(rows, aggregate, scores);
            }
            (Some(Mode::LessOrEqual), Absent::Zero) => {
                self.run::<LessOrEqual, Zero, S>(rows, aggregate, scores);
            }
            (Some(Mode::Less), Absent::Compared) => {
                self.run::<Less, Compared, S>(rows, aggregate, scores);
            }
            (Some(Mode::Less), Absent::NaN) => self.run::<Less, NaN, S>(rows, aggregate, scores),
            (_, Absent::Compared | Absent::NaN) => {
                self.run::<PerNode, NaN, S>(rows, aggregate, scores);
            }
            (_, Absent::Zero) => self.run::<PerNode, Zero, S>(rows, aggregate, scores),
        }
        Ok(())
    }

    fn run<C: Compare, R: Rule, S: Score>(
        &self,
        (rows, width): (&[T], usize),
        aggregate: Aggregate,
        scores: &mut [S],
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
                    self.descend::<C, R>(&mut at, root.depth, rows, offsets);
                    for (leaf, scores) in at.iter().zip(scores.chunks_exact_mut(targets)) {
                        self.vote(*leaf, root.target, aggregate, scores);
                    }
                }
            }
            let few = few
                .chunks_exact(width)
                .zip(few_scores.chunks_exact_mut(targets));
            for (row, scores) in few {
                self.all_trees::<C, R, S>(row, aggregate, scores);
            }
        }
    }

    /// One row down all trees, several at a time. The lanes left over stand at the first root.
    fn all_trees<C: Compare, R: Rule, S: Score>(
        &self,
        row: &[T],
        aggregate: Aggregate,
        scores: &mut [S],
    ) {
        for roots in self.roots.chunks(LANES) {
            let mut at = [0; LANES];
            let mut depth = 0;
            for (at, root) in at.iter_mut().zip(roots) {
                *at = root.node;
                depth = depth.max(root.depth);
            }
            self.descend::<C, R>(&mut at, depth, row, [0; LANES]);
            for (leaf, root) in at.iter().zip(roots) {
                self.vote(*leaf, root.target, aggregate, scores);
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
    fn descend<C: Compare, R: Rule>(
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
                    let place = offset + node.test.feature();
                    debug_assert!(
                        place < rows.len(),
                        "feature {} is beyond the row",
                        node.test.feature()
                    );
                    // SAFETY: the feature is below `features` by the invariant of `Node`, and the
                    // assertion above leaves that many values after every offset.
                    let x = unsafe { *rows.get_unchecked(place) };
                    let holds = R::apply(node, x, C::holds(node, x, &self.sets));
                    *at = node.child + u32::from(!holds & node.test.branches());
                }
            }
            left -= left.min(BURST);
            if left > 0 && at.iter().all(|at| !self.node(*at).test.branches()) {
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
    fn vote<S: Score>(&self, leaf: u32, target: u32, aggregate: Aggregate, scores: &mut [S]) {
        if self.lone {
            if let Some(score) = scores.get_mut(target as usize) {
                let weight = S::from_f64(self.node(leaf).threshold.to_f64());
                *score = score.add(aggregate, weight);
            }
            return;
        }
        let ballot = self.ballots.get(leaf as usize).cloned().unwrap_or_default();
        let votes = self.votes.get(ballot.start as usize..ballot.end as usize);
        for (target, weight) in votes.unwrap_or_default() {
            if let Some(score) = scores.get_mut(*target as usize) {
                *score = score.add(aggregate, S::from_f64(*weight));
            }
        }
    }
}
