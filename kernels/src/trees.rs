//! Tree ensembles, flattened for the processor rather than for the file format.
//!
//! [`Trees::build`] checks a model file's node and vote lists and lays the nodes out so that
//! siblings are adjacent: one comparison gives the next node by addition. [`Trees::aggregate`]
//! walks several rows (or, for a single row, several trees) at a time, because one walk is a chain
//! of dependent loads that leaves the processor idle. [`plain`] is the same computation written as
//! the specification states it; the property test holds one against the other.

use std::ops::Range;

mod build;
pub mod plain;
mod walk;

pub use walk::Threshold;

/// How a node compares a feature with its threshold; the comparison leads to the true branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `x <= threshold`
    LessOrEqual,
    /// `x < threshold`
    Less,
    /// `x >= threshold`
    GreaterOrEqual,
    /// `x > threshold`
    Greater,
    /// `x == threshold`
    Equal,
    /// `x != threshold`
    NotEqual,
    /// No comparison: the walk ends here.
    Leaf,
}

impl Mode {
    /// The mode of an ONNX attribute value.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "BRANCH_LEQ" => Self::LessOrEqual,
            "BRANCH_LT" => Self::Less,
            "BRANCH_GTE" => Self::GreaterOrEqual,
            "BRANCH_GT" => Self::Greater,
            "BRANCH_EQ" => Self::Equal,
            "BRANCH_NEQ" => Self::NotEqual,
            "LEAF" => Self::Leaf,
            _ => return None,
        })
    }

    /// Whether `x` takes the true branch. A leaf has none.
    pub(crate) fn holds<T: PartialOrd + Copy>(self, x: T, threshold: T) -> bool {
        match self {
            Self::LessOrEqual => x <= threshold,
            Self::Less => x < threshold,
            Self::GreaterOrEqual => x >= threshold,
            Self::Greater => x > threshold,
            Self::Equal => x == threshold,
            Self::NotEqual => x != threshold,
            Self::Leaf => false,
        }
    }
}

/// How the votes of all trees for one target become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    Sum,
    /// Their sum divided by the number of trees.
    Average,
    /// The smallest; 0 when no tree votes.
    Min,
    /// The largest; 0 when no tree votes.
    Max,
}

impl Aggregate {
    /// The aggregate of an ONNX attribute value.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "SUM" => Self::Sum,
            "AVERAGE" => Self::Average,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            _ => return None,
        })
    }
}

/// A node as a model file lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEntry {
    /// The tree it belongs to.
    pub tree: i64,
    /// Its number within the tree.
    pub node: i64,
    /// The column it looks at.
    pub feature: u32,
    /// The comparison.
    pub mode: Mode,
    /// What the feature is compared with.
    pub threshold: f64,
    /// The node where the comparison holds.
    pub on_true: i64,
    /// The node where it does not.
    pub on_false: i64,
    /// Whether NaN takes the true branch, whatever the comparison.
    pub missing_is_true: bool,
}

/// A vote of a leaf as a model file lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct VoteEntry {
    /// The tree of the leaf.
    pub tree: i64,
    /// The leaf.
    pub node: i64,
    /// The class or target voted for.
    pub target: u32,
    /// The weight of the vote.
    pub weight: f64,
}

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
    /// More nodes than can be numbered.
    #[error("more than 2^32 nodes or votes")]
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

/// A node in evaluation order, 16 bytes for `f32` thresholds.
///
/// A branch goes to `child` where the comparison holds and to `child + 1` where not. A leaf is its
/// own child and looks at feature 0, so that a walk that has arrived stays without a branch; the
/// weight of its first vote is in `threshold`.
///
/// Invariants, which [`Trees::build`] establishes and the walk relies on: `child` is below the
/// number of nodes, and so is `child + 1` of a branch; `feature` is below [`Trees::features`].
#[derive(Debug, Clone, Copy)]
struct Node<T> {
    threshold: T,
    feature: u32,
    child: u32,
    mode: Mode,
    missing_is_true: bool,
    branches: bool,
}

/// Where a tree begins, and how many steps its longest walk has.
#[derive(Debug, Clone, Copy)]
struct Root {
    node: u32,
    depth: u32,
}

/// A checked, flattened ensemble whose thresholds are `T`.
#[derive(Debug)]
pub struct Trees<T> {
    nodes: Vec<Node<T>>,
    roots: Vec<Root>,
    /// The votes of each node; empty where `single`.
    ballots: Vec<Range<u32>>,
    /// Target and weight; empty where `single`.
    votes: Vec<(u32, f64)>,
    targets: usize,
    /// How wide a row has to be.
    features: usize,
    /// Every leaf votes exactly once, and for target 0: sums need no vote list.
    single: bool,
    /// The one comparison of all branches, where there is one.
    mode: Option<Mode>,
    /// Whether any branch takes NaN as true.
    missing: bool,
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
            + (self.ballots.len() + self.roots.len()) * size_of::<Root>()
    }
}

impl Trees<f32> {
    /// The same ensemble over `f64` features: every `f32` threshold is an `f64` as it stands.
    #[must_use]
    pub fn widen(&self) -> Trees<f64> {
        let widen = |node: &Node<f32>| Node {
            threshold: f64::from(node.threshold),
            feature: node.feature,
            child: node.child,
            mode: node.mode,
            missing_is_true: node.missing_is_true,
            branches: node.branches,
        };
        Trees {
            nodes: self.nodes.iter().map(widen).collect(),
            roots: self.roots.clone(),
            ballots: self.ballots.clone(),
            votes: self.votes.clone(),
            targets: self.targets,
            features: self.features,
            single: self.single,
            mode: self.mode,
            missing: self.missing,
        }
    }
}

#[cfg(test)]
mod tests;
