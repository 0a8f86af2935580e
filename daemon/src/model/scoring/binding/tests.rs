//! Signatures that do not fit their graphs.

use super::*;
use crate::model::tests::fake::spec;

fn bind(
    inputs: &str,
    outputs: Option<&str>,
    graph: &[TensorSpec],
) -> Result<Binding, BindModelError> {
    let signature = Signature::parse(inputs, outputs, None).unwrap();
    let given = [
        spec("y", DataType::F32, &[None]),
        spec("p", DataType::F32, &[None, Some(2)]),
    ];
    Binding::new(&signature, graph, &given)
}

fn columns(list: &[(&str, &str)]) -> String {
    let columns: Vec<String> = list
        .iter()
        .map(|(name, kind)| format!("{{\"type\":\"{kind}\",\"name\":\"{name}\"}}"))
        .collect();
    format!("[{}]", columns.join(","))
}

fn tensor(name: &str, dtype: &str, shape: &str) -> String {
    format!(
        "[{{\"type\":\"tensor\",\"name\":\"{name}\",\"tensor-spec\":{{\"dtype\":\"{dtype}\",\"shape\":{shape}}}}}]"
    )
}

#[test]
fn what_fits_is_bound() {
    let one = [None, Some(1)];
    let several = [
        spec("a", DataType::F32, &one),
        spec("b", DataType::String, &[None]),
    ];
    bind(
        &columns(&[("b", "string"), ("a", "boolean")]),
        None,
        &several,
    )
    .unwrap();
    let matrix = [spec("x", DataType::F64, &[None, None])];
    bind(
        &columns(&[("a", "double"), ("b", "long"), ("c", "boolean")]),
        None,
        &matrix,
    )
    .unwrap();
    let vector = [spec("x", DataType::I64, &[None])];
    bind(&columns(&[("a", "datetime")]), None, &vector).unwrap();
    bind(&tensor("other", "float64", "[-1,7]"), None, &matrix).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let one = [None, Some(1)];
    let two = [
        spec("a", DataType::F32, &one),
        spec("b", DataType::F32, &one),
    ];
    let matrix = [spec("x", DataType::F32, &[None, Some(2)])];
    let cube = [spec("x", DataType::F32, &[None, None, None])];
    let wide = [
        spec("a", DataType::F32, &one),
        spec("b", DataType::F32, &[None, Some(3)]),
    ];
    for (inputs, graph, says) in [
        (
            columns(&[("a", "float")]),
            two.as_slice(),
            "\"b\" is fed by nothing",
        ),
        (
            columns(&[("a", "float"), ("c", "float")]),
            &two,
            "\"c\" of the signature feeds no ONNX input",
        ),
        (
            columns(&[("a", "string"), ("b", "float")]),
            &two,
            "column \"a\" of type string cannot feed",
        ),
        (
            columns(&[("a", "datetime"), ("b", "float")]),
            &two,
            "of type datetime cannot feed",
        ),
        (
            columns(&[("a", "float"), ("b", "float")]),
            &wide,
            "\"b\" has shape (-1, 3)",
        ),
        (
            columns(&[("a", "float")]),
            &matrix,
            "\"x\" has shape (-1, 2) in the graph, and the signature gives it 1 columns",
        ),
        (columns(&[("a", "float")]), &cube, "(-1, -1, -1)"),
        (
            tensor("x", "float64", "[-1,2]"),
            &matrix,
            "f32 elements in the graph, f64 in the signature",
        ),
        (tensor("x", "float32", "[-1,3]"), &matrix, "(-1, 3)"),
        (tensor("x", "float32", "[-1]"), &matrix, "(-1,)"),
        (
            tensor("x", "float32", "[-1,1]"),
            &two,
            "\"x\" of the signature feeds no ONNX input",
        ),
        (
            tensor("a", "float32", "[-1,1]"),
            &two,
            "\"b\" is fed by nothing",
        ),
    ] {
        let refused = bind(&inputs, None, graph).expect_err(says).to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn outputs_that_the_graph_does_not_give_are_refused() {
    let inputs = tensor("x", "float32", "[-1,2]");
    let matrix = [spec("x", DataType::F32, &[None, Some(2)])];
    for outputs in [
        tensor("z", "float32", "[-1]"),
        columns(&[("z", "float")]),
        columns(&[("z", "float"), ("y", "float"), ("p", "float")]),
    ] {
        let refused = bind(&inputs, Some(&outputs), &matrix)
            .expect_err(&outputs)
            .to_string();
        assert!(
            refused.contains("output \"z\" of the signature is none of the graph's: y, p"),
            "{refused}"
        );
    }
    // As many columns as outputs: in order.
    bind(
        &inputs,
        Some(&columns(&[("u", "float"), ("v", "float")])),
        &matrix,
    )
    .unwrap();
}

#[test]
fn params_are_refused() {
    let inputs = tensor("x", "float32", "[-1,2]");
    let signature = Signature::parse(&inputs, None, Some(r#"[{"name":"k"}]"#)).unwrap();
    let matrix = [spec("x", DataType::F32, &[None, Some(2)])];
    let refused = Binding::new(&signature, &matrix, &matrix).unwrap_err();
    assert_eq!(
        refused,
        BindModelError::Params {
            params: vec!["k".to_owned()]
        }
    );
}
