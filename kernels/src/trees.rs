//! Tree ensembles, flattened for the processor rather than for the file format.
//!
//! [`Trees::build`] checks a model file's node and vote lists and lays the nodes out so that
//! siblings are adjacent: one comparison gives the next node by addition. [`Trees::aggregate`]
//! walks several rows (or, for a single row, several trees) at a time, because one walk is a chain
//! of dependent loads that leaves the processor idle. [`plain`] is the same computation written as
//! the specification states it; the property test holds one against the other.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

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
/// A branch goes to `child` where the comparison holds and to `child + 1` where not. A leaf looks at
/// feature 0 like any other node, so that the walk need not branch; its votes are range `child` of
/// the leaves, and the weight of the first is also in `threshold`.
#[derive(Debug, Clone, Copy)]
struct Node<T> {
    threshold: T,
    feature: u32,
    child: u32,
    mode: Mode,
    missing_is_true: bool,
}

/// A checked, flattened ensemble whose thresholds are `T`.
#[derive(Debug)]
pub struct Trees<T> {
    nodes: Vec<Node<T>>,
    roots: Vec<u32>,
    /// The votes of each leaf.
    leaves: Vec<Range<u32>>,
    /// Target and weight.
    votes: Vec<(u32, f64)>,
    targets: usize,
    /// How wide a row has to be.
    features: usize,
    /// Every leaf votes exactly once, and for target 0: sums need no vote list.
    single: bool,
    /// The one comparison of all branches, where there is one.
    mode: Option<Mode>,
}

type NodeId = (i64, i64);

impl<T: Threshold> Trees<T> {
    /// Checks and flattens.
    ///
    /// # Errors
    /// [`BuildTreesError`]: the first thing wrong with the lists.
    pub fn build(
        entries: &[NodeEntry],
        votes: &[VoteEntry],
        targets: usize,
    ) -> Result<Self, BuildTreesError> {
        let forest = Forest::read(entries, votes, targets)?;
        let mut trees = Self {
            nodes: Vec::with_capacity(entries.len()),
            roots: Vec::new(),
            leaves: Vec::new(),
            votes: Vec::with_capacity(votes.len()),
            targets,
            features: 1,
            single: votes.iter().all(|vote| vote.target == 0),
            mode: common_mode(entries),
        };
        for root in forest.roots()? {
            trees.flatten(&forest, root)?;
        }
        // One root per tree, no node with two parents, and still some not reached: they form a ring.
        if trees.nodes.len() == entries.len() {
            Ok(trees)
        } else {
            Err(BuildTreesError::Ring)
        }
    }

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
            + (self.leaves.len() * 2 + self.roots.len()) * size_of::<u32>()
    }

    /// Lays out one tree, parents before children and siblings adjacent.
    fn flatten(&mut self, forest: &Forest<'_>, root: NodeId) -> Result<(), BuildTreesError> {
        let start = self.nodes.len();
        self.roots.push(index(start)?);
        self.nodes.push(Self::placeholder());
        let mut waiting = vec![(start, root)];
        while let Some((at, id)) = waiting.pop() {
            let entry = forest.entry(id)?;
            let node = if entry.mode == Mode::Leaf {
                self.leaf(forest.votes_of(id))?
            } else {
                self.features = self.features.max(entry.feature as usize + 1);
                let child = self.nodes.len();
                self.nodes
                    .extend([Self::placeholder(), Self::placeholder()]);
                waiting.push((child + 1, (entry.tree, entry.on_false)));
                waiting.push((child, (entry.tree, entry.on_true)));
                Node {
                    threshold: T::from_f64(entry.threshold),
                    feature: entry.feature,
                    child: index(child)?,
                    mode: entry.mode,
                    missing_is_true: entry.missing_is_true,
                }
            };
            if let Some(slot) = self.nodes.get_mut(at) {
                *slot = node;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, votes: &[&VoteEntry]) -> Result<Node<T>, BuildTreesError> {
        let child = index(self.leaves.len())?;
        let first = index(self.votes.len())?;
        self.votes
            .extend(votes.iter().map(|vote| (vote.target, vote.weight)));
        self.leaves.push(first..index(self.votes.len())?);
        self.single &= votes.len() == 1;
        Ok(Node {
            threshold: T::from_f64(votes.first().map_or(0.0, |vote| vote.weight)),
            feature: 0,
            child,
            mode: Mode::Leaf,
            missing_is_true: false,
        })
    }

    fn placeholder() -> Node<T> {
        Node {
            threshold: T::from_f64(0.0),
            feature: 0,
            child: 0,
            mode: Mode::Leaf,
            missing_is_true: false,
        }
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
        };
        Trees {
            nodes: self.nodes.iter().map(widen).collect(),
            roots: self.roots.clone(),
            leaves: self.leaves.clone(),
            votes: self.votes.clone(),
            targets: self.targets,
            features: self.features,
            single: self.single,
            mode: self.mode,
        }
    }
}

