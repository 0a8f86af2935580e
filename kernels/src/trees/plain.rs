//! The ensemble as the ONNX specification states it: one row at a time, nodes by number. Slow and
//! obvious; it judges the flattened walk.

use std::collections::HashMap;

use super::{Aggregate, Mode, NodeEntry, VoteEntry};

/// The aggregated votes of one row, one number per target. `None` when the row is too narrow or
/// the lists are not an ensemble that [`super::Trees::build`] accepts.
#[must_use]
pub fn aggregate(
    entries: &[NodeEntry],
    votes: &[VoteEntry],
    targets: usize,
    aggregate: Aggregate,
    row: &[f64],
) -> Option<Vec<f64>> {
    let nodes: HashMap<(i64, i64), &NodeEntry> = entries
        .iter()
        .map(|entry| ((entry.tree, entry.node), entry))
        .collect();
    let mut trees: Vec<i64> = entries.iter().map(|entry| entry.tree).collect();
    trees.dedup();
    trees.sort_unstable();
    trees.dedup();
    let mut scores: Vec<Option<f64>> = vec![None; targets];
    for tree in &trees {
        let mut node = root(entries, *tree)?;
        while node.mode != Mode::Leaf {
            let x = *row.get(node.feature as usize)?;
            let holds = node.mode.holds(x, node.threshold) || (x.is_nan() && node.missing_is_true);
            node = nodes.get(&(*tree, if holds { node.on_true } else { node.on_false }))?;
        }
        for vote in votes
            .iter()
            .filter(|vote| vote.tree == *tree && vote.node == node.node)
        {
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
        trees.len() as f64
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

/// The node of a tree that is nobody's child.
fn root(entries: &[NodeEntry], tree: i64) -> Option<&NodeEntry> {
    let of_tree = || entries.iter().filter(|entry| entry.tree == tree);
    of_tree().find(|candidate| {
        !of_tree().any(|parent| {
            parent.mode != Mode::Leaf
                && (parent.on_true == candidate.node || parent.on_false == candidate.node)
        })
    })
}
