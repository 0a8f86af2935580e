use proptest::prelude::*;

use super::*;

fn leaf(tree: i64, node: i64) -> NodeEntry {
    NodeEntry {
        tree,
        node,
        feature: 0,
        mode: Mode::Leaf,
        threshold: 0.0,
        on_true: 0,
        on_false: 0,
        missing_is_true: false,
    }
}

fn branch(tree: i64, node: i64, children: (i64, i64)) -> NodeEntry {
    NodeEntry {
        mode: Mode::LessOrEqual,
        on_true: children.0,
        on_false: children.1,
        ..leaf(tree, node)
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

/// What decides a random ensemble: each number is spent on one choice.
#[derive(Debug, Clone)]
struct Plan {
    trees: usize,
    features: u32,
    targets: u32,
    one_vote: bool,
    one_mode: bool,
    choices: Vec<u32>,
}

fn plans() -> impl Strategy<Value = Plan> {
    (
        1_usize..20,
        1_u32..6,
        1_u32..4,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(any::<u32>(), 64),
    )
        .prop_map(
            |(trees, features, targets, one_vote, one_mode, choices)| Plan {
                trees,
                features,
                targets,
                one_vote,
                one_mode,
                choices,
            },
        )
}

/// Thresholds and features come from a few values, so that equality happens.
fn grid(choice: u32) -> f64 {
    f64::from(choice % 9) * 0.25 - 1.0
}

const MODES: [Mode; 6] = [
    Mode::LessOrEqual,
    Mode::Less,
    Mode::GreaterOrEqual,
    Mode::Greater,
    Mode::Equal,
    Mode::NotEqual,
];

fn grow(plan: &Plan) -> (Vec<NodeEntry>, Vec<VoteEntry>) {
    let (mut entries, mut votes) = (Vec::new(), Vec::new());
    let mut cursor = 0;
    let mut choose = |below: u32| {
        cursor += 1;
        plan.choices[cursor % plan.choices.len()]
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(u32::try_from(cursor).unwrap() * 7919)
            / 13
            % below
    };
    for tree in 0..i64::try_from(plan.trees).unwrap() {
        let (mut next, mut open) = (1, vec![(0, 0_u32)]);
        while let Some((node, depth)) = open.pop() {
            if depth < 7 && choose(4) != 0 {
                entries.push(NodeEntry {
                    tree,
                    node,
                    feature: choose(plan.features),
                    mode: MODES[if plan.one_mode {
                        plan.choices[0] as usize
                    } else {
                        choose(6) as usize
                    } % 6],
                    threshold: grid(choose(9)),
                    on_true: next,
                    on_false: next + 1,
                    missing_is_true: choose(2) == 1,
                });
                open.extend([(next, depth + 1), (next + 1, depth + 1)]);
                next += 2;
            } else {
                entries.push(leaf(tree, node));
                let count = if plan.one_vote { 1 } else { choose(4) };
                for _ in 0..count {
                    let target = if plan.one_vote {
                        0
                    } else {
                        choose(plan.targets)
                    };
                    votes.push(vote(tree, node, target, grid(choose(9))));
                }
            }
        }
    }
    (entries, votes)
}

fn check<T: Threshold>(plan: &Plan, rows: &[Vec<f64>], aggregate: Aggregate) {
    let (entries, votes) = grow(plan);
    let targets = plan.targets as usize;
    let trees = Trees::<T>::build(&entries, &votes, targets).unwrap();
    let width = plan.features as usize;
    let flat: Vec<T> = rows.iter().flatten().map(|x| T::from_f64(*x)).collect();
    let mut scores = vec![f64::NAN; rows.len() * targets];
    trees
        .aggregate(&flat, width, aggregate, &mut scores)
        .unwrap();
    let reference = plain::Plain::new(entries, votes, targets);
    for (row, got) in rows.iter().zip(scores.chunks(targets)) {
        let expected = reference.aggregate(aggregate, row).unwrap();
        for (expected, got) in expected.iter().zip(got) {
            assert!(
                (expected - got).abs() < 1e-9,
                "{expected} is not {got} for {row:?} under {aggregate:?}"
            );
        }
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
        one_vote: false,
        one_mode: true,
        choices: (0..64).map(|choice| choice * 40_503).collect(),
    };
    let rows: Vec<Vec<f64>> = (0..300)
        .map(|row| vec![grid(row), grid(row / 9), grid(row / 81)])
        .collect();
    check::<f32>(&plan, &rows, Aggregate::Sum);
}

#[test]
fn a_single_leaf_is_a_tree() {
    let trees = Trees::<f32>::build(&[leaf(0, 0)], &[vote(0, 0, 0, 2.5)], 1).unwrap();
    let mut scores = [0.0; 3];
    trees
        .aggregate(&[1.0, 2.0, 3.0], 1, Aggregate::Sum, &mut scores)
        .unwrap();
    assert_eq!(scores, [2.5; 3]);
}

#[test]
fn a_node_is_sixteen_bytes() {
    assert_eq!(size_of::<Node<f32>>(), 16);
}

#[test]
fn widened_thresholds_stay_what_they_were() {
    let narrow = NodeEntry {
        threshold: 0.1,
        ..branch(0, 0, (1, 2))
    };
    let votes = [vote(0, 1, 0, 1.0), vote(0, 2, 0, 2.0)];
    let trees = Trees::<f32>::build(&[narrow, leaf(0, 1), leaf(0, 2)], &votes, 1)
        .unwrap()
        .widen();
    let mut scores = [0.0; 2];
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
    let trees = Trees::<f32>::build(&[wide, leaf(0, 1), leaf(0, 2)], &[], 1).unwrap();
    let error = trees
        .aggregate(&[0.0; 4], 4, Aggregate::Sum, &mut [0.0])
        .unwrap_err();
    assert_eq!(error, NarrowRowError { needed: 5, got: 4 });
}

#[test]
fn each_fault_in_the_lists_is_named() {
    let build = |entries: &[NodeEntry], votes: &[VoteEntry]| {
        Trees::<f32>::build(entries, votes, 1).unwrap_err()
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
}
