//! Every loop against the same computed number by number.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers are made small enough"
)]

use proptest::prelude::*;

use super::binary::{Binary, Terms, combine};
use super::depthwise::{Line, convolve};
use super::dots::Width;
use super::layout::transpose;
use super::linear::{Linear, dequantise, quantise, widen};
use super::product::Weights;
use super::requantise::{Requantise, realise, requantise, straighten};
use super::*;
use crate::product::OUTSIDE;

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Signed), Just(Encoding::Unsigned)]
}

fn linear() -> impl Strategy<Value = Linear> {
    (encoding(), 0_u8..=255, 1e-4_f32..10.0).prop_map(|(encoding, zero, scale)| Linear {
        scale,
        zero: encoding.number(zero),
        encoding,
    })
}

/// `real / scale` in steps, as ONNX says it.
fn plain_byte(real: f32, linear: Linear) -> u8 {
    let steps = f64::from((real / linear.scale).round_ties_even()) + f64::from(linear.zero);
    let least = f64::from(linear.encoding.least());
    let held = if steps.is_nan() {
        least
    } else {
        steps.clamp(least, least + 255.0)
    };
    (held as i32) as u8
}

fn plain_real(byte: u8, linear: Linear) -> f32 {
    (linear.encoding.number(byte) - linear.zero) as f32 * linear.scale
}

#[test]
fn numbers_stand_for_bytes() {
    assert_eq!(Encoding::Signed.number(0x80), -128);
    assert_eq!(Encoding::Signed.number(0x7f), 127);
    assert_eq!(Encoding::Unsigned.number(0x80), 128);
    assert_eq!(Encoding::Unsigned.number(0xff), 255);
    assert_eq!(Encoding::Unsigned.signed(0), -128);
}

#[test]
fn halves_go_to_the_even_neighbour_and_what_does_not_fit_saturates() {
    let linear = Linear {
        scale: 0.5,
        zero: 3,
        encoding: Encoding::Unsigned,
    };
    let reals = [
        0.25,
        0.75,
        -0.25,
        -0.75,
        1e30,
        -1e30,
        f32::NAN,
        f32::INFINITY,
    ];
    let mut bytes = [0; 8];
    quantise(&reals, linear, &mut bytes);
    assert_eq!(bytes, [3, 5, 3, 1, 255, 0, 0, 255]);
}

