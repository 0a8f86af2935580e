use std::path::Path;

use tract_onnx::prelude::Framework as _;

use super::*;

fn graph(folder: &str, name: &str) -> GraphProto {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{folder}/{name}.onnx"));
    tract_onnx::onnx()
        .proto_model_for_path(path)
        .unwrap()
        .graph
        .unwrap()
}

#[test]
fn an_output_of_one_scale_is_off_by_a_step_of_it() {
    let graph = graph("quantised", "quantised_lines");
    let last = graph.node.last().unwrap();
    assert_eq!(last.op_type, "DequantizeLinear");
    let scale = f64::from(scale_of(&graph, &last.input[1]).unwrap());
    let [Rounding::Steps(steps)] = roundings(&graph)[..] else {
        panic!("{:?}", roundings(&graph));
    };
    // The mean before is of bytes whose scale may be off too.
    assert!(
        steps > scale && steps < 10.0 * scale,
        "{steps}, a step is {scale}"
    );
}

#[test]
fn what_goes_into_a_softmax_counts_as_well() {
    let graph = graph("quantised", "quantised_images_qdq_u8s8_tensor");
    let of = |name: &str| f64::from(scale_of(&graph, name).unwrap());
    let scores = of("scores_scale");
    let both = scores + of("probabilities_scale");
    assert_eq!(
        roundings(&graph),
        [Rounding::Steps(scores), Rounding::Steps(both)]
    );
}

#[test]
fn bytes_are_off_by_one() {
    let graph = graph("quantised", "qlinearadd");
    assert_eq!(roundings(&graph), [Rounding::Steps(1.0)]);
}

#[test]
fn scales_of_each_input_say_nothing_of_an_output() {
    let graph = graph("quantised", "dynamic_attention");
    assert_eq!(roundings(&graph), [Rounding::Range]);
}

#[test]
fn an_ordinary_model_is_not_rounded() {
    for name in ["convolution", "iris_mlp", "scaler"] {
        assert_eq!(
            roundings(&graph("recorded", name)),
            [Rounding::None; 1][..].repeat(roundings(&graph("recorded", name)).len()),
            "{name}"
        );
    }
}
