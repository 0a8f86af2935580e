//! Rows together, with packed weights, against the reference in `f64`, and against each row alone.

use edgeward_harness::floors;
use proptest::prelude::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::*;
use crate::team::with_helpers;

const CASES: u32 = 128;

fn node(
    kind: &str,
    hidden: usize,
    direction: &str,
    others: &[(&str, i64)],
    names: &[&str],
) -> NodeProto {
    let whole = |(name, value): (&str, i64)| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int.into(),
        i: value,
        ..AttributeProto::default()
    };
    let mut attribute = vec![
        whole(("hidden_size", i64::try_from(hidden).unwrap())),
        AttributeProto {
            name: "direction".to_owned(),
            r#type: AttributeType::String.into(),
            s: direction.as_bytes().to_vec(),
            ..AttributeProto::default()
        },
    ];
    attribute.extend(others.iter().copied().map(whole));
    if !names.is_empty() {
        attribute.push(AttributeProto {
            name: "activations".to_owned(),
            r#type: AttributeType::Strings.into(),
            strings: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        });
    }
    let mut inputs = vec!["x", "w", "r", "b", "", "h"];
    let mut outputs = vec!["y", "y_h"];
    if kind == "LSTM" {
        inputs.push("c");
        outputs.push("y_c");
    }
    NodeProto {
        op_type: kind.to_owned(),
        input: inputs.into_iter().map(str::to_owned).collect(),
        output: outputs.into_iter().map(str::to_owned).collect(),
        attribute,
        ..NodeProto::default()
    }
}

fn built<const REFERENCE: bool>(node: &NodeProto) -> Recurrent<REFERENCE> {
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
    Recurrent::build(&context, node).unwrap()
}

/// Numbers between -1 and 1.
fn drawn(shape: &[usize], seed: usize) -> Tensor {
    let number = |place: usize| {
        let mixed = (place + 1)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed * 40_503)
            >> 5;
        f32::from(u16::try_from(mixed % 2_001).unwrap()) / 1_000.0 - 1.0
    };
    let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_shape(shape, &numbers).unwrap()
}

fn reals(tensor: &Tensor) -> Vec<f32> {
    tensor
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec()
}

/// What tells one row of a tensor: the axis of the batch.
fn row_of(tensor: &Tensor, axis: usize, row: usize) -> Tensor {
    tensor.slice(axis, row, row + 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn rows_together_answer_as_the_reference_and_as_alone(
        (kind, gates, before) in prop_oneof![
            Just(("RNN", 1, 0)), Just(("GRU", 3, 0)), Just(("GRU", 3, 1)), Just(("LSTM", 4, 0)),
        ],
        direction in prop_oneof![Just("forward"), Just("reverse"), Just("bidirectional")],
        batch_first in any::<bool>(),
        unusual in any::<bool>(),
        (steps, batch, features, hidden) in (1_usize..6, 1_usize..30, 1_usize..9, 1_usize..40),
        seed in 0_usize..1_000,
    ) {
        let count = if direction == "bidirectional" { 2 } else { 1 };
        let usual = match kind {
            "RNN" => vec!["Softsign"],
            "GRU" => vec!["HardSigmoid", "Softsign"],
            _ => vec!["HardSigmoid", "Softsign", "Relu"],
        };
        let names: Vec<&str> = if unusual { usual.repeat(count) } else { Vec::new() };
        let mut others = vec![("layout", i64::from(batch_first))];
        if kind == "GRU" {
            others.push(("linear_before_reset", before));
        }
        let node = node(kind, hidden, direction, &others, &names);
        let of_batch = |first: &[usize], second: &[usize]| if batch_first { first.to_vec() } else { second.to_vec() };
        let x = drawn(&of_batch(&[batch, steps, features], &[steps, batch, features]), seed);
        let w = drawn(&[count, gates * hidden, features], seed + 1);
        let r = drawn(&[count, gates * hidden, hidden], seed + 2);
        let b = drawn(&[count, 2 * gates * hidden], seed + 3);
        let states = of_batch(&[batch, count, hidden], &[count, batch, hidden]);
        let (h, c) = (drawn(&states, seed + 4), drawn(&states, seed + 5));
        let mut all = vec![&x, &w, &r, &b, &h];
        let mut left = vec![&x, &h];
        if kind == "LSTM" {
            all.push(&c);
            left.push(&c);
        }
        let constants: Vec<Option<Arc<Tensor>>> = all
            .iter()
            .enumerate()
            .map(|(at, input)| matches!(at, 1..=3).then(|| Arc::new((*input).clone())))
            .collect();
        let (packed, kept) = built::<false>(&node).prepare(&constants).unwrap().unwrap();
        prop_assert_eq!(kept.len(), left.len());
        let expected = built::<true>(&node).compute(&all).unwrap();
        let got = packed.compute(&left).unwrap();
        let shared = with_helpers(2, || packed.compute(&left).unwrap());
        prop_assert_eq!(&shared, &got);
        for (expected, got) in expected.iter().zip(&got) {
            prop_assert_eq!(expected.shape(), got.shape());
            for (expected, got) in reals(expected).iter().zip(reals(got)) {
                prop_assert!((expected - got).abs() <= 1e-4 + 1e-4 * expected.abs(), "{} and {}", expected, got);
            }
        }
        for row in 0..batch {
            let axes = if batch_first { [0, 0, 0] } else { [1, 1, 1] };
            let alone: Vec<Tensor> = left.iter().zip(axes).map(|(input, axis)| row_of(input, axis, row)).collect();
            let alone = packed.compute(&alone.iter().collect::<Vec<_>>()).unwrap();
            for (place, (alone, got)) in alone.iter().zip(&got).enumerate() {
                let axis = match (batch_first, place) {
                    (true, _) => 0,
                    (false, 0) => 2,
                    (false, _) => 1,
                };
                prop_assert_eq!(reals(alone), reals(&row_of(got, axis, row)), "row {} alone", row);
            }
        }
    }
}

#[test]
fn weights_that_are_no_constants_are_not_packed() {
    let operator = built::<false>(&node("GRU", 2, "forward", &[], &[]));
    let constants = [None, None, Some(Arc::new(drawn(&[1, 6, 2], 1))), None, None];
    assert!(operator.prepare(&constants).unwrap().is_none());
    floors::reached("kernels.recurrent.cases", u64::from(CASES));
}