proptest! {
    #[test]
    fn quantising_divides_and_rounds(
        reals in prop::collection::vec(-1000.0_f32..1000.0, 0..90),
        linear in linear(),
    ) {
        let mut bytes = vec![0; reals.len()];
        quantise(&reals, linear, &mut bytes);
        let expected: Vec<u8> = reals.iter().map(|real| plain_byte(*real, linear)).collect();
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn dequantising_gives_the_number_of_a_byte(
        bytes in prop::collection::vec(any::<u8>(), 0..90),
        linear in linear(),
    ) {
        let mut reals = vec![0.0; bytes.len()];
        dequantise(&bytes, linear, &mut reals);
        let expected: Vec<f32> = bytes.iter().map(|byte| plain_real(*byte, linear)).collect();
        prop_assert_eq!(reals, expected);
    }

    #[test]
    fn the_range_is_that_of_all_numbers(reals in prop::collection::vec(-50.0_f32..50.0, 0..70)) {
        let mut range = (0.0, 0.0);
        widen(&reals, &mut range);
        prop_assert_eq!(range.0, reals.iter().copied().fold(0.0, f32::min));
        prop_assert_eq!(range.1, reals.iter().copied().fold(0.0, f32::max));
    }

    #[test]
    fn sums_become_bytes_channel_by_channel(
        (columns, sums) in (1_usize..40).prop_flat_map(|columns| (
            Just(columns),
            prop::collection::vec(-3_000_000_i32..3_000_000, columns * 3..=columns * 3),
        )),
        linear in linear(),
        seed in any::<u32>(),
    ) {
        let offsets: Vec<i32> = (0..columns).map(|at| (seed % 977) as i32 * at as i32 - 400).collect();
        let multipliers: Vec<f32> = (0..columns).map(|at| 1e-5 * (1.0 + at as f32)).collect();
        let (least, most) = Requantise::range(linear.encoding, linear.zero);
        let rule = Requantise {
            offsets: &offsets,
            multipliers: &multipliers,
            zero: linear.zero,
            least,
            most,
        };
        // A row takes the first places of a longer one; the others stay.
        let stride = columns + 5;
        let mut bytes = vec![77; stride * 3];
        requantise(&sums, rule, &mut bytes, stride);
        let mut reals = vec![0.5; stride * 3];
        let unheld = Requantise { least: f32::NEG_INFINITY, most: f32::INFINITY, ..rule };
        realise(&sums, unheld, &[], &mut reals, stride);
        for row in 0..3 {
            for column in 0..stride {
                let at = row * stride + column;
                if column >= columns {
                    prop_assert_eq!((bytes[at], reals[at]), (77, 0.5));
                    continue;
                }
                let real = (sums[row * columns + column] + offsets[column]) as f32 * multipliers[column];
                prop_assert_eq!(reals[at], real);
                let in_steps = Linear { scale: 1.0, ..linear };
                prop_assert_eq!(bytes[at], plain_byte(real, in_steps));
            }
        }
    }

    #[test]
    fn skewed_weights_are_straightened(
        (depth, rows) in (1_usize..20).prop_flat_map(|depth| (
            Just(depth),
            prop::collection::vec(any::<i8>(), depth * 4..=depth * 4),
        )),
        zeros in prop::collection::vec(-128_i32..128, 1..9),
    ) {
        let mut sums = vec![1000; zeros.len() * 4];
        straighten(&mut sums, &rows, depth, &zeros);
        for (row, numbers) in rows.chunks(depth).enumerate() {
            let total: i32 = numbers.iter().map(|number| i32::from(*number)).sum();
            for (column, zero) in zeros.iter().enumerate() {
                prop_assert_eq!(sums[row * zeros.len() + column], 1000 - total * zero);
            }
        }
    }

    #[test]
    fn a_matrix_turned_over_twice_is_itself(rows in 1_usize..40, columns in 1_usize..40) {
        let matrix: Vec<u16> = (0..rows * columns).map(|at| at as u16).collect();
        let (mut over, mut back) = (vec![0; matrix.len()], vec![0; matrix.len()]);
        transpose(&matrix, rows, columns, &mut over);
        for row in 0..rows {
            for column in 0..columns {
                prop_assert_eq!(over[column * rows + row], matrix[row * columns + column]);
            }
        }
        transpose(&over, columns, rows, &mut back);
        prop_assert_eq!(back, matrix);
    }

    #[test]
    fn each_channel_is_convolved_with_its_own_filter(
        channels in 1_usize..70,
        zero in 0_i32..256,
        seed in any::<u64>(),
    ) {
        let (pixels, taps, columns) = (7, 3, 5);
        let number = |at: usize| (seed.rotate_left((at % 61) as u32) as u8).wrapping_add(at as u8).cast_signed();
        let image: Vec<u8> = (0..pixels * channels).map(|at| number(at).cast_unsigned()).collect();
        let weights: Vec<i32> = (0..taps * channels).map(|at| i32::from(number(at + 7)) * 2).collect();
        // Padding on both sides.
        let pixel = |column: usize, tap: usize| (column + tap).checked_sub(1).filter(|pixel| *pixel < pixels - 1);
        let places: Vec<usize> = (0..columns)
            .flat_map(|column| (0..taps).map(move |tap| (column * 2, tap)))
            .map(|(column, tap)| pixel(column, tap).map_or(OUTSIDE, |pixel| pixel * channels))
            .collect();
        let line = Line { image: &image, channels, zero, weights: &weights, places: &places, taps };
        let mut sums = vec![-1; columns * channels];
        convolve(line, &mut sums);
        for column in 0..columns {
            for channel in 0..channels {
                let expected: i32 = (0..taps)
                    .filter_map(|tap| {
                        let pixel = pixel(column * 2, tap)?;
                        let pixel = i32::from(image[pixel * channels + channel]) - zero;
                        Some(pixel * weights[tap * channels + channel])
                    })
                    .sum();
                prop_assert_eq!(sums[column * channels + channel], expected);
            }
        }
    }

    #[test]
    fn products_are_added_up_where_their_numbers_lie(
        rows in 0_usize..30,
        (taps, depth, columns) in (1_usize..4, 0_usize..20, 0_usize..80),
        seed in any::<u64>(),
    ) {
        let byte = |at: usize| seed.rotate_left((at % 59) as u32) as u8 ^ (at as u8);
        let pixels = 9;
        let image: Vec<u8> = (0..pixels * depth).map(byte).collect();
        let outside = vec![byte(3); depth];
        let place = |at: usize| match usize::from(byte(at)) % (pixels + 1) {
            0 => OUTSIDE,
            pixel => (pixel - 1) * depth,
        };
        let places: Vec<usize> = (0..rows * taps).map(place).collect();
        let weight = |tap: usize, place: usize, column: usize| byte((tap * depth + place) * 83 + column).cast_signed();
        let mut expected = Vec::new();
        for places in places.chunks(taps) {
            for column in 0..columns {
                let of_tap = |(tap, place): (usize, &usize)| -> i32 {
                    let numbers = image.get(*place..).map_or(&*outside, |rest| &rest[..depth]);
                    let products = numbers.iter().enumerate();
                    products.map(|(at, number)| i32::from(*number) * i32::from(weight(tap, at, column))).sum()
                };
                expected.push(places.iter().enumerate().map(of_tap).sum::<i32>());
            }
        }
        for width in Width::all() {
            let weights = Weights::pack_for(width, (taps, depth, columns), weight);
            let mut sums = vec![-1; rows * columns];
            weights.multiply(&image, &places, &outside, &mut sums);
            prop_assert_eq!(&sums, &expected, "{:?}", width);
        }
    }

    #[test]
    fn two_runs_are_combined_number_by_number(
        pairs in prop::collection::vec(any::<(u8, u8)>(), 0..70),
        (left, right, result) in (linear(), linear(), linear()),
        multiply in any::<bool>(),
    ) {
        let (a, b): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
        let terms = Terms { left, right, result, least: -3.0, most: 40.0 };
        let binary = if multiply { Binary::Multiply } else { Binary::Add };
        let mut bytes = vec![0; a.len()];
        combine(binary, &a, &b, terms, &mut bytes);
        for ((a, b), byte) in pairs.into_iter().zip(bytes) {
            let (a, b) = (plain_real(a, left), plain_real(b, right));
            let real = if multiply { a * b } else { a + b };
            prop_assert_eq!(byte, plain_byte(real.clamp(-3.0, 40.0), result));
        }
    }
}
