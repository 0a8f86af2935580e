//! The trees of a saved `XGBoost` model as [`Lists`].
//!
//! | `XGBoost` | here |
//! |---|---|
//! | `x < condition` goes left | the true branch is left |
//! | a category in the node's set goes right, any other number left | the true branch is right |
//! | NaN goes to the default child | `missing.is_true` says whether that is the true branch |

use super::document::{BoosterModel, TreeEntry};
use super::{count, damaged};
use crate::engine::LoadModelError;
use crate::trees::{Fractions, Lists, Members, Missing, Mode, NodeEntry, VoteEntry};

/// How many of the trees are used: all, or those of the first `rounds`.
pub(super) fn used(model: &BoosterModel, rounds: Option<usize>, targets: usize) -> usize {
    let all = model.trees.len();
    let Some(rounds) = rounds else {
        return all;
    };
    if let Some(end) = model.iteration_indptr.get(rounds) {
        return all.min(*end);
    }
    let parallel = &model.gbtree_model_param.num_parallel_tree;
    let parallel = parallel.parse::<usize>().unwrap_or(1).max(1);
    let a_round = targets.saturating_mul(parallel);
    all.min(rounds.saturating_mul(a_round))
}

/// The first `used` trees; `drops` multiplies the votes of each.
pub(super) fn lists(
    model: &BoosterModel,
    drops: Option<&[f32]>,
    used: usize,
    targets: usize,
) -> Result<Lists, LoadModelError> {
    if model.tree_info.len() != model.trees.len()
        || drops.is_some_and(|drops| drops.len() != model.trees.len())
    {
        return Err(damaged("the lists of trees differ in length"));
    }
    let mut lists = Lists {
        targets,
        ..Lists::default()
    };
    let trees = model.trees.iter().zip(&model.tree_info).take(used);
    for ((number, (entry, target)), at) in (0..).zip(trees).zip(0..) {
        let target = u32::try_from(*target)
            .ok()
            .filter(|target| (*target as usize) < targets);
        let tree = Tree {
            number,
            entry,
            target: target.ok_or_else(|| damaged("tree_info names a target that is not there"))?,
            drop: drops
                .and_then(|drops| drops.get(at))
                .copied()
                .unwrap_or(1.0),
            vector: count("size_leaf_vector", &entry.tree_param.size_leaf_vector)?.max(1),
        };
        if tree.vector > 1 && tree.vector != targets {
            return Err(damaged(
                "leaves have another number of weights than targets",
            ));
        }
        tree.add_to(&mut lists)
            .ok_or_else(|| damaged(format!("tree {number} is damaged")))?;
    }
    Ok(lists)
}

struct Tree<'d> {
    number: i64,
    entry: &'d TreeEntry,
    target: u32,
    drop: f32,
    /// How many weights a leaf has.
    vector: usize,
}

impl Tree<'_> {
    /// Adds what can be reached from node 0; pruned nodes stay in the file. `None` when a list is too
    /// short, or a node has two parents.
    fn add_to(&self, lists: &mut Lists) -> Option<()> {
        let mut seen = vec![false; self.entry.left_children.len()];
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            let place = seen.get_mut(node)?;
            if std::mem::replace(place, true) {
                return None;
            }
            let left = *self.entry.left_children.get(node)?;
            let right = *self.entry.right_children.get(node)?;
            if left < 0 {
                lists.nodes.push(NodeEntry::leaf(self.number, id(node)?));
                self.vote(node, right, lists)?;
                continue;
            }
            lists
                .nodes
                .push(self.branch(node, (left, right), &mut lists.sets)?);
            open.extend([usize::try_from(right).ok()?, usize::try_from(left).ok()?]);
        }
        Some(())
    }

    fn vote(&self, node: usize, right: i64, lists: &mut Lists) -> Option<()> {
        let mut vote = |target: u32, weight: f32| {
            lists.votes.push(VoteEntry {
                tree: self.number,
                node: id(node)?,
                target,
                weight: f64::from(weight * self.drop),
            });
            Some(())
        };
        if self.vector == 1 {
            return vote(self.target, *self.entry.split_conditions.get(node)?);
        }
        let (place, weights) = if self.entry.leaf_weights.is_empty() {
            (node, &self.entry.base_weights)
        } else {
            (usize::try_from(right).ok()?, &self.entry.leaf_weights)
        };
        let from = place.checked_mul(self.vector)?;
        weights
            .get(from..from.checked_add(self.vector)?)?
            .iter()
            .zip(0..)
            .try_for_each(|(weight, target)| vote(target, *weight))
    }

    fn branch(
        &self,
        node: usize,
        (left, right): (i64, i64),
        sets: &mut Vec<Members>,
    ) -> Option<NodeEntry> {
        let default_left = self.entry.default_left.get(node)?.is_set();
        let feature = u32::try_from(*self.entry.split_indices.get(node)?).ok()?;
        let numeric = NodeEntry {
            tree: self.number,
            node: id(node)?,
            feature,
            mode: Mode::Less,
            threshold: f64::from(*self.entry.split_conditions.get(node)?),
            set: 0,
            on_true: left,
            on_false: right,
            missing: Missing {
                is_true: default_left,
                zero: false,
            },
        };
        if self.entry.split_type.get(node).copied().unwrap_or(0) == 0 {
            return Some(numeric);
        }
        let set = u32::try_from(sets.len()).ok()?;
        sets.push(self.members(node)?);
        Some(NodeEntry {
            mode: Mode::Member,
            threshold: 0.0,
            set,
            on_true: right,
            on_false: left,
            missing: Missing {
                is_true: !default_left,
                zero: false,
            },
            ..numeric
        })
    }

    fn members(&self, node: usize) -> Option<Members> {
        let wanted = i64::try_from(node).ok()?;
        // XGBoost writes them in order.
        let at = self.entry.categories_nodes.binary_search(&wanted).ok()?;
        let start = *self.entry.categories_segments.get(at)?;
        let end = start.checked_add(*self.entry.categories_sizes.get(at)?)?;
        let categories = self.entry.categories.get(start..end)?;
        let small: Option<Vec<f64>> = categories
            .iter()
            .map(|category| u32::try_from(*category).ok().map(f64::from))
            .collect();
        Some(Members::new(Fractions::Down, small?))
    }
}

fn id(node: usize) -> Option<i64> {
    i64::try_from(node).ok()
}
