use proptest::prelude::*;

use super::*;

fn leaf(tree: i64, node: i64) -> NodeEntry {
    NodeEntry::leaf(tree, node)
}

fn branch(tree: i64, node: i64, children: (i64, i64)) -> NodeEntry {
    NodeEntry {
        mode: Mode::LessOrEqual,
        on_true: children.0,
        on_false: children.1,
        ..leaf(tree, node)
    }
}

fn lists(nodes: &[NodeEntry], votes: &[VoteEntry], targets: usize) -> Lists {
    Lists {
        nodes: nodes.to_vec(),
        votes: votes.to_vec(),
        sets: Vec::new(),
        targets,
    }
}

fn vote(tree: i64, node: i64, target: u32, weight: f64) -> VoteEntry {
    VoteEntry {
        tree,
        node,
        target,
        weight,
    }
}

/// How leaves vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voting {
    /// Once, for target 0.
    Single,
    /// Once, for the target of their tree.
    ByTree,
    /// As often as they like, for any target.
    Free,
}

/// What decides a random ensemble: each number is spent on one choice.
#[derive(Debug, Clone)]
struct Plan {
    trees: usize,
    features: u32,
    targets: u32,
    voting: Voting,
    /// The comparison of all branches, where they have one.
    mode: Option<Mode>,
    /// Whether numbers next to 0 may be missing.
    zeros: bool,
    choices: Vec<u32>,
}

const MODES: [Mode; 7] = [
    Mode::LessOrEqual,
    Mode::Less,
    Mode::GreaterOrEqual,
    Mode::Greater,
    Mode::Equal,
    Mode::NotEqual,
    Mode::Member,
];

fn plans() -> impl Strategy<Value = Plan> {
    let voting = prop::sample::select(vec![Voting::Single, Voting::ByTree, Voting::Free]);
    (
        (1_usize..20, 1_u32..6, 1_u32..4),
        voting,
        prop::option::of(prop::sample::select(MODES.to_vec())),
        any::<bool>(),
        prop::collection::vec(any::<u32>(), 64),
    )
        .prop_map(
            |((trees, features, targets), voting, mode, zeros, choices)| Plan {
                trees,
                features,
                targets,
                voting,
                mode,
                zeros,
                choices,
            },
        )
}

/// Thresholds and features come from a few values, so that equality happens; one is next to 0.
fn grid(choice: u32) -> f64 {
    match choice % 10 {
        9 => 1e-36,
        step => f64::from(step) * 0.25 - 1.0,
    }
}

/// A member set of each way to read fractions.
fn sets() -> Vec<Members> {
    let values = [-0.75, 0.0, 1.0, 0.5];
    [Fractions::Outside, Fractions::Down, Fractions::TowardsZero]
        .map(|fractions| Members::new(fractions, values))
        .to_vec()
}

/// Spends the plan's numbers.
struct Choices<'p> {
    plan: &'p Plan,
    cursor: usize,
}

impl Choices<'_> {
    fn below(&mut self, bound: u32) -> u32 {
        self.cursor += 1;
        self.plan.choices[self.cursor % self.plan.choices.len()]
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(u32::try_from(self.cursor).unwrap() * 7919)
            / 13
            % bound
    }

    fn branch(&mut self, tree: i64, node: i64, next: i64) -> NodeEntry {
        let plan = self.plan;
        let drawn = MODES[self.below(7) as usize];
        NodeEntry {
            feature: self.below(plan.features),
            mode: plan.mode.unwrap_or(drawn),
            threshold: grid(self.below(10)),
            set: self.below(3),
            missing: Missing {
                is_true: self.below(2) == 1,
                zero: plan.zeros && self.below(2) == 1,
            },
            ..branch(tree, node, (next, next + 1))
        }
    }

    fn votes(&mut self, tree: i64, node: i64) -> Vec<VoteEntry> {
        let targets = self.plan.targets;
        let (count, fixed) = match self.plan.voting {
            Voting::Single => (1, Some(0)),
            Voting::ByTree => (1, u32::try_from(tree).ok().map(|tree| tree % targets)),
            Voting::Free => (self.below(4), None),
        };
        (0..count)
            .map(|_| {
                let target = self.below(targets);
                let weight = grid(self.below(9));
                vote(tree, node, fixed.unwrap_or(target), weight)
            })
            .collect()
    }
}

