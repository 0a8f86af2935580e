//! The ensemble as the specifications state it: one row at a time, nodes by number. Slow and
//! obvious; it judges the flattened walk.

use std::collections::{HashMap, HashSet};

use super::{Aggregate, Lists, Members, Mode, NodeEntry, Score, VoteEntry, ZERO};

/// Node and vote lists by number. They have to be lists that [`super::Trees::build`] accepts.
#[derive(Debug)]
pub struct Plain {
    nodes: HashMap<(i64, i64), NodeEntry>,
    votes: HashMap<(i64, i64), Vec<VoteEntry>>,
    sets: Vec<Members>,
    /// The node of each tree that is nobody's child.
    roots: Vec<(i64, i64)>,
    targets: usize,
}

impl Plain {
    /// Indexes the lists.
    #[must_use]
    pub fn new(lists: Lists) -> Self {
        let branches = lists.nodes.iter().filter(|entry| entry.mode != Mode::Leaf);
        let children: HashSet<(i64, i64)> = branches
            .flat_map(|entry| [(entry.tree, entry.on_true), (entry.tree, entry.on_false)])
            .collect();
        let roots = roots_in_order(&lists.nodes, &children);
        let mut votes: HashMap<_, Vec<VoteEntry>> = HashMap::new();
        for vote in lists.votes {
            votes.entry((vote.tree, vote.node)).or_default().push(vote);
        }
        let nodes = lists
            .nodes
            .into_iter()
            .map(|entry| ((entry.tree, entry.node), entry))
            .collect();
        Self {
            nodes,
            votes,
            sets: lists.sets,
            roots,
            targets: lists.targets,
        }
    }

    /// The aggregated votes of one row, one number per target. `None` when the row is too narrow.
    #[must_use]
    pub fn aggregate(&self, aggregate: Aggregate, row: &[f64]) -> Option<Vec<f64>> {
        let mut scores: Vec<Option<f64>> = vec![None; self.targets];
        for root in &self.roots {
            let leaf = self.leaf(*root, row)?;
            for vote in self.votes.get(&leaf).into_iter().flatten() {
                let score = scores.get_mut(vote.target as usize)?;
                *score = Some(match (*score, aggregate) {
                    (None, _) => vote.weight,
                    (Some(sum), Aggregate::Sum | Aggregate::Average) => sum + vote.weight,
                    (Some(least), Aggregate::Min) => least.min(vote.weight),
                    (Some(most), Aggregate::Max) => most.max(vote.weight),
                });
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 trees")]
        let divisor = if aggregate == Aggregate::Average {
            self.roots.len() as f64
        } else {
            1.0
        };
        Some(
            scores
                .into_iter()
                .map(|score| score.unwrap_or(0.0) / divisor)
                .collect(),
        )
    }

    /// Adds the votes of one row to what `scores` has, one number per target, in the order of the
    /// trees. `None` when the row is too narrow.
    #[must_use]
    pub fn add_to<S: Score>(&self, row: &[f64], scores: &mut [S]) -> Option<()> {
        for root in &self.roots {
            let leaf = self.leaf(*root, row)?;
            for vote in self.votes.get(&leaf).into_iter().flatten() {
                let score = scores.get_mut(vote.target as usize)?;
                *score = score.add(Aggregate::Sum, S::from_f64(vote.weight));
            }
        }
        Some(())
    }

    /// The leaf that a row falls into.
    fn leaf(&self, root: (i64, i64), row: &[f64]) -> Option<(i64, i64)> {
        let mut node = self.nodes.get(&root)?;
        while node.mode != Mode::Leaf {
            let x = *row.get(node.feature as usize)?;
            let next = if self.holds(node, x)? {
                node.on_true
            } else {
                node.on_false
            };
            node = self.nodes.get(&(node.tree, next))?;
        }
        Some((node.tree, node.node))
    }

    fn holds(&self, node: &NodeEntry, x: f64) -> Option<bool> {
        if node.missing.zero && x.abs() <= f64::from(ZERO) {
            return Some(node.missing.is_true);
        }
        if node.missing.is_true && x.is_nan() {
            return Some(true);
        }
        Some(match node.mode {
            Mode::Member => self.sets.get(node.set as usize)?.contains(x),
            mode => mode.holds(x, node.threshold),
        })
    }
}

/// The node of each tree that is nobody's child, in the order in which the trees first appear.
fn roots_in_order(nodes: &[NodeEntry], children: &HashSet<(i64, i64)>) -> Vec<(i64, i64)> {
    let mut places: HashMap<i64, usize> = HashMap::new();
    for entry in nodes {
        let next = places.len();
        places.entry(entry.tree).or_insert(next);
    }
    let numbers = nodes.iter().map(|entry| (entry.tree, entry.node));
    let mut roots: Vec<_> = numbers
        .filter(|number| !children.contains(number))
        .collect();
    roots.sort_by_key(|(tree, _)| places.get(tree).copied());
    roots
}
