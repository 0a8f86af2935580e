//! The trees of a saved `LightGBM` model as [`Lists`].
//!
//! | `LightGBM` | here |
//! |---|---|
//! | `x <= threshold` goes left | the true branch is left |
//! | a category in the node's bits goes left, any other number and NaN right | the true branch is left |
//! | missing type none: NaN is 0 | `missing.is_true` is where 0 goes |
//! | missing type zero: NaN and what is next to 0 go to the default child | `missing.zero` |
//! | missing type NaN: NaN goes to the default child | `missing.is_true` is the default child |
//!
//! Children below 0 are leaves: `-1` is leaf 0. Branches keep their numbers here, leaves get those
//! behind them.

use super::text::Section;
use super::{damaged, not_served};
use crate::engine::LoadModelError;
use crate::trees::{Fractions, Lists, Members, Missing, Mode, NodeEntry, VoteEntry};

/// Bits of `decision_type`.
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;
const MISSING_SHIFT: u8 = 2;

/// Adds a tree to the lists.
pub(super) fn add(
    number: i64,
    section: &Section<'_>,
    target: usize,
    lists: &mut Lists,
) -> Result<(), LoadModelError> {
    let fail = |reason: String| damaged(format!("tree {number}: {reason}"));
    if section
        .get("is_linear")
        .is_some_and(|linear| linear.trim() != "0")
    {
        return Err(not_served(
            "linear trees of LightGBM (linear_tree=true): train without them",
        ));
    }
    let target = u32::try_from(target).map_err(|_| damaged("too many targets"))?;
    let leaves: usize = section.parse("num_leaves").map_err(fail)?;
    let values: Vec<f64> = section.list("leaf_value", leaves).map_err(fail)?;
    let first_leaf = i64::try_from(leaves.saturating_sub(1)).map_err(|_| fail("size".into()))?;
    for (leaf, weight) in (first_leaf..).zip(values) {
        lists.votes.push(VoteEntry {
            tree: number,
            node: leaf,
            target,
            weight,
        });
    }
    let branches = Branches::read(section, leaves.saturating_sub(1)).map_err(fail)?;
    branches
        .add_to(number, first_leaf, lists)
        .ok_or_else(|| fail("a list is too short, or a child is not there".to_owned()))?;
    lists.nodes.extend(
        (first_leaf..)
            .take(leaves)
            .map(|leaf| NodeEntry::leaf(number, leaf)),
    );
    Ok(())
}

/// The branches of a tree, a list per property.
struct Branches {
    features: Vec<u32>,
    thresholds: Vec<f64>,
    decisions: Vec<u8>,
    left: Vec<i64>,
    right: Vec<i64>,
    /// Where the bits of each set begin, and the end.
    set_bounds: Vec<usize>,
    set_bits: Vec<u32>,
}

impl Branches {
    fn read(section: &Section<'_>, count: usize) -> Result<Self, String> {
        let sets: usize = match section.get("num_cat") {
            Some(_) => section.parse("num_cat")?,
            None => 0,
        };
        let set_bounds: Vec<usize> = if sets == 0 {
            Vec::new()
        } else {
            section.list("cat_boundaries", sets.saturating_add(1))?
        };
        let words = set_bounds.last().copied().unwrap_or_default();
        Ok(Self {
            features: section.list("split_feature", count)?,
            thresholds: section.list("threshold", count)?,
            decisions: section.list("decision_type", count)?,
            left: section.list("left_child", count)?,
            right: section.list("right_child", count)?,
            set_bits: section.list("cat_threshold", words)?,
            set_bounds,
        })
    }

    fn add_to(&self, tree: i64, first_leaf: i64, lists: &mut Lists) -> Option<()> {
        let child = |child: i64| {
            if child < 0 {
                // -1 is leaf 0.
                first_leaf.checked_add(!child)
            } else {
                Some(child)
            }
        };
        for at in 0..self.features.len() {
            let decision = *self.decisions.get(at)?;
            let threshold = *self.thresholds.get(at)?;
            let branch = NodeEntry {
                tree,
                node: i64::try_from(at).ok()?,
                feature: *self.features.get(at)?,
                mode: Mode::LessOrEqual,
                threshold,
                set: 0,
                on_true: child(*self.left.get(at)?)?,
                on_false: child(*self.right.get(at)?)?,
                missing: missing(decision, threshold)?,
            };
            lists.nodes.push(if decision & CATEGORICAL == 0 {
                branch
            } else {
                let set = u32::try_from(lists.sets.len()).ok()?;
                lists.sets.push(self.members(threshold)?);
                NodeEntry {
                    mode: Mode::Member,
                    threshold: 0.0,
                    set,
                    missing: Missing::default(),
                    ..branch
                }
            });
        }
        Some(())
    }

    /// The set of that number, which stands where a threshold would.
    fn members(&self, number: f64) -> Option<Members> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number that is no position finds nothing"
        )]
        let at = number as usize;
        let (start, end) = (*self.set_bounds.get(at)?, *self.set_bounds.get(at + 1)?);
        let words = self.set_bits.get(start..end)?;
        let members = (0_u32..).step_by(32).zip(words).flat_map(|(base, word)| {
            let set = (0..32).filter(move |bit| word >> bit & 1 == 1);
            set.map(move |bit| f64::from(base + bit))
        });
        Some(Members::new(Fractions::TowardsZero, members))
    }
}

/// What is missing at a numerical branch. `None` for a type that there is none of.
fn missing(decision: u8, threshold: f64) -> Option<Missing> {
    let default_left = decision & DEFAULT_LEFT != 0;
    Some(match decision >> MISSING_SHIFT & 3 {
        0 => Missing {
            is_true: 0.0 <= threshold,
            zero: false,
        },
        1 => Missing {
            is_true: default_left,
            zero: true,
        },
        2 => Missing {
            is_true: default_left,
            zero: false,
        },
        _ => return None,
    })
}
