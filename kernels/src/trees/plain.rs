//! The ensemble as the ONNX specification states it: one row at a time, nodes by number. Slow and
//! obvious; it judges the flattened walk.

use std::collections::{HashMap, HashSet};

use super::{Aggregate, Mode, NodeEntry, VoteEntry};

/// Node and vote lists by number. They have to be lists that [`super::Trees::build`] accepts.
#[derive(Debug)]
pub struct Plain {
    nodes: HashMap<(i64, i64), NodeEntry>,
    votes: HashMap<(i64, i64), Vec<VoteEntry>>,
    /// The node of each tree that is nobody's child.
    roots: Vec<(i64, i64)>,
    targets: usize,
}

impl Plain {
    /// Indexes the lists.
    #[must_use]
    pub fn new(entries: Vec<NodeEntry>, list: Vec<VoteEntry>, targets: usize) -> Self {
        let branches = entries.iter().filter(|entry| entry.mode != Mode::Leaf);
        let children: HashSet<(i64, i64)> = branches
            .flat_map(|entry| [(entry.tree, entry.on_true), (entry.tree, entry.on_false)])
            .collect();
        let numbers = entries.iter().map(|entry| (entry.tree, entry.node));
        let roots = numbers
            .filter(|number| !children.contains(number))
            .collect();
        let mut votes: HashMap<_, Vec<VoteEntry>> = HashMap::new();
        for vote in list {
            votes.entry((vote.tree, vote.node)).or_default().push(vote);
        }
        let nodes = entries
            .into_iter()
            .map(|entry| ((entry.tree, entry.node), entry))
            .collect();
        Self {
            nodes,
            votes,
            roots,
            targets,
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

    /// The leaf that a row falls into.
    fn leaf(&self, root: (i64, i64), row: &[f64]) -> Option<(i64, i64)> {
        let mut node = self.nodes.get(&root)?;
        while node.mode != Mode::Leaf {
            let x = *row.get(node.feature as usize)?;
            let holds = node.mode.holds(x, node.threshold) || (x.is_nan() && node.missing_is_true);
            let next = if holds { node.on_true } else { node.on_false };
            node = self.nodes.get(&(node.tree, next))?;
        }
        Some((node.tree, node.node))
    }
}
