use std::sync::{Arc, OnceLock};

use burn_cubecl::tensor::CubeTensor;
use edgeward_base::units::ByteCount;
use edgeward_harness::floors;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tract_onnx::prelude::{DatumType, Tensor as Whole};

use super::super::device::Device;
use super::super::probe;
use super::*;
use crate::tract::{Affine, Along};

mod compiling;

/// Words that lie together: fewer than many of the weights have, so that these are in parts.
const TOGETHER: usize = 160;

/// The first adapter that works.
fn device(case: &str) -> Option<&'static Arc<Device>> {
    static DEVICE: OnceLock<Option<Arc<Device>>> = OnceLock::new();
    let open = || {
        let mut adapters = probe().adapters.into_iter();
        let usable = adapters.find(|probed| probed.fault.is_none())?;
        Some(Arc::new(
            Device::open(&usable.adapter, ByteCount(0)).unwrap(),
        ))
    };
    let device = DEVICE.get_or_init(open).as_ref();
    if device.is_none() {
        edgeward_harness::skip(
            case,
            "no Vulkan driver of this machine has an adapter to use",
        );
    }
    device
}

fn reals(device: &Device, tensor: CubeTensor) -> Vec<f32> {
    let tensor = device.download(tensor, (DatumType::F32, 1)).unwrap();
    tensor
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec()
}

fn sums(device: &Device, tensor: CubeTensor) -> Vec<i32> {
    let tensor = device.download(tensor, (DatumType::I32, 1)).unwrap();
    tensor
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<i32>()
        .unwrap()
        .to_vec()
}

/// A matrix of weights, a column after the other.
#[derive(Debug, Clone)]
struct Weights {
    columns: usize,
    depth: usize,
    /// Neighbours that share a scale.
    block: Option<usize>,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl Weights {
    fn blocks(&self) -> usize {
        self.block.map_or(1, |block| self.depth / block)
    }

    /// What weight `k` of a column stands for: without its scale.
    fn whole(&self, column: usize, k: usize) -> i32 {
        let zero = self.zeros[column * self.blocks() + self.block.map_or(0, |block| k / block)];
        i32::from(self.numbers[column * self.depth + k]) - zero
    }

    fn real(&self, column: usize, k: usize) -> f32 {
        let scale = self.scales[column * self.blocks() + self.block.map_or(0, |block| k / block)];
        self.whole(column, k) as f32 * scale
    }

    fn codes(&self) -> Codes {
        let tensor = Whole::from_shape(&[self.columns, self.depth], &self.numbers).unwrap();
        let axis = i64::from(self.block.is_some());
        let affine = Affine {
            scales: self.scales.clone(),
            zeros: self.zeros.clone(),
            along: Along {
                axis,
                block: self.block,
            },
        };
        let rows = Arrangement {
            order: vec![0, 1],
            leading: 1,
        };
        Codes::pack(&tensor, &affine, &rows).unwrap().unwrap()
    }
}

/// The weights on the device, in parts where they have more than [`TOGETHER`] words and no groups.
fn in_parts(device: &Device, weights: &Weights) -> Packed {
    Packed::in_parts(device, &weights.codes(), TOGETHER).unwrap()
}

/// Of 8 bits or 4, a scale for each column or for each block.
fn weights(
    columns: impl Strategy<Value = usize>,
    depth: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Weights> {
    let kinds = (
        columns,
        depth,
        prop_oneof![Just(None), Just(Some(8)), Just(Some(16))],
        any::<bool>(),
    );
    kinds.prop_flat_map(|(columns, depth, block, small)| {
        let depth = block.map_or(depth, |block: usize| depth.next_multiple_of(block));
        let scales = columns * block.map_or(1, |block| depth / block);
        let range = if small { -8..=7_i8 } else { -128..=127 };
        (
            prop::collection::vec(range, columns * depth),
            prop::collection::vec(0.001..0.1_f32, scales),
            prop::collection::vec(-8..8_i32, scales),
        )
            .prop_map(move |(numbers, scales, zeros)| Weights {
                columns,
                depth,
                block,
                numbers,
                scales,
                zeros,
            })
    })
}

/// Numbers that are added up without rounding, so that the order does not matter.
fn quarters(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|place| ((place * 7 + seed) % 17) as f32 / 4.0 - 2.0)
        .collect()
}

fn bytes(count: usize, seed: usize) -> Vec<i32> {
    (0..count)
        .map(|place| i32::try_from((place * 37 + seed) % 256).unwrap())
        .collect()
}

fn near(got: &[f32], expected: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), expected.len());
    for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        prop_assert!(
            error <= 1e-4 + 1e-4 * expected.abs(),
            "element {} is {}, not {}",
            place,
            got,
            expected
        );
    }
    Ok(())
}

