//! From the lists of a model file to the flattened ensemble, with every check that the walk relies
//! on.

use std::collections::{HashMap, HashSet};

use super::{
    Absent, BuildTreesError, Lists, Mode, Node, NodeEntry, Root, Test, Threshold, Trees, VoteEntry,
};

type NodeId = (i64, i64);

impl<T: Threshold> Trees<T> {
    /// Checks and flattens.
    ///
    /// # Errors
    /// [`BuildTreesError`]: the first thing wrong with the lists.
    pub fn build(lists: &Lists) -> Result<Self, BuildTreesError> {
        let forest = Forest::read(lists)?;
        let mut trees = Self {
            nodes: Vec::with_capacity(lists.nodes.len()),
            roots: Vec::new(),
            ballots: Vec::new(),
            votes: Vec::new(),
            sets: lists.sets.clone(),
            targets: lists.targets,
            features: 1,
            lone: false,
            mode: common_mode(&lists.nodes),
            absent: absent(&lists.nodes),
        };
        let lone = forest.lone_targets();
        trees.lone = lone.is_some();
        let targets = lone.into_iter().flatten().chain(std::iter::repeat(0));
        for (root, target) in forest.roots()?.into_iter().zip(targets) {
            trees.flatten(&forest, root, target)?;
        }
        // One root per tree, no node with two parents, and still some not reached: they form a ring.
        if trees.nodes.len() == lists.nodes.len() {
            Ok(trees)
        } else {
            Err(BuildTreesError::Ring)
        }
    }

    /// Lays out one tree, parents before children and siblings adjacent.
    fn flatten(
        &mut self,
        forest: &Forest<'_>,
        root: NodeId,
        target: u32,
    ) -> Result<(), BuildTreesError> {
        let start = self.nodes.len();
        let mut deepest = 0;
        self.nodes.push(leaf_node(index(start)?, 0.0));
        let mut waiting = vec![(start, root, 0_u32)];
        while let Some((at, id, depth)) = waiting.pop() {
            let entry = forest.entry(id)?;
            deepest = deepest.max(depth);
            let node = if entry.mode == Mode::Leaf {
                self.leaf(at, forest.votes_of(id))?
            } else {
                let child = self.nodes.len();
                // Places for the two children, filled when their turn comes.
                let place = leaf_node(index(child)?, 0.0);
                self.nodes.extend([place, place]);
                waiting.push((child + 1, (entry.tree, entry.on_false), depth + 1));
                waiting.push((child, (entry.tree, entry.on_true), depth + 1));
                self.features = self.features.max(entry.feature as usize + 1);
                branch_node(entry, index(child)?)?
            };
            if let Some(place) = self.nodes.get_mut(at) {
                *place = node;
            }
        }
        self.roots.push(Root {
            node: index(start)?,
            depth: deepest,
            target,
        });
        Ok(())
    }

    fn leaf(&mut self, at: usize, votes: &[&VoteEntry]) -> Result<Node<T>, BuildTreesError> {
        if !self.lone {
            let first = index(self.votes.len())?;
            self.votes
                .extend(votes.iter().map(|vote| (vote.target, vote.weight)));
            let ballot = first..index(self.votes.len())?;
            self.ballots.resize(self.ballots.len().max(at + 1), 0..0);
            if let Some(place) = self.ballots.get_mut(at) {
                *place = ballot;
            }
        }
        Ok(leaf_node(
            index(at)?,
            votes.first().map_or(0.0, |vote| vote.weight),
        ))
    }
}

fn branch_node<T: Threshold>(entry: &NodeEntry, child: u32) -> Result<Node<T>, BuildTreesError> {
    Ok(Node {
        threshold: if entry.mode == Mode::Member {
            T::from_index(entry.set)
        } else {
            T::from_f64(entry.threshold)
        },
        child,
        test: Test::of(entry).ok_or(BuildTreesError::Size)?,
    })
}

fn leaf_node<T: Threshold>(at: u32, weight: f64) -> Node<T> {
    Node {
        threshold: T::from_f64(weight),
        child: at,
        test: Test::LEAF,
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

fn absent(entries: &[NodeEntry]) -> Absent {
    let rules = entries
        .iter()
        .map(|entry| match (entry.missing.zero, entry.missing.is_true) {
            (true, _) => Absent::Zero,
            (false, true) => Absent::NaN,
            (false, false) => Absent::Compared,
        });
    rules.max().unwrap_or(Absent::Compared)
}

/// The lists of a model file, checked and indexed.
struct Forest<'a> {
    entries: HashMap<NodeId, &'a NodeEntry>,
    votes: HashMap<NodeId, Vec<&'a VoteEntry>>,
    /// The trees in the order in which they first appear, with their nodes in order.
    trees: Vec<(i64, Vec<&'a NodeEntry>)>,
}

impl<'a> Forest<'a> {
    fn read(lists: &'a Lists) -> Result<Self, BuildTreesError> {
        let mut forest = Self {
            entries: HashMap::with_capacity(lists.nodes.len()),
            votes: HashMap::with_capacity(lists.votes.len()),
            trees: Vec::new(),
        };
        let mut places = HashMap::new();
        for entry in &lists.nodes {
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
            if entry.mode == Mode::Member && entry.set as usize >= lists.sets.len() {
                return Err(BuildTreesError::Set {
                    tree: entry.tree,
                    node: entry.node,
                    set: entry.set,
                    sets: lists.sets.len(),
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
        for vote in &lists.votes {
            if vote.target as usize >= lists.targets {
                return Err(BuildTreesError::Target {
                    target: vote.target,
                    targets: lists.targets,
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

    /// The target of each tree, where every leaf votes exactly once and all of a tree for the same.
    fn lone_targets(&self) -> Option<Vec<u32>> {
        let target = |(_, nodes): &(i64, Vec<&NodeEntry>)| {
            let mut leaves = nodes.iter().filter(|entry| entry.mode == Mode::Leaf);
            let vote = |leaf: &&NodeEntry| match self.votes_of((leaf.tree, leaf.node)) {
                [vote] => Some(vote.target),
                _ => None,
            };
            let first = vote(leaves.next()?)?;
            leaves
                .all(|leaf| vote(leaf) == Some(first))
                .then_some(first)
        };
        self.trees.iter().map(target).collect()
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