fn grow(plan: &Plan) -> Lists {
    let mut choices = Choices { plan, cursor: 0 };
    let mut grown = Lists {
        sets: sets(),
        targets: plan.targets as usize,
        ..Lists::default()
    };
    for tree in 0..i64::try_from(plan.trees).unwrap() {
        let (mut next, mut open) = (1, vec![(0, 0_u32)]);
        while let Some((node, depth)) = open.pop() {
            if depth < 7 && choices.below(4) != 0 {
                grown.nodes.push(choices.branch(tree, node, next));
                open.extend([(next, depth + 1), (next + 1, depth + 1)]);
                next += 2;
            } else {
                grown.nodes.push(leaf(tree, node));
                grown.votes.extend(choices.votes(tree, node));
            }
        }
    }
    grown
}

fn check<T: Threshold>(plan: &Plan, rows: &[Vec<f64>], aggregate: Aggregate) {
    let lists = grow(plan);
    let targets = lists.targets;
    let trees = Trees::<T>::build(&lists).unwrap();
    let width = plan.features as usize;
    let flat: Vec<T> = rows.iter().flatten().map(|x| T::from_f64(*x)).collect();
    let mut scores = vec![f64::NAN; rows.len() * targets];
    trees
        .aggregate(&flat, width, aggregate, &mut scores)
        .unwrap();
    // Sums of f32 depend on their order: the two walks must make them in the same one.
    let mut sums = vec![0.1_f32; rows.len() * targets];
    trees.add_to(&flat, width, &mut sums).unwrap();
    let reference = plain::Plain::new(lists);
    for (at, row) in rows.iter().enumerate() {
        let expected = reference.aggregate(aggregate, row).unwrap();
        for (expected, got) in expected.iter().zip(&scores[at * targets..]) {
            assert!(
                (expected - got).abs() < 1e-9,
                "{expected} is not {got} for {row:?} under {aggregate:?}"
            );
        }
        let mut expected = vec![0.1_f32; targets];
        reference.add_to(row, &mut expected).unwrap();
        assert_eq!(expected, sums[at * targets..][..targets], "{row:?}");
    }
}

proptest! {
    #[test]
    fn the_flattened_walk_equals_the_plain_one(
        plan in plans(),
        rows in 0_usize..40,
        aggregate in prop::sample::select(vec![Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max]),
        cells in prop::collection::vec(prop::option::weighted(0.9, any::<u32>()), 240),
    ) {
        let width = plan.features as usize;
        let rows: Vec<Vec<f64>> = (0..rows)
            .map(|row| (0..width).map(|column| cells[row * width + column].map_or(f64::NAN, grid)).collect())
            .collect();
        check::<f32>(&plan, &rows, aggregate);
        check::<f64>(&plan, &rows, aggregate);
    }
}

#[test]
fn a_wide_batch_crosses_blocks() {
    let plan = Plan {
        trees: 11,
        features: 3,
        targets: 2,
        voting: Voting::Free,
        mode: Some(Mode::Less),
        zeros: false,
        choices: (0..64).map(|choice| choice * 40_503).collect(),
    };
    let rows: Vec<Vec<f64>> = (0..300)
        .map(|row| vec![grid(row), grid(row / 9), grid(row / 81)])
        .collect();
    check::<f32>(&plan, &rows, Aggregate::Sum);
}

#[test]
fn a_single_leaf_is_a_tree() {
    let trees = Trees::<f32>::build(&lists(&[leaf(0, 0)], &[vote(0, 0, 0, 2.5)], 1)).unwrap();
    let mut scores = [0.0_f64; 3];
    trees
        .aggregate(&[1.0, 2.0, 3.0], 1, Aggregate::Sum, &mut scores)
        .unwrap();
    assert_eq!(scores, [2.5; 3]);
}

