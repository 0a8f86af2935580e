//! The measure itself, against values of a table of the chi-square distribution.

use edgeward_suite::fit_of_three;

#[test]
fn probabilities_are_those_of_the_table() {
    // Two degrees of freedom: 5.991 is exceeded with probability 0.05, 9.210 with 0.01,
    // 18.421 with 0.0001.
    let thirds = [1.0 / 3.0; 3];
    // Moving d of a million from one kind to another makes x = 2 d^2 / 1,000,000.
    for (moved, probability) in [(0, 1.0), (1731, 0.05), (2146, 0.01), (3035, 1e-4)] {
        let counts = [1_000_000 + moved, 1_000_000 - moved, 1_000_000];
        let found = fit_of_three(counts, thirds);
        assert!(
            (found / probability - 1.0).abs() < 0.01,
            "{counts:?}: {found}"
        );
    }
}

#[test]
fn a_kind_without_a_share_may_not_be_counted() {
    assert_eq!(fit_of_three([50, 50, 0], [0.5, 0.5, 0.0]), 1.0);
    assert_eq!(fit_of_three([50, 49, 1], [0.5, 0.5, 0.0]), 0.0);
}