fn index(position: usize) -> Result<u32, BuildTreesError> {
    u32::try_from(position).map_err(|_| BuildTreesError::Size)
}

fn common_mode(entries: &[NodeEntry]) -> Option<Mode> {
    let mut modes = entries
        .iter()
        .map(|entry| entry.mode)
        .filter(|mode| *mode != Mode::Leaf);
    let first = modes.next()?;
    modes.all(|mode| mode == first).then_some(first)
}

/// The lists of a model file, checked and indexed.
struct Forest<'a> {
    entries: HashMap<NodeId, &'a NodeEntry>,
    votes: HashMap<NodeId, Vec<&'a VoteEntry>>,
    /// The trees in the order in which they first appear, with their nodes in order.
    trees: Vec<(i64, Vec<&'a NodeEntry>)>,
}

impl<'a> Forest<'a> {
    fn read(
        entries: &'a [NodeEntry],
        votes: &'a [VoteEntry],
        targets: usize,
    ) -> Result<Self, BuildTreesError> {
        let mut forest = Self {
            entries: HashMap::new(),
            votes: HashMap::new(),
            trees: Vec::new(),
        };
        let mut places = HashMap::new();
        for entry in entries {
            if forest
                .entries
                .insert((entry.tree, entry.node), entry)
                .is_some()
            {
                return Err(BuildTreesError::Twice {
                    tree: entry.tree,
                    node: entry.node,
                });
            }
            let place = *places.entry(entry.tree).or_insert_with(|| {
                forest.trees.push((entry.tree, Vec::new()));
                forest.trees.len() - 1
            });
            if let Some((_, nodes)) = forest.trees.get_mut(place) {
                nodes.push(entry);
            }
        }
        for vote in votes {
            if vote.target as usize >= targets {
                return Err(BuildTreesError::Target {
                    target: vote.target,
                    targets,
                });
            }
            if forest.entry((vote.tree, vote.node))?.mode != Mode::Leaf {
                return Err(BuildTreesError::Inner {
                    tree: vote.tree,
                    node: vote.node,
                });
            }
            forest
                .votes
                .entry((vote.tree, vote.node))
                .or_default()
                .push(vote);
        }
        Ok(forest)
    }

    fn entry(&self, id: NodeId) -> Result<&'a NodeEntry, BuildTreesError> {
        self.entries
            .get(&id)
            .copied()
            .ok_or(BuildTreesError::Missing {
                tree: id.0,
                node: id.1,
            })
    }

    fn votes_of(&self, id: NodeId) -> &[&'a VoteEntry] {
        self.votes.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The root of each tree: the one node that is nobody's child.
    fn roots(&self) -> Result<Vec<NodeId>, BuildTreesError> {
        self.trees
            .iter()
            .map(|(tree, nodes)| self.root(*tree, nodes))
            .collect()
    }

    fn root(&self, tree: i64, nodes: &[&NodeEntry]) -> Result<NodeId, BuildTreesError> {
        let mut children = HashSet::new();
        for entry in nodes.iter().filter(|entry| entry.mode != Mode::Leaf) {
            for child in [entry.on_true, entry.on_false] {
                self.entry((tree, child))?;
                if !children.insert(child) {
                    return Err(BuildTreesError::Shared { tree, node: child });
                }
            }
        }
        let mut roots = nodes.iter().filter(|entry| !children.contains(&entry.node));
        match (roots.next(), roots.count()) {
            (Some(root), 0) => Ok((tree, root.node)),
            (None, more) => Err(BuildTreesError::Roots { tree, roots: more }),
            (Some(_), more) => Err(BuildTreesError::Roots {
                tree,
                roots: more + 1,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
