//! The loops against plain ones, on every width of vectors that this processor has.

use edgeward_harness::floors;
use proptest::prelude::*;

use super::depthwise::Filters;
use super::lanes::Width;
use super::product::Weights;
use super::{Bounds, function, normal, pool};
use crate::product::OUTSIDE;
use crate::team::with_helpers;

const CASES: u32 = 192;

/// Numbers that look drawn, the same for each `seed`.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |place: usize| {
        let mixed = (place + 1)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed * 40_503)
            % 1_009;
        f32::from(u16::try_from(mixed).unwrap()) / 504.5 - 1.0
    };
    (0..count).map(number).collect()
}

/// Places of rows in an image of some pixels, one in eight of them on padding.
fn places(count: usize, pixels: usize, depth: usize, seed: usize) -> Vec<usize> {
    let place = |at: usize| {
        let mixed = (at + 7 * seed + 3).wrapping_mul(40_503);
        if mixed.is_multiple_of(8) {
            OUTSIDE
        } else {
            mixed / 8 % pixels * depth
        }
    };
    (0..count).map(place).collect()
}

fn close(got: &[f32], expected: &[f64]) {
    for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(
            error <= 1e-5 + 1e-5 * expected.abs(),
            "{place}: {got}, not {expected}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_product_is_the_sum_of_its_products(
        rows in 0_usize..40, taps in 1_usize..5, depth in 0_usize..20, columns in 0_usize..140, seed in 0_usize..1_000,
    ) {
        let pixels = 9;
        let image = numbers(pixels * depth, seed);
        let places = places(rows * taps, pixels, depth, seed);
        let weights = numbers(taps * depth * columns, seed + 1);
        let bias = numbers(columns, seed + 2);
        let weight = |tap: usize, place: usize, column: usize| weights[(tap * depth + place) * columns + column];
        let bounds = Bounds { least: -1.5, most: 2.0 };
        let mut expected = Vec::new();
        for places in places.chunks(taps) {
            for (column, bias) in bias.iter().enumerate() {
                let mut sum = f64::from(*bias);
                for (tap, place) in places.iter().enumerate().filter(|(_, place)| **place != OUTSIDE) {
                    for at in 0..depth {
                        sum += f64::from(image[place + at]) * f64::from(weight(tap, at, column));
                    }
                }
                expected.push(sum.clamp(-1.5, 2.0));
            }
        }
        for width in Width::all() {
            let packed = Weights::pack_for(width, (taps, depth, columns), weight, Some(&bias));
            let mut together = vec![f32::NAN; rows * columns];
            packed.multiply(&image, &places, bounds, &mut together, columns);
            close(&together, &expected);
            let mut alone = vec![f32::NAN; rows * columns];
            for (places, numbers) in places.chunks(taps).zip(alone.chunks_mut(columns.max(1))) {
                packed.multiply(&image, places, bounds, numbers, columns);
            }
            prop_assert_eq!(&together, &alone, "rows alone, {:?}", width);
        }
    }

    #[test]
    fn each_channel_has_a_filter_of_its_own(
        columns in 0_usize..11, taps in 1_usize..10, channels in 1_usize..80, seed in 0_usize..1_000,
    ) {
        let pixels = 12;
        let image = numbers(pixels * channels, seed);
        let places = places(columns * taps, pixels, channels, seed);
        let weights = numbers(taps * channels, seed + 1);
        let bias = numbers(channels, seed + 2);
        let bounds = Bounds { least: 0.0, most: 6.0 };
        let mut expected = Vec::new();
        for places in places.chunks(taps) {
            for channel in 0..channels {
                let mut sum = f64::from(bias[channel]);
                for (tap, place) in places.iter().enumerate().filter(|(_, place)| **place != OUTSIDE) {
                    sum += f64::from(image[place + channel]) * f64::from(weights[tap * channels + channel]);
                }
                expected.push(sum.clamp(0.0, 6.0));
            }
        }
        for width in Width::all() {
            let filters = Filters::new_for(width, (taps, channels), |tap, channel| weights[tap * channels + channel], Some(&bias));
            let mut results = vec![f32::NAN; columns * channels];
            filters.convolve(&image, (&places, 0..0), bounds, &mut results);
            close(&results, &expected);
        }
    }
}

/// A product whose rows, or whose columns, several threads share is the same to the bit.
#[test]
fn a_shared_product_is_the_same() {
    for (rows, depth, columns) in [(1, 40, 300), (5, 7, 130), (49, 33, 200), (500, 24, 40)] {
        let (matrix, weights) = (numbers(rows * depth, 3), numbers(depth * columns, 4));
        let weight = |_, place: usize, column: usize| weights[place * columns + column];
        let packed = Weights::pack((1, depth, columns), weight, Some(&numbers(columns, 5)));
        let multiply = || {
            let mut results = vec![f32::NAN; rows * columns];
            packed.multiply_matrix(&matrix, Bounds::NONE, &mut results, columns);
            results
        };
        let alone = multiply();
        assert!(alone.iter().all(|number| number.is_finite()));
        assert_eq!(
            with_helpers(2, multiply),
            alone,
            "{rows} x {depth} x {columns}"
        );
    }
}

