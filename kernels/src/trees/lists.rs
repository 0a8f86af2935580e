//! Trees as model files list them: the one form that every reader of a file makes, whatever the
//! file's format.
//!
//! Owns the words. Checks nothing: [`Trees::build`](super::Trees::build) does.

use super::Members;

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
    /// `x` is in the node's set.
    Member,
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

    /// Whether `x` takes the true branch. A leaf has none, and a member node asks its set.
    pub(crate) fn holds<T: PartialOrd + Copy>(self, x: T, threshold: T) -> bool {
        match self {
            Self::LessOrEqual => x <= threshold,
            Self::Less => x < threshold,
            Self::GreaterOrEqual => x >= threshold,
            Self::Greater => x > threshold,
            Self::Equal => x == threshold,
            Self::NotEqual => x != threshold,
            Self::Member | Self::Leaf => false,
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

/// What counts as missing at a node, beside the comparison.
///
/// Each format's rule is one of these:
///
/// | format | rule |
/// |---|---|
/// | ONNX `nodes_missing_value_tracks_true` | NaN takes the true branch where set, and else what the comparison says |
/// | XGBoost | NaN takes the default branch |
/// | LightGBM, missing type NaN | NaN takes the default branch |
/// | LightGBM, missing type none | NaN is 0: where 0 goes |
/// | LightGBM, missing type zero | NaN and numbers next to 0 take the default branch |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// Whether what is missing takes the true branch. Where not, the comparison decides on NaN,
    /// which holds for `x != threshold` alone.
    pub is_true: bool,
    /// Whether numbers next to 0 are missing too, and then take the false branch unless `is_true`.
    pub zero: bool,
}

/// How far from 0 a number still is missing where [`Missing::zero`] says so: `LightGBM`'s number.
pub const ZERO: f32 = 1e-35;

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
    /// Which of [`Lists::sets`] a member node asks.
    pub set: u32,
    /// The node where the comparison holds.
    pub on_true: i64,
    /// The node where it does not.
    pub on_false: i64,
    /// What is missing, and where it goes.
    pub missing: Missing,
}

impl NodeEntry {
    /// A leaf.
    #[must_use]
    pub fn leaf(tree: i64, node: i64) -> Self {
        Self {
            tree,
            node,
            feature: 0,
            mode: Mode::Leaf,
            threshold: 0.0,
            set: 0,
            on_true: 0,
            on_false: 0,
            missing: Missing::default(),
        }
    }
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

/// All trees of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lists {
    /// The nodes, in any order; trees count in the order in which they first appear.
    pub nodes: Vec<NodeEntry>,
    /// The votes of the leaves.
    pub votes: Vec<VoteEntry>,
    /// The sets that member nodes ask.
    pub sets: Vec<Members>,
    /// How many numbers each row gets.
    pub targets: usize,
}