/// Runs `case` so many times; the floor of `name` says how many are needed.
fn check<S: Strategy>(
    name: &str,
    strategy: S,
    case: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let count = floors::length(name);
    let config = ProptestConfig {
        cases: u32::try_from(count).unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config).run(&strategy, case).unwrap();
    floors::reached(name, count);
}

#[test]
fn codes_are_what_the_bytes_were() {
    let Some(device) = device("gpu.packed.unpack") else {
        return;
    };
    check(
        "gpu.packed.unpack",
        weights(1..20_usize, 1..70_usize),
        |weights| {
            let codes = weights.codes();
            let packed = Packed::in_parts(device, &codes, TOGETHER).unwrap();
            let got = reals(device, packed.real(device).unwrap());
            let expected = (0..weights.columns)
                .flat_map(|column| (0..weights.depth).map(move |k| (column, k)))
                .map(|(column, k)| weights.real(column, k));
            prop_assert_eq!(got, expected.collect::<Vec<f32>>());
            let small = weights
                .numbers
                .iter()
                .all(|number| (-8..8).contains(number));
            prop_assert!(!small || codes.bits == 4, "{} bits", codes.bits);
            Ok(())
        },
    );
}

#[test]
fn products_of_matrices_are_those_of_the_plain_loop() {
    let Some(device) = device("gpu.packed.product") else {
        return;
    };
    let matrices = (1..70_usize, weights(1..70_usize, 1..150_usize), 0..17_usize);
    check("gpu.packed.product", matrices, |(rows, weights, seed)| {
        let packed = in_parts(device, &weights);
        let depth = weights.depth;
        let x = quarters(rows * depth, seed);
        let tensor = device.numbers(&x, &[rows, depth], DType::F32).unwrap();
        let got = reals(device, packed.product(device, &tensor, None).unwrap());
        let mut expected = Vec::new();
        for row in x.chunks(depth) {
            for column in 0..weights.columns {
                let products = row.iter().enumerate();
                let products =
                    products.map(|(k, x)| f64::from(*x) * f64::from(weights.real(column, k)));
                expected.push(products.sum::<f64>());
            }
        }
        near(&got, &expected)
    });
}

#[test]
fn sums_of_whole_numbers_are_exact() {
    let Some(device) = device("gpu.packed.integers") else {
        return;
    };
    let matrices = (
        1..40_usize,
        weights(1..40_usize, 1..150_usize),
        0..256_usize,
    );
    check("gpu.packed.integers", matrices, |(rows, weights, seed)| {
        let packed = in_parts(device, &weights);
        let (depth, zero) = (weights.depth, i32::try_from(seed).unwrap());
        let x = bytes(rows * depth, seed);
        let tensor = device.numbers(&x, &[rows, depth], DType::I32).unwrap();
        let of_zero = device.numbers(&[zero], &[1], DType::I32).unwrap();
        let got = sums(
            device,
            packed.product(device, &tensor, Some(&of_zero)).unwrap(),
        );
        let mut expected = Vec::new();
        for row in x.chunks(depth) {
            for column in 0..weights.columns {
                let products = row.iter().enumerate();
                let products = products.map(|(k, x)| (x - zero) * weights.whole(column, k));
                expected.push(products.sum::<i32>());
            }
        }
        prop_assert_eq!(got, expected);
        Ok(())
    });
}

/// A convolution: windows, batch, channels and filters of a group, and whether there is more than one.
fn convolutions() -> impl Strategy<Value = (Taps, usize, usize, Weights, usize)> {
    let axis = || (1..4_usize, 1..3_usize, 1..3_usize, 0..3_usize, 0..6_usize);
    let groups = prop_oneof![
        (Just(1_usize), 1..5_usize, 1..40_usize),
        (2..6_usize, 1..4_usize, 1..3_usize),
        (2..4_usize, 1..3_usize, 8..12_usize),
    ];
    (axis(), axis(), groups, 1..3_usize, 0..17_usize).prop_flat_map(
        |(down, across, (groups, channels, filters), batch, seed)| {
            let reach = |(kernel, _, dilation, _, _): (usize, usize, usize, usize, usize)| {
                (kernel - 1) * dilation + 1
            };
            let both = [down, across];
            // As large as the window at least, with the pads in front.
            let image = both.map(|axis| reach(axis) + axis.4);
            let output = both.map(|axis| (axis.4 + axis.3) / axis.1 + 1);
            let taps = Taps {
                groups,
                kernel: both.map(|axis| axis.0),
                strides: both.map(|axis| axis.1),
                dilations: both.map(|axis| axis.2),
                before: both.map(|axis| axis.3),
                image,
                output,
            };
            let depth = channels * down.0 * across.0;
            weights(Just(groups * filters), Just(depth)).prop_filter_map(
                "blocks are for matrices",
                move |weights| {
                    let plain = weights.depth == depth && weights.block.is_none();
                    plain.then_some((taps, batch, channels, weights, seed))
                },
            )
        },
    )
}