#[test]
fn a_matrix_is_multiplied_in_blocks() {
    let (rows, depth, columns) = (1_201, 700, 5);
    let matrix = numbers(rows * depth, 1);
    let packed = Weights::pack(
        (1, depth, columns),
        |_, place, column| if place % columns == column { 1.0 } else { 0.0 },
        None,
    );
    let mut sums = vec![0.0; rows * columns];
    packed.multiply_matrix(&matrix, Bounds::NONE, &mut sums, columns);
    for (row, sums) in matrix.chunks(depth).zip(sums.chunks(columns)) {
        let expected: Vec<f64> = (0..columns)
            .map(|column| {
                row.iter()
                    .skip(column)
                    .step_by(columns)
                    .map(|x| f64::from(*x))
                    .sum()
            })
            .collect();
        close(sums, &expected);
    }
}

#[test]
fn not_a_number_stays_one_within_bounds() {
    let bounds = Bounds {
        least: 0.0,
        most: 6.0,
    };
    for width in Width::all() {
        let packed = Weights::pack_for(width, (1, 1, 3), |_, _, _| 1.0, None);
        let mut sums = vec![0.0; 3];
        packed.multiply(&[f32::NAN], &[0], bounds, &mut sums, 3);
        assert!(sums.iter().all(|sum| sum.is_nan()), "{width:?}: {sums:?}");
    }
}

#[test]
fn functions_are_within_some_units_of_the_last_place() {
    type Pair = (&'static str, fn(&mut [f32]), fn(f64) -> f64);
    let functions: [Pair; 3] = [
        ("exp", |x| function::exp(x), f64::exp),
        (
            "sigmoid",
            |x| function::sigmoid(x),
            |x| 1.0 / (1.0 + (-x).exp()),
        ),
        ("tanh", |x| function::tanh(x), f64::tanh),
    ];
    let mut cases = 0_u64;
    for (name, ours, exact) in functions {
        let given: Vec<f32> = (-8_800_i16..=8_800)
            .map(|step| f32::from(step) / 100.0)
            .collect();
        let mut got = given.clone();
        ours(&mut got);
        for (x, got) in given.iter().zip(got) {
            let expected = exact(f64::from(*x));
            let error = (f64::from(got) - expected).abs()
                / expected.abs().max(f64::from(f32::MIN_POSITIVE));
            assert!(
                error <= 4.0 * f64::from(f32::EPSILON),
                "{name}({x}) is {got}, not {expected}"
            );
            cases += 1;
        }
        let mut special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
        ours(&mut special);
        assert!(special[0].is_nan(), "{name}");
        assert_eq!(
            special[1..3]
                .iter()
                .map(|x| f64::from(*x))
                .collect::<Vec<_>>(),
            [exact(f64::INFINITY), exact(f64::NEG_INFINITY)],
            "{name}"
        );
    }
    floors::reached("kernels.float.functions", cases);
}

#[test]
fn the_largest_of_a_window_with_nan_is_nan_and_padding_is_none() {
    let windows = pool::Windows {
        image: &[1.0, -2.0, f32::NAN, -3.0],
        channels: 2,
        places: &[0, 2, OUTSIDE, 2],
        taps: 2,
    };
    let mut largest = [0.0; 4];
    pool::most(windows, &mut largest);
    let [first, second, third, fourth] = largest;
    assert!(first.is_nan() && third.is_nan());
    assert_eq!([second, fourth], [-2.0, -3.0]);
}

#[test]
fn the_largest_of_any_number_of_channels_is_that_of_each() {
    let (taps, windows) = (5, 7);
    let number = |at: usize| match at * 7919 % 101 {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        other => other as f32 - 50.0,
    };
    for channels in 1..70 {
        let pixels = 11;
        let image: Vec<f32> = (0..pixels * channels).map(number).collect();
        let place = |at: usize| match at * 31 % 13 {
            pixel if pixel < pixels => pixel * channels,
            _ => OUTSIDE,
        };
        let places: Vec<usize> = (0..windows * taps).map(place).collect();
        let expected = places.chunks(taps).flat_map(|places| {
            let image = &image;
            (0..channels).map(move |channel| {
                let inside = places.iter().filter(|place| **place != OUTSIDE);
                let numbers = inside.map(|place| image[place + channel]);
                numbers.fold(f32::NEG_INFINITY, |kept, number| match number {
                    number if kept.is_nan() || number.is_nan() => f32::NAN,
                    number => kept.max(number),
                })
            })
        });
        let expected: Vec<u32> = expected.map(f32::to_bits).collect();
        for width in Width::all() {
            let windows = pool::Windows {
                image: &image,
                channels,
                places: &places,
                taps,
            };
            let mut largest = vec![0.0; expected.len()];
            pool::most_by(width, windows, &mut largest);
            let largest: Vec<u32> = largest.into_iter().map(f32::to_bits).collect();
            assert_eq!(largest, expected, "{width:?}, {channels} channels");
        }
    }
}

#[test]
fn a_row_of_little_variance_is_held_by_epsilon() {
    let row = [1e-4, -1e-4, 1e-4, -1e-4];
    let mut results = [0.0; 4];
    normal::normalise(&row, &[2.0; 4], Some(&[0.5; 4]), 1e-5, &mut results);
    let far = 2.0 * 1e-4 / (1e-8_f64 + 1e-5).sqrt();
    close(&results, &[0.5 + far, 0.5 - far, 0.5 + far, 0.5 - far]);
}
