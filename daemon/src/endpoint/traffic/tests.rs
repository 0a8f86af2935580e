use proptest::prelude::*;

use super::*;

/// Chi-square values that a true split exceeds once in 10,000 runs, for 1 to 9 degrees of freedom.
const CRITICAL: [f64; 9] = [
    15.137, 18.421, 21.108, 23.513, 25.745, 27.856, 29.878, 31.828, 33.720,
];

fn percents(shares: &[i64]) -> Vec<Percent> {
    shares
        .iter()
        .map(|share| Percent::new(*share).unwrap())
        .collect()
}

fn split(shares: &[i64]) -> TrafficSplit {
    TrafficSplit::new(&percents(shares)).unwrap()
}

/// `SplitMix64`: even over all of `u64`, and the same on every machine.
fn randoms(mut seed: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Whether 10,000 picks of `split` are what `promised` would give, with p > 1e-4.
fn keeps(split: &TrafficSplit, promised: &[i64], seed: u64) -> bool {
    const PICKS: u32 = 10_000;
    let mut counts = vec![0_u32; promised.len()];
    for random in randoms(seed).take(PICKS as usize) {
        counts[split.pick(random)] += 1;
    }
    let mut chi_square = 0.0;
    let mut cells: usize = 0;
    for (count, share) in counts.into_iter().zip(promised) {
        if *share == 0 {
            if count != 0 {
                return false;
            }
            continue;
        }
        let expected = f64::from(PICKS) * f64::from(u8::try_from(*share).unwrap()) / 100.0;
        chi_square += (f64::from(count) - expected).powi(2) / expected;
        cells += 1;
    }
    cells == 1 || chi_square < CRITICAL[cells - 2]
}

#[test]
fn ten_thousand_requests_are_split_as_configured() {
    let configs: [&[i64]; 7] = [
        &[80, 20],
        &[50, 50],
        &[99, 1],
        &[100],
        &[0, 100, 0],
        &[34, 33, 33],
        &[10, 10, 10, 10, 10, 10, 10, 10, 10, 10],
    ];
    for shares in configs {
        for seed in [1, 2, 3, 0xdead_beef] {
            assert!(
                keeps(&split(shares), shares, seed),
                "{shares:?} seed {seed}"
            );
        }
    }
}

#[test]
fn a_wrong_split_does_not_pass_for_the_right_one() {
    let wrong: [(&[i64], &[i64]); 5] = [
        (&[76, 24], &[80, 20]),
        (&[20, 80], &[80, 20]),
        (&[97, 3], &[99, 1]),
        (&[99, 1], &[100, 0]),
        (&[40, 30, 30], &[33, 33, 34]),
    ];
    for (actual, promised) in wrong {
        for seed in [1, 2, 3, 0xdead_beef] {
            assert!(
                !keeps(&split(actual), promised, seed),
                "{actual:?} seed {seed}"
            );
        }
    }
}

#[test]
fn shares_that_make_no_whole_are_refused() {
    for (shares, sum) in [
        (&[][..], 0),
        (&[99], 99),
        (&[50, 51], 101),
        (&[100, 100], 200),
    ] {
        assert_eq!(
            TrafficSplit::new(&percents(shares)),
            Err(BuildSplitError { sum })
        );
    }
}

#[test]
fn the_ends_of_the_range_belong_to_the_ends_of_the_list() {
    let split = split(&[0, 1, 98, 1, 0]);
    assert_eq!(split.pick(0), 1);
    assert_eq!(split.pick(u64::MAX), 3);
    assert_eq!(split.pick(u64::MAX / 2), 2);
}

/// One to ten shares that sum to 100.
fn shares() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(0..=100_i64, 0..=9).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts.push(100);
        let mut last = 0;
        cuts.into_iter()
            .map(|cut| {
                let share = cut - last;
                last = cut;
                share
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_share_is_exact(shares in shares()) {
        // The middle of each hundredth of the range: no random number is nearer to its ends.
        let split = split(&shares);
        let hundredth = u64::MAX / 100;
        let mut counts = vec![0_i64; shares.len()];
        for step in 0..100 {
            counts[split.pick(step * hundredth + hundredth / 2)] += 1;
        }
        for (index, share) in shares.iter().enumerate() {
            prop_assert_eq!(i64::try_from(split.share(index)).unwrap(), *share);
        }
        prop_assert_eq!(counts, shares);
    }

    #[test]
    fn what_has_no_share_is_never_picked(shares in shares(), random: u64) {
        let picked = split(&shares).pick(random);
        prop_assert!(shares[picked] > 0);
    }
}
