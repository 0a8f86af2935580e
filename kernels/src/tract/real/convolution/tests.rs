//! Convolutions against sums over the definition, and pools and layouts behind them against tract.

use edgeward_harness::floors;
use proptest::prelude::*;
use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::super::super::fuse::whole;
use super::super::super::image::channels::CHANNELS_LAST;
use super::*;
use crate::team::with_helpers;

const CASES: u32 = 128;

fn list(name: &str, numbers: &[usize]) -> AttributeProto {
    let ints = numbers.iter().map(|number| i64::try_from(*number).unwrap());
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints.into(),
        ints: ints.collect(),
        ..AttributeProto::default()
    }
}

fn build(attributes: &[AttributeProto]) -> Convolution {
    let onnx = tract_onnx::onnx();
    let model = tract_onnx::pb::ModelProto::default();
    let context = ParsingContext {
        onnx_operator_set_version: 17,
        framework: &onnx,
        model: &model,
        parent_graphs: Vec::new(),
        model_dir: None,
        template: tract_onnx::prelude::InferenceModel::default(),
    };
    let node = NodeProto {
        op_type: "Conv".to_owned(),
        input: ["x", "w", "b"].map(str::to_owned).to_vec(),
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    };
    Convolution::build(&context, &node).unwrap()
}

/// Whole numbers, of which sums are exact in `f32`.
fn wholes(shape: &[usize], seed: usize) -> Tensor {
    let number = |place: usize| {
        let mixed = (place + 1)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed * 40_503)
            >> 7;
        f32::from(u8::try_from(mixed % 17).unwrap()) - 8.0
    };
    let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_shape(shape, &numbers).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec()
}

/// How a filter moves over an image.
struct Moves {
    groups: usize,
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Moves {
    /// The place along `axis` of an image that a tap falls on.
    fn at(&self, axis: usize, place: usize, tap: usize, extent: usize) -> Option<usize> {
        let at = place * self.strides[axis] + tap * self.dilations[axis];
        at.checked_sub(self.pads[axis]).filter(|at| *at < extent)
    }
}

/// Every pair of numbers below these.
fn pairs(first: usize, second: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..first).flat_map(move |a| (0..second).map(move |b| (a, b)))
}

/// Where an element is among those of a tensor of four axes.
fn flat(shape: &[usize], index: [usize; 4]) -> usize {
    let axes = shape.iter().zip(index);
    axes.fold(0, |at, (extent, index)| at * extent + index)
}