#[test]
fn a_node_is_sixteen_bytes_at_most() {
    assert_eq!(size_of::<Node<f32>>(), 12);
    assert_eq!(size_of::<Node<f64>>(), 16);
}

#[test]
fn widened_thresholds_stay_what_they_were() {
    let narrow = NodeEntry {
        threshold: 0.1,
        ..branch(0, 0, (1, 2))
    };
    let votes = [vote(0, 1, 0, 1.0), vote(0, 2, 0, 2.0)];
    let trees = Trees::<f32>::build(&lists(&[narrow, leaf(0, 1), leaf(0, 2)], &votes, 1))
        .unwrap()
        .widen();
    let mut scores = [0.0_f64; 2];
    // 0.1 as f32 lies above 0.1 as f64.
    trees
        .aggregate(&[f64::from(0.1_f32), 0.1], 1, Aggregate::Sum, &mut scores)
        .unwrap();
    assert_eq!(scores, [1.0, 1.0]);
}

#[test]
fn narrow_rows_are_refused() {
    let wide = NodeEntry {
        feature: 4,
        ..branch(0, 0, (1, 2))
    };
    let trees = Trees::<f32>::build(&lists(&[wide, leaf(0, 1), leaf(0, 2)], &[], 1)).unwrap();
    let error = trees
        .aggregate(&[0.0; 4], 4, Aggregate::Sum, &mut [0.0_f64])
        .unwrap_err();
    assert_eq!(error, NarrowRowError { needed: 5, got: 4 });
}

#[test]
fn each_fault_in_the_lists_is_named() {
    let build = |entries: &[NodeEntry], votes: &[VoteEntry]| {
        Trees::<f32>::build(&lists(entries, votes, 1)).unwrap_err()
    };
    assert_eq!(
        build(&[leaf(0, 0), leaf(0, 0)], &[]),
        BuildTreesError::Twice { tree: 0, node: 0 }
    );
    assert_eq!(
        build(&[branch(0, 0, (1, 2)), leaf(0, 1)], &[]),
        BuildTreesError::Missing { tree: 0, node: 2 }
    );
    assert_eq!(
        build(&[branch(0, 0, (1, 1)), leaf(0, 1)], &[]),
        BuildTreesError::Shared { tree: 0, node: 1 }
    );
    assert_eq!(
        build(&[leaf(0, 0), leaf(0, 1)], &[]),
        BuildTreesError::Roots { tree: 0, roots: 2 }
    );
    assert_eq!(
        build(&[branch(0, 0, (1, 0)), leaf(0, 1)], &[]),
        BuildTreesError::Roots { tree: 0, roots: 0 }
    );
    let ring = [
        leaf(0, 0),
        branch(0, 1, (2, 3)),
        leaf(0, 2),
        branch(0, 3, (1, 4)),
        leaf(0, 4),
    ];
    assert_eq!(build(&ring, &[]), BuildTreesError::Ring);
    let stump = [branch(0, 0, (1, 2)), leaf(0, 1), leaf(0, 2)];
    assert_eq!(
        build(&stump, &[vote(0, 0, 0, 1.0)]),
        BuildTreesError::Inner { tree: 0, node: 0 }
    );
    assert_eq!(
        build(&stump, &[vote(0, 1, 3, 1.0)]),
        BuildTreesError::Target {
            target: 3,
            targets: 1
        }
    );
    let asking = NodeEntry {
        mode: Mode::Member,
        set: 1,
        ..branch(0, 0, (1, 2))
    };
    assert_eq!(
        build(&[asking, leaf(0, 1), leaf(0, 2)], &[]),
        BuildTreesError::Set {
            tree: 0,
            node: 0,
            set: 1,
            sets: 0
        }
    );
    let far = NodeEntry {
        feature: 1 << 24,
        ..branch(0, 0, (1, 2))
    };
    assert_eq!(
        build(&[far, leaf(0, 1), leaf(0, 2)], &[]),
        BuildTreesError::Size
    );
}
