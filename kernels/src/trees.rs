//! Tree ensembles, flattened for the processor rather than for the file format.
//!
//! Every reader of a file format makes [`Lists`] of it: ONNX, XGBoost and LightGBM mean the same
//! trees with other words. [`Trees::build`] checks the lists and lays the nodes out so that
//! siblings are adjacent: one comparison gives the next node by addition. [`Trees::aggregate`]
//! walks several rows (or, for a single row, several trees) at a time, because one walk is a chain
//! of dependent loads that leaves the processor idle. [`plain`] is the same computation written as
//! the specifications state it; the property test holds one against the other.

use std::ops::Range;

mod build;
mod lists;
mod members;
pub mod plain;
mod walk;

pub use lists::{Aggregate, Lists, Missing, Mode, NodeEntry, VoteEntry, ZERO};
pub use members::{Fractions, Members};
pub use walk::{Score, Threshold};

/// Why node and vote lists make no forest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildTreesError {
    /// Two entries with one number.
    #[error("tree {tree} lists node {node} twice")]
    Twice {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A child or a voting leaf that is not listed.
    #[error("tree {tree} has no node {node}")]
    Missing {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A node with two parents.
    #[error("node {node} of tree {tree} can be reached in two ways")]
    Shared {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A tree in which no node, or more than one, is nobody's child.
    #[error("tree {tree} has {roots} roots")]
    Roots {
        /// The tree.
        tree: i64,
        /// How many there are.
        roots: usize,
    },
    /// Nodes that lead to one another and to no root.
    #[error("some nodes form a ring")]
    Ring,
    /// A vote on a node that is no leaf.
    #[error("node {node} of tree {tree} votes but is no leaf")]
    Inner {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
    },
    /// A vote for a target that the model does not have.
    #[error("vote for target {target} of {targets}")]
    Target {
        /// The target voted for.
        target: u32,
        /// How many there are.
        targets: usize,
    },
    /// A member node that asks a set which is not listed.
    #[error("node {node} of tree {tree} asks set {set} of {sets}")]
    Set {
        /// The tree.
        tree: i64,
        /// The node.
        node: i64,
        /// The set asked for.
        set: u32,
        /// How many there are.
        sets: usize,
    },
    /// More nodes than can be numbered, or a feature beyond them.
    #[error("more than 2^32 nodes or votes, or 2^24 features")]
    Size,
}

/// A row that is too narrow for the ensemble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the trees look at {needed} features, rows have {got}")]
pub struct NarrowRowError {
    /// How many features the trees look at.
    pub needed: usize,
    /// How many a row has.
    pub got: usize,
}

/// A node in evaluation order: 12 bytes for `f32` thresholds, 16 for `f64`.
///
/// A branch goes to `child` where the comparison holds and to `child + 1` where not. A leaf is its
/// own child and looks at feature 0, so that a walk that has arrived stays without a branch; the
/// weight of its first vote is in `threshold`. A member node has the number of its set there.
///
/// Invariants, which [`Trees::build`] establishes and the walk relies on: `child` is below the
/// number of nodes, and so is `child + 1` of a branch; the feature is below [`Trees::features`].
#[derive(Debug, Clone, Copy)]
struct Node<T> {
    threshold: T,
    child: u32,
    test: Test,
}

/// What a node looks at and how: the feature in the low 24 bits, then the mode, then flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test(u32);

impl Test {
    /// Features from here on have no place.
    const FEATURES: u32 = 1 << 24;
    const MODE_SHIFT: u32 = 24;
    const MISSING_IS_TRUE: u32 = 1 << 27;
    const ZERO_IS_MISSING: u32 = 1 << 28;
    const BRANCHES: u32 = 1 << 31;

    const LEAF: Self = Self((Mode::Leaf as u32) << Self::MODE_SHIFT);

    /// The test of a branch; `None` when the feature has no place.
    fn of(entry: &NodeEntry) -> Option<Self> {
        let mut word = entry.feature | (entry.mode as u32) << Self::MODE_SHIFT | Self::BRANCHES;
        if entry.missing.is_true {
            word |= Self::MISSING_IS_TRUE;
        }
        if entry.missing.zero {
            word |= Self::ZERO_IS_MISSING;
        }
        (entry.feature < Self::FEATURES).then_some(Self(word))
    }

    #[inline(always)]
    fn feature(self) -> usize {
        (self.0 & (Self::FEATURES - 1)) as usize
    }

    #[inline(always)]
    fn branches(self) -> bool {
        self.0 & Self::BRANCHES != 0
    }

    #[inline(always)]
    fn missing_is_true(self) -> bool {
        self.0 & Self::MISSING_IS_TRUE != 0
    }

    #[inline(always)]
    fn zero_is_missing(self) -> bool {
        self.0 & Self::ZERO_IS_MISSING != 0
    }

    #[inline(always)]
    fn mode(self) -> Mode {
        match self.0 >> Self::MODE_SHIFT & 7 {
            0 => Mode::LessOrEqual,
            1 => Mode::Less,
            2 => Mode::GreaterOrEqual,
            3 => Mode::Greater,
            4 => Mode::Equal,
            5 => Mode::NotEqual,
            6 => Mode::Member,
            _ => Mode::Leaf,
        }
    }
}

/// Where a tree begins, how many steps its longest walk has, and whom it votes for where all its
/// leaves vote for one target.
#[derive(Debug, Clone, Copy)]
struct Root {
    node: u32,
    depth: u32,
    target: u32,
}

/// What some branch does with what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Absent {
    /// What the comparison says, always.
    Compared,
    /// NaN takes the true branch somewhere.
    NaN,
    /// Numbers next to 0 are missing somewhere.
    Zero,
}

/// A checked, flattened ensemble whose thresholds are `T`.
#[derive(Debug)]
pub struct Trees<T> {
    nodes: Vec<Node<T>>,
    roots: Vec<Root>,
    /// The votes of each node; empty where `lone`.
    ballots: Vec<Range<u32>>,
    /// Target and weight; empty where `lone`.
    votes: Vec<(u32, f64)>,
    sets: Vec<Members>,
    targets: usize,
    /// How wide a row has to be.
    features: usize,
    /// Every leaf votes exactly once, and all of a tree for the same target: sums need no vote list.
    lone: bool,
    /// The one comparison of all branches, where there is one.
    mode: Option<Mode>,
    absent: Absent,
}

impl<T: Threshold> Trees<T> {
    /// How many numbers [`Trees::aggregate`] gives per row.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// How many bytes the ensemble takes.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.nodes.len() * size_of::<Node<T>>()
            + self.votes.len() * size_of::<(u32, f64)>()
            + self.ballots.len() * size_of::<Range<u32>>()
            + self.roots.len() * size_of::<Root>()
            + self.sets.iter().map(Members::resident).sum::<usize>()
    }
}

impl Trees<f32> {
    /// The same ensemble over `f64` features: every `f32` threshold is an `f64` as it stands.
    #[must_use]
    pub fn widen(&self) -> Trees<f64> {
        let widen = |node: &Node<f32>| Node {
            threshold: if node.test.mode() == Mode::Member {
                f64::from_index(node.threshold.index())
            } else {
                f64::from(node.threshold)
            },
            child: node.child,
            test: node.test,
        };
        Trees {
            nodes: self.nodes.iter().map(widen).collect(),
            roots: self.roots.clone(),
            ballots: self.ballots.clone(),
            votes: self.votes.clone(),
            sets: self.sets.clone(),
            targets: self.targets,
            features: self.features,
            lone: self.lone,
            mode: self.mode,
            absent: self.absent,
        }
    }
}

#[cfg(test)]
mod tests;