/// The sum of one output, over what lies within the image.
fn window(
    taps: &Taps,
    (channels, channel): (usize, usize),
    [y, x]: [usize; 2],
    mut each: impl FnMut(usize, usize),
) {
    let [height, width] = taps.image;
    for k in 0..channels * taps.kernel[0] * taps.kernel[1] {
        let [of, down, across] = [
            k / (taps.kernel[0] * taps.kernel[1]),
            k / taps.kernel[1] % taps.kernel[0],
            k % taps.kernel[1],
        ];
        let row = (y * taps.strides[0] + down * taps.dilations[0]).checked_sub(taps.before[0]);
        let column = (x * taps.strides[1] + across * taps.dilations[1]).checked_sub(taps.before[1]);
        if let (Some(row), Some(column)) = (row, column)
            && row < height
            && column < width
        {
            each(k, ((channel + of) * height + row) * width + column);
        }
    }
}

#[test]
fn convolutions_are_those_of_the_plain_loop() {
    let Some(device) = device("gpu.packed.convolution") else {
        return;
    };
    check(
        "gpu.packed.convolution",
        convolutions(),
        |(taps, batch, channels, weights, seed)| {
            let packed = if taps.groups == 1 {
                in_parts(device, &weights)
            } else {
                Packed::upload(device, &weights.codes()).unwrap()
            };
            let all = channels * taps.groups;
            let [height, width] = taps.image;
            let shape = [batch, all, height, width];
            let count = shape.iter().product();
            let (real, whole) = (quarters(count, seed), bytes(count, seed));
            let zero = 3;
            let (mut expected, mut exact) = (Vec::new(), Vec::new());
            let filters = weights.columns / taps.groups;
            for image in 0..batch {
                for filter in 0..weights.columns {
                    let channel = image * all + filter / filters * channels;
                    for y in 0..taps.output[0] {
                        for x in 0..taps.output[1] {
                            let (mut sum, mut of_whole) = (0.0, 0);
                            window(&taps, (channels, channel), [y, x], |k, place| {
                                sum += f64::from(real[place]) * f64::from(weights.real(filter, k));
                                of_whole += (whole[place] - zero) * weights.whole(filter, k);
                            });
                            expected.push(sum);
                            exact.push(of_whole);
                        }
                    }
                }
            }
            let tensor = device.numbers(&real, &shape, DType::F32).unwrap();
            let got = packed.convolve(device, &tensor, None, &taps).unwrap();
            near(&reals(device, got), &expected)?;
            let tensor = device.numbers(&whole, &shape, DType::I32).unwrap();
            let of_zero = device.numbers(&[zero], &[1], DType::I32).unwrap();
            let got = packed
                .convolve(device, &tensor, Some(&of_zero), &taps)
                .unwrap();
            prop_assert_eq!(sums(device, got), exact);
            Ok(())
        },
    );
}

#[test]
fn numbers_are_rounded_as_the_processor_rounds_them() {
    let Some(device) = device("gpu.packed.linear") else {
        return;
    };
    let scales = [0.25_f32, 0.5, 2.0];
    let zeros = [0_i32, 3, 128];
    let real: Vec<f32> = (0..3 * 40)
        .map(|place| (place as f32 - 60.0) / 8.0)
        .collect();
    let of_scales = device.numbers(&scales, &[3], DType::F32).unwrap();
    let of_zeros = device.numbers(&zeros, &[3], DType::I32).unwrap();
    let tensor = device.numbers(&real, &[3, 40], DType::F32).unwrap();
    let got = quantise(tensor, [&of_scales, &of_zeros], 40, DatumType::U8).unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "they are whole numbers of a few digits"
    )]
    let rounded = |x: f32| x.round_ties_even() as i32;
    let expected: Vec<i32> = real
        .iter()
        .enumerate()
        .map(|(place, x)| {
            let steps = rounded(x / scales[place / 40]);
            (steps + zeros[place / 40]).clamp(0, 255)
        })
        .collect();
    assert_eq!(sums(device, got.clone()), expected);
    let back = dequantise(got, [&of_scales, &of_zeros], 40).unwrap();
    let expected: Vec<f32> = expected
        .iter()
        .enumerate()
        .map(|(place, whole)| (whole - zeros[place / 40]) as f32 * scales[place / 40])
        .collect();
    assert_eq!(reals(device, back), expected);
}
