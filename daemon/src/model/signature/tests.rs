//! Signatures as MLflow writes them, and signatures derived from graphs.

use super::*;

fn column(name: &str, column_type: ColumnType, required: bool) -> Column {
    Column {
        name: name.to_owned(),
        column_type,
        required,
    }
}

fn spec(name: &str, data_type: DataType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        data_type,
        shape: shape.to_vec(),
    }
}

#[test]
fn columns_of_every_type_are_read() {
    for word in [
        "boolean", "integer", "long", "float", "double", "string", "binary", "datetime",
    ] {
        let text = format!("[{{\"type\":\"{word}\",\"name\":\"c\",\"required\":false}}]");
        let signature = Signature::parse(&text, None, None).unwrap();
        let Schema::Columns(columns) = signature.inputs else {
            panic!("{word}")
        };
        assert_eq!(
            (columns[0].column_type.as_str(), columns[0].required),
            (word, false)
        );
    }
}

#[test]
fn required_is_the_default_and_names_may_be_absent() {
    let text = r#"[{"type":"long","name":"a"},{"type":"long","name":"b","optional":true},
        {"type":"long"},{"type":"long","name":7}]"#;
    let signature = Signature::parse(text, None, Some("[]")).unwrap();
    let expected = [
        column("a", ColumnType::Long, true),
        column("b", ColumnType::Long, false),
        column("2", ColumnType::Long, true),
        column("7", ColumnType::Long, true),
    ];
    assert_eq!(signature.inputs, Schema::Columns(expected.to_vec()));
    assert_eq!((signature.outputs, signature.params), (None, Vec::new()));
}

#[test]
fn tensors_are_read() {
    let text = r#"[{"type":"tensor","name":"x","tensor-spec":{"dtype":"float32","shape":[-1,28,28]}},
        {"type":"tensor","name":"s","tensor-spec":{"dtype":"str","shape":[-1]}}]"#;
    let Schema::Tensors(tensors) = Signature::parse(text, None, None).unwrap().inputs else {
        panic!("columns");
    };
    assert_eq!(tensors[0].shape, [None, Some(28), Some(28)]);
    assert_eq!(tensors[1].data_type, DataType::String);
}

#[test]
fn what_no_graph_takes_is_refused_by_name() {
    for (text, says) in [
        (
            r#"[{"type":"array","items":{"type":"double"},"name":"c"}]"#,
            "\"c\" has type \"array\"",
        ),
        (r#"[{"type":"object","name":"c"}]"#, "\"object\""),
        (r#"[{"type":"map","name":"c"}]"#, "\"map\""),
        (r#"[{"type":"any","name":"c"}]"#, "\"any\""),
        (r#"[{"type":{"type":"array"},"name":"c"}]"#, "array"),
        (
            r#"[{"type":"tensor","tensor-spec":{"dtype":"float16","shape":[-1]}}]"#,
            "\"float16\"",
        ),
        (
            r#"[{"type":"tensor","tensor-spec":{"dtype":"datetime64[ns]","shape":[-1]}}]"#,
            "datetime64",
        ),
        ("[]", "at least one"),
        ("{}", "JSON list"),
        (r#"[{"name":"c"}]"#, "JSON list"),
        (
            r#"[{"type":"long","name":"c"},{"type":"tensor","tensor-spec":{"dtype":"int64","shape":[-1]}}]"#,
            "one kind",
        ),
        (
            r#"[{"type":"tensor","tensor-spec":{"dtype":"int64","shape":[-1]}},{"type":"tensor","name":"b","tensor-spec":{"dtype":"int64","shape":[-1]}}]"#,
            "one kind",
        ),
        (
            r#"[{"type":"long","name":"c"},{"type":"long","name":"c"}]"#,
            "twice",
        ),
    ] {
        let refused = Signature::parse(text, None, None)
            .expect_err(text)
            .to_string();
        assert!(
            refused.contains(says) && refused.contains("inputs"),
            "{refused}"
        );
    }
}

#[test]
fn an_output_may_be_a_map() {
    let inputs = r#"[{"type":"double","name":"a"}]"#;
    let outputs = r#"[{"type":"long","name":"label"},{"type":"map","name":"scores"},{"type":"object","name":"o"}]"#;
    let parsed = Signature::parse(inputs, Some(outputs), None).unwrap();
    let Some(Schema::Columns(columns)) = parsed.outputs else {
        panic!("tensors")
    };
    let types = columns.iter().map(|column| column.column_type);
    assert!(types.eq([ColumnType::Long, ColumnType::Map, ColumnType::Map]));
    let refused = Signature::parse(inputs, Some(r#"[{"type":"any","name":"c"}]"#), None);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("signature.outputs \"c\" has type \"any\"")
    );
}

#[test]
fn a_bare_graph_with_one_value_per_input_becomes_a_table() {
    let one = [None, Some(1)];
    let inputs = [
        spec("a", DataType::F32, &one),
        spec("b", DataType::String, &[None]),
    ];
    let derived = Signature::derive(&inputs, &[spec("p", DataType::F32, &[None])]);
    let expected = [
        column("a", ColumnType::Float, true),
        column("b", ColumnType::String, true),
    ];
    assert_eq!(derived.inputs, Schema::Columns(expected.to_vec()));
    assert!(matches!(derived.outputs, Some(Schema::Columns(columns)) if columns.len() == 1));
    let two = [
        spec("label", DataType::I64, &[None]),
        spec("p", DataType::F32, &[None, Some(2)]),
    ];
    assert!(matches!(
        Signature::derive(&inputs, &two).outputs,
        Some(Schema::Tensors(_))
    ));
}

#[test]
fn any_other_bare_graph_keeps_its_tensors() {
    let matrix = [spec("x", DataType::F32, &[None, Some(4)])];
    let derived = Signature::derive(&matrix, &matrix);
    let Schema::Tensors(tensors) = &derived.inputs else {
        panic!("columns")
    };
    assert_eq!(
        (tensors[0].name.as_deref(), tensors[0].shape.len()),
        (Some("x"), 2)
    );
    let mixed = [
        spec("a", DataType::F32, &[None]),
        spec("b", DataType::F32, &[None, Some(4)]),
    ];
    assert!(matches!(
        Signature::derive(&mixed, &matrix).inputs,
        Schema::Tensors(_)
    ));
}
