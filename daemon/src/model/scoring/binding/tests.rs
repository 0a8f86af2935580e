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
    Binding::new(&signature, interface(graph, &given, &[]))
}

fn interface<'s>(
    inputs: &'s [TensorSpec],
    outputs: &'s [TensorSpec],
    columns: &'s [String],
) -> Interface<'s> {
    Interface {
        inputs,
        outputs,
        columns,
        labels: &[],
        array: false,
    }
}

#[test]
fn labels_are_as_many_as_the_numbers_of_a_row() {
    let inputs = [spec("x", DataType::F32, &[None, Some(2)])];
    let signature = Signature::derive(&inputs, &[]);
    let signature = Signature {
        outputs: None,
        ..signature
    };
    let label = |count: usize| vec![(0..count).map(|at| at.to_string()).collect::<Vec<_>>()];
    for (width, labels, fits) in [
        (Some(2), label(2), true),
        (None, label(2), true),
        (Some(2), label(3), false),
        (Some(3), vec![Vec::new()], true),
    ] {
        let outputs = [spec("p", DataType::F32, &[None, width])];
        let interface = Interface {
            labels: &labels,
            ..interface(&inputs, &outputs, &[])
        };
        let bound = Binding::new(&signature, interface);
        assert_eq!(bound.is_ok(), fits, "{width:?}, {labels:?}");
    }
}

#[test]
fn a_models_own_names_go_before_positions() {
    let inputs = [spec("x", DataType::F32, &[None, Some(3)])];
    let outputs = [spec("y", DataType::F32, &[None])];
    let text = columns(&[("0", "double"), ("1", "double"), ("2", "double")]);
    let signature = Signature::parse(&text, None, None).unwrap();
    for (names, offsets) in [(["2", "0", "1"], [1, 2, 0]), (["a", "b", "c"], [0, 1, 2])] {
        let names = names.map(str::to_owned);
        let bound = Binding::new(&signature, interface(&inputs, &outputs, &names)).unwrap();
        let InputPlan::Columns(plan) = bound.inputs else {
            panic!("tensors");
        };
        assert!(
            plan.slots.iter().map(|slot| slot.offset).eq(offsets),
            "{names:?}"
        );
    }
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
            "\"c\" of the signature feeds no input of the model",
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
            "\"x\" has shape (-1, 2) in the graph, which is not for 1 columns",
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
            "\"x\" of the signature feeds no input of the model",
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
    let refused = Binding::new(&signature, interface(&matrix, &matrix, &[])).unwrap_err();
    assert_eq!(
        refused,
        BindModelError::Params {
            params: vec!["k".to_owned()]
        }
    );
}

#[test]
fn columns_find_the_features_that_the_model_names() {
    let matrix = [spec("features", DataType::F64, &[None, Some(3)])];
    let features = ["a", "b_c", "d"].map(str::to_owned);
    let bind = |list: &[(&str, &str)]| {
        let signature = Signature::parse(&columns(list), None, None).unwrap();
        let bound = Binding::new(&signature, interface(&matrix, &matrix, &features))?;
        let InputPlan::Columns(plan) = bound.inputs else {
            panic!("columns were bound")
        };
        let places = plan.slots.iter();
        Ok::<_, BindModelError>(places.map(|slot| slot.offset).collect::<Vec<_>>())
    };
    let (a, b, d) = (("a", "double"), ("b c", "long"), ("d", "float"));
    assert_eq!(bind(&[d, a, b]), Ok(vec![2, 0, 1]));
    let by_position = [("0", "double"), ("1", "double"), ("2", "double")];
    assert_eq!(bind(&by_position), Ok(vec![0, 1, 2]));
    for (list, says) in [
        (
            vec![a, b, ("e", "double")],
            "column \"e\" of the signature is no feature of the model, which has a, b_c, d",
        ),
        (vec![a, b, ("b_c", "double")], "column \"b_c\""),
        (
            vec![a, d],
            "the model has a feature \"b_c\", and the signature no such column; it has a, d",
        ),
        (vec![a, d, ("b c", "string")], "of type string cannot feed"),
    ] {
        let refused = bind(&list).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn numbers_of_any_type_feed_float64() {
    let matrix = [spec("x", DataType::F64, &[None, Some(2)])];
    for dtype in ["float64", "float32", "int64", "uint8"] {
        bind(&tensor("x", dtype, "[-1,2]"), None, &matrix).unwrap();
    }
    for dtype in ["bool", "str"] {
        bind(&tensor("x", dtype, "[-1,2]"), None, &matrix).unwrap_err();
    }
}
