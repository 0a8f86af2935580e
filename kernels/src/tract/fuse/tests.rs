//! Which nodes are left once a recorded model has been rewritten.

use std::path::Path;

use tract_onnx::pb::TensorProto;
use tract_onnx::prelude::Framework as _;

use super::*;

/// The rewritten graph of a model in `tests/quantised`.
fn rewritten(name: &str) -> GraphProto {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/quantised/{name}.onnx"));
    let onnx = tract_onnx::onnx();
    let mut graph = onnx.proto_model_for_path(path).unwrap().graph.unwrap();
    fuse(&mut graph);
    graph
}

fn count(graph: &GraphProto, kind: &str) -> usize {
    graph
        .node
        .iter()
        .filter(|node| node.op_type == kind)
        .count()
}

#[test]
fn nothing_between_two_scales_is_computed_in_real_numbers() {
    for form in ["u8s8_tensor", "u8s8_channel", "s8s8_tensor", "s8s8_channel"] {
        let graph = rewritten(&format!("quantised_images_qdq_{form}"));
        let kinds: Vec<&str> = graph
            .node
            .iter()
            .map(|node| node.op_type.as_str())
            .collect();
        assert_eq!(count(&graph, CONVOLUTION), 5, "{kinds:?}");
        assert_eq!(count(&graph, PRODUCT), 1, "{kinds:?}");
        assert_eq!(count(&graph, ADD), 1, "{kinds:?}");
        assert_eq!(count(&graph, CONCAT), 1, "{kinds:?}");
        for pool in POOLS {
            assert_eq!(count(&graph, pool), 1, "{kinds:?}");
        }
        // The image goes in, the scores and the softmax of the scores come out.
        assert_eq!(count(&graph, "QuantizeLinear"), 2, "{kinds:?}");
        assert_eq!(count(&graph, "DequantizeLinear"), 2, "{kinds:?}");
        // It is turned over once, and its mean once more.
        assert_eq!(count(&graph, layout::LAST), 1, "{kinds:?}");
        assert_eq!(count(&graph, layout::FIRST), 1, "{kinds:?}");
    }
}

#[test]
fn an_activation_before_the_scale_is_taken_in() {
    let graph = rewritten("quantised_activations");
    assert_eq!(count(&graph, "Relu") + count(&graph, "Clip"), 0);
    let held = graph.node.iter().filter(|node| {
        let mut attributes = node.attribute.iter();
        attributes.any(|attribute| attribute.name == "least")
    });
    let kinds: Vec<&str> = held.map(|node| node.op_type.as_str()).collect();
    assert_eq!(kinds, [CONVOLUTION, CONVOLUTION, PRODUCT]);
}

#[test]
fn an_activation_between_two_scales_is_a_table() {
    let graph = rewritten("quantised_images_symmetric");
    assert_eq!(count(&graph, "Relu") + count(&graph, "Clip"), 0);
    assert_eq!(count(&graph, TABLE), 4);
}

#[test]
fn a_softmax_stays_in_real_numbers() {
    let graph = rewritten("quantised_softmax");
    let kinds: Vec<&str> = graph
        .node
        .iter()
        .map(|node| node.op_type.as_str())
        .collect();
    let written = [
        "QuantizeLinear",
        "DequantizeLinear",
        REAL_SOFTMAX,
        "QuantizeLinear",
        "DequantizeLinear",
    ];
    assert_eq!(kinds, written);
}

#[test]
fn a_scale_that_is_no_constant_is_left_alone() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantised/quantised_lines.onnx");
    let mut graph = tract_onnx::onnx()
        .proto_model_for_path(path)
        .unwrap()
        .graph
        .unwrap();
    let of_image = graph
        .node
        .iter()
        .find(|node| node.op_type == "QuantizeLinear")
        .unwrap();
    let scale = of_image.input[1].clone();
    graph.initializer.retain(|tensor| tensor.name != scale);
    fuse(&mut graph);
    assert_eq!(count(&graph, "Conv"), 1);
    assert_eq!(count(&graph, CONVOLUTION), 2);
}

#[test]
fn a_scale_that_is_found_at_each_call_is_taken_in() {
    let graph = rewritten("dynamic_attention");
    assert_eq!(count(&graph, "MatMulInteger"), 0);
    assert!(count(&graph, PRODUCT) > 0);
}

/// Of each kind, how many are left of a graph of reals that PyTorch could have written.
#[test]
fn a_gelu_and_a_layer_normalisation_become_one_node_each() {
    let node = |kind: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: kind.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let constant = |name: &str, dims: Vec<i64>, numbers: Vec<f32>| TensorProto {
        name: name.to_owned(),
        data_type: 1,
        dims,
        float_data: numbers,
        ..TensorProto::default()
    };
    let graph = |half: f32| GraphProto {
        node: vec![
            node("Identity", &["weight"], "scale"),
            node("LayerNormalization", &["x", "scale", "bias"], "normal"),
            node("Div", &["normal", "root"], "scaled"),
            node("Erf", &["scaled"], "erf"),
            node("Add", &["erf", "one"], "sum"),
            node("Mul", &["normal", "sum"], "product"),
            node("Mul", &["product", "half"], "y"),
        ],
        initializer: vec![
            constant("weight", vec![3], vec![1.0; 3]),
            constant("bias", vec![3], vec![0.0; 3]),
            constant("root", vec![], vec![std::f32::consts::SQRT_2]),
            constant("one", vec![], vec![1.0]),
            constant("half", vec![], vec![half]),
        ],
        ..GraphProto::default()
    };
    let mut fused = graph(0.5);
    fuse(&mut fused);
    let kinds: Vec<&str> = fused
        .node
        .iter()
        .map(|node| node.op_type.as_str())
        .collect();
    assert_eq!(kinds, ["Identity", REAL_NORMAL, REAL_GELU]);
    assert_eq!(fused.node[2].input, ["normal"]);
    assert_eq!(fused.node[2].output, ["y"]);
    // Another factor is another function.
    let mut other = graph(0.25);
    fuse(&mut other);
    assert_eq!(count(&other, REAL_GELU), 0);
    assert_eq!(count(&other, "Erf"), 1);
}
