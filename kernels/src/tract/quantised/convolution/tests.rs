//! Convolutions on bytes against the same added up one product after the other.

use proptest::prelude::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::super::super::fuse::whole;
use super::super::super::image::channels::CHANNELS_LAST;
use super::*;
use crate::team::with_helpers;

fn list(name: &str, ints: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints.into(),
        ints: ints
            .iter()
            .map(|int| i64::try_from(*int).unwrap())
            .collect(),
        ..AttributeProto::default()
    }
}

fn build<const REFERENCE: bool>(attributes: &[AttributeProto]) -> Convolution<REFERENCE> {
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
        op_type: "ConvInteger".to_owned(),
        input: ["x", "w", "zx", "zw"].map(str::to_owned).to_vec(),
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    };
    Convolution::build(&context, &node).unwrap()
}

fn bytes(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed | 1;
    let numbers = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[5]
    });
    let numbers: Vec<u8> = numbers.take(shape.iter().product()).collect();
    Tensor::from_shape(shape, &numbers).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_way_to_convolve_gives_the_same_sums(
        (groups, of_group, filters_of_group) in prop_oneof![
            (Just(1), 1_usize..20, 1_usize..20),
            (2_usize..5, 1_usize..4, 1_usize..5),
            (2_usize..60, Just(1_usize), Just(1_usize)),
        ],
        kernel in prop::array::uniform2(1_usize..4),
        strides in prop::array::uniform2(1_usize..3),
        dilations in prop::array::uniform2(1_usize..3),
        pads in prop::array::uniform4(0_usize..3),
        image in prop::array::uniform2(7_usize..12),
        // Filters whose zero point stands for 0, as most models have them, and others.
        straight in prop::array::uniform4(any::<bool>()),
        seed in any::<u64>(),
    ) {
        let (channels, filters) = (groups * of_group, groups * filters_of_group);
        let x = bytes(&[2, channels, image[0], image[1]], seed);
        let w = bytes(&[filters, of_group, kernel[0], kernel[1]], seed ^ 5);
        let zw = bytes(&[filters], seed ^ 3);
        let zeros = zw.as_bytes().iter().zip(straight.iter().cycle());
        let zeros: Vec<u8> = zeros.map(|(zero, straight)| if *straight { 128 } else { *zero }).collect();
        let (zx, zw) = (bytes(&[], seed ^ 9), Tensor::from_shape(&[filters], &zeros).unwrap());
        let mut attributes = vec![
            whole("group", i64::try_from(groups).unwrap()),
            list("strides", &strides),
            list("dilations", &dilations),
            list("pads", &pads),
        ];
        let inputs = [&x, &w, &zx, &zw];
        let reference = build::<true>(&attributes).compute(&inputs).unwrap().remove(0);
        let kernel = build::<false>(&attributes);
        prop_assert_eq!(&kernel.compute(&inputs).unwrap()[0], &reference);

        // With its filters taken in, and with channels last.
        attributes.push(whole(CHANNELS_LAST, 1));
        let turned = last(&x).unwrap();
        let inputs = [&turned, &w, &zx, &zw];
        let constants = inputs.iter().enumerate();
        let constants: Vec<_> = constants
            .map(|(at, input)| (at % 2 == 1).then(|| Arc::new((*input).clone())))
            .collect();
        let (prepared, kept) = build::<false>(&attributes).prepare(&constants).unwrap().unwrap();
        let given: Vec<&Tensor> = kept.iter().map(|at| inputs[*at]).collect();
        let sums = prepared.compute(&given).unwrap().remove(0);
        prop_assert_eq!(first(&sums).unwrap(), reference);
        let shared = with_helpers(2, || prepared.compute(&given).unwrap().remove(0));
        prop_assert_eq!(shared, sums);
    }
}

#[test]
fn a_window_larger_than_its_image_is_refused() {
    let (x, w) = (bytes(&[1, 1, 2, 2], 1), bytes(&[1, 1, 3, 3], 2));
    let (zx, zw) = (bytes(&[], 3), bytes(&[1], 4));
    let error = build::<false>(&[])
        .compute(&[&x, &w, &zx, &zw])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a window of 3 over an extent of 2"),
        "{error}"
    );
}