/// The sum of each output, as ONNX defines it.
fn defined([x, w, b]: [&Tensor; 3], moves: &Moves, shape: &[usize]) -> Vec<f32> {
    let (image, kernel) = (x.shape(), w.shape());
    let (of_x, of_w, of_b) = (numbers(x), numbers(w), numbers(b));
    let mut sums = Vec::new();
    for (batch, filter) in pairs(shape[0], shape[1]) {
        let first = filter / (shape[1] / moves.groups) * kernel[1];
        for (row, column) in pairs(shape[2], shape[3]) {
            let mut sum = of_b[filter];
            for (channel, tap) in pairs(kernel[1], kernel[2] * kernel[3]) {
                let (down, along) = (tap / kernel[3], tap % kernel[3]);
                let row = moves.at(0, row, down, image[2]);
                let column = moves.at(1, column, along, image[3]);
                if let (Some(row), Some(column)) = (row, column) {
                    let number = of_x[flat(image, [batch, first + channel, row, column])];
                    sum += number * of_w[flat(kernel, [filter, channel, down, along])];
                }
            }
            sums.push(sum.clamp(-60.0, 60.0));
        }
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn every_way_to_convolve_gives_the_sums_of_the_definition(
        (groups, of_group, filters_of_group) in prop_oneof![
            (Just(1), 1_usize..20, 1_usize..40),
            (2_usize..5, 1_usize..4, 1_usize..5),
            (2_usize..60, Just(1_usize), Just(1_usize)),
        ],
        kernel in prop::array::uniform2(1_usize..4),
        strides in prop::array::uniform2(1_usize..3),
        dilations in prop::array::uniform2(1_usize..3),
        pads in prop::array::uniform4(0_usize..3),
        image in prop::array::uniform2(7_usize..24),
        images in 0_usize..6,
        seed in 0_usize..1_000,
    ) {
        let (channels, filters) = (groups * of_group, groups * filters_of_group);
        let x = wholes(&[images, channels, image[0], image[1]], seed);
        let w = wholes(&[filters, of_group, kernel[0], kernel[1]], seed + 1);
        let b = wholes(&[filters], seed + 2);
        let mut attributes = vec![
            whole("group", i64::try_from(groups).unwrap()),
            list("strides", &strides),
            list("dilations", &dilations),
            list("pads", &pads),
        ];
        let bounds = Bounds { least: -60.0, most: 60.0 };
        let convolution = |attributes: &[AttributeProto]| Convolution { bounds, ..build(attributes) };
        let found = convolution(&attributes).compute(&[&x, &w, &b]).unwrap().remove(0);
        let moves = Moves { groups, strides, dilations, pads };
        let expected = defined([&x, &w, &b], &moves, found.shape());
        prop_assert_eq!(&numbers(&found), &expected);

        // With its filters taken in, and with channels last.
        attributes.push(whole(CHANNELS_LAST, 1));
        let constants = [None, Some(Arc::new(w)), Some(Arc::new(b))];
        let (prepared, kept) = convolution(&attributes).prepare(&constants).unwrap().unwrap();
        prop_assert_eq!(&*kept, &[0]);
        let found = prepared.compute(&[&last(&x).unwrap()]).unwrap().remove(0);
        prop_assert_eq!(&numbers(&first(&found).unwrap()), &expected);
        let turned = last(&x).unwrap();
        let shared = with_helpers(2, || prepared.compute(&[&turned]).unwrap().remove(0));
        prop_assert_eq!(shared, found);
    }
}

#[test]
fn a_window_larger_than_its_image_is_refused() {
    let (x, w, b) = (
        wholes(&[1, 1, 2, 2], 1),
        wholes(&[1, 1, 3, 3], 2),
        wholes(&[1], 3),
    );
    let error = build(&[]).compute(&[&x, &w, &b]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a window of 3 over an extent of 2"),
        "{error}"
    );
    floors::reached("kernels.real.convolutions", u64::from(CASES));
}

#[test]
fn padding_far_larger_than_the_image_is_not_laid_out() {
    let far = 100_000;
    let (x, w, b) = (
        wholes(&[1, 2, 8, 8], 1),
        wholes(&[2, 1, 3, 3], 2),
        wholes(&[2], 3),
    );
    let attributes = [
        whole("group", 2),
        list("dilations", &[far; 2]),
        list("pads", &[far; 4]),
    ];
    let bounds = Bounds {
        least: -60.0,
        most: 60.0,
    };
    let convolution = Convolution {
        bounds,
        ..build(&attributes)
    };
    let found = convolution.compute(&[&x, &w, &b]).unwrap().remove(0);
    let moves = Moves {
        groups: 2,
        strides: [1; 2],
        dilations: [far; 2],
        pads: [far; 4],
    };
    assert_eq!(
        numbers(&found),
        defined([&x, &w, &b], &moves, &[1, 2, 8, 8])
    );
}

#[test]
fn no_images_give_none_however_small_they_are() {
    let (x, w, b) = (
        wholes(&[0, 1, 3, 3], 1),
        wholes(&[2, 1, 3, 3], 2),
        wholes(&[2], 3),
    );
    let none = build(&[]).compute(&[&x, &w, &b]).unwrap().remove(0);
    assert_eq!(none.shape(), [0, 2, 1, 1]);
}

#[test]
fn a_window_on_padding_alone_is_refused() {
    let (x, w, b) = (
        wholes(&[1, 1, 0, 3], 1),
        wholes(&[1, 1, 2, 2], 2),
        wholes(&[1], 3),
    );
    let attributes = [list("pads", &[1, 1, 1, 1])];
    let error = build(&attributes).compute(&[&x, &w, &b]).unwrap_err();
    assert!(error.to_string().contains("which has no pixels"), "{error}");
}
