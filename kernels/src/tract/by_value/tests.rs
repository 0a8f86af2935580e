use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use proptest::prelude::*;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

use super::plan::{MOST_PLANS, Plans};
use super::*;
use crate::engine::{Engine as _, ModelFile, ModelForm};
use crate::tract::operator::Evaluation;

fn file(path: PathBuf) -> ModelFile {
    ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    }
}

fn session(name: &str) -> ByValue {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/{name}.onnx"));
    let read = load::read(&file(path), Evaluation::Kernel).unwrap();
    super::session(
        read,
        Maker::new(|graph| Plans::of(graph, Evaluation::Kernel)),
    )
    .unwrap()
    .unwrap()
}

fn floats(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|place| place as f32).collect();
    Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
}

fn integers(values: &[i64]) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::I64(values.to_vec())).unwrap()
}

/// Reshapes 24 numbers, and checks that they came out as they should.
fn reshape(session: &ByValue, shape: [i64; 3]) {
    let input = floats(&[4, 6]);
    let outputs = session.run(&[input.clone(), integers(&shape)]).unwrap();
    let expected = shape.map(|extent| usize::try_from(extent).unwrap());
    assert_eq!(outputs[0].shape(), expected);
    assert_eq!(outputs[0].data(), input.data());
}

#[test]
fn each_value_has_a_plan_and_the_least_recently_used_gives_way() {
    let session = session("by_value_reshape");
    let rows = [1, 2, 3, 4, 6, 8, 12, 24];
    let shapes = rows.iter().flat_map(|rows| {
        let rest = 24 / rows;
        let columns = rows_that_divide(rest);
        columns
            .into_iter()
            .map(move |columns| [*rows, columns, rest / columns])
    });
    let shapes: Vec<[i64; 3]> = shapes.collect();
    assert!(shapes.len() > MOST_PLANS + 1);
    for (count, shape) in shapes.iter().enumerate() {
        reshape(&session, shapes[0]);
        reshape(&session, *shape);
        let plans = session.plans.entries().len();
        assert_eq!(plans, (count + 1).min(MOST_PLANS));
    }
    let plans = session.plans.entries();
    let first = session.key(&[floats(&[4, 6]), integers(&shapes[0])]);
    let second = session.key(&[floats(&[4, 6]), integers(&shapes[1])]);
    assert!(plans.iter().any(|plan| plan.key == first));
    assert!(plans.iter().all(|plan| plan.key != second));
}

fn rows_that_divide(number: i64) -> Vec<i64> {
    (1..=number).filter(|rows| number % rows == 0).collect()
}

#[test]
fn threads_with_different_values_get_each_their_own_answer() {
    let session = session("by_value_reshape");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let session = &session;
            scope.spawn(move || {
                for turn in 0..40 {
                    let rows = [1, 2, 3, 4, 6, 8, 12, 24][(turn + thread) % 8];
                    reshape(session, [rows, 24 / rows, 1]);
                    reshape(session, [1, rows, 24 / rows]);
                    reshape(session, [24 / rows, 1, rows]);
                }
            });
        }
    });
    assert_eq!(session.plans.entries().len(), MOST_PLANS);
}

#[test]
fn a_value_that_is_not_a_number_is_found_again() {
    let session = session("by_value_pad");
    let scalar = |value| Tensor::new(vec![], TensorData::F32(vec![value])).unwrap();
    let pads = integers(&[1, 0, 0, 0]);
    for _ in 0..3 {
        let inputs = [floats(&[4, 6]), pads.clone(), scalar(f32::NAN)];
        let outputs = session.run(&inputs).unwrap();
        assert_eq!(outputs[0].shape(), [5, 6]);
    }
    assert_eq!(session.plans.entries().len(), 1);
}

#[test]
fn too_many_values_are_refused_by_the_name_of_their_input() {
    let mut session = session("by_value_reduce");
    session.inputs[1].shape = vec![None];
    let axes = integers(&vec![0; MOST_ELEMENTS + 1]);
    let error = session.run(&[floats(&[4, 6]), axes]).unwrap_err();
    let refused = "input \"axes\" decides on shapes";
    assert!(error.to_string().contains(refused), "{error}");
    assert!(session.plans.entries().is_empty());
}

#[test]
fn a_value_that_the_model_cannot_take_is_an_error_and_keeps_no_plan() {
    let session = session("by_value_reshape");
    let inputs = [floats(&[4, 6]), integers(&[5, 5, 5])];
    session.run(&inputs).unwrap_err();
    assert!(session.plans.entries().is_empty());
    reshape(&session, [2, 3, 4]);
}

#[test]
fn a_value_that_asks_for_too_large_a_tensor_is_an_error() {
    let session = session("by_value_range");
    let integer = |value| Tensor::new(vec![], TensorData::I64(vec![value])).unwrap();
    for (limit, said) in [
        (1 << 30, "would be a tensor of"),
        (i64::MAX, "would be a tensor of"),
        (1 << 40, "no extent can be"),
    ] {
        let error = session.run(&[integer(0), integer(limit), integer(1)]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let outputs = session.run(&[integer(3), integer(9), integer(2)]).unwrap();
    assert_eq!(outputs[0].data(), &TensorData::I64(vec![3, 5, 7]));
    let session = self::session("by_value_pad");
    let inputs = [
        floats(&[4, 6]),
        integers(&[1 << 30, 0, 1 << 30, 0]),
        Tensor::new(vec![], TensorData::F32(vec![0.0])).unwrap(),
    ];
    let error = session.run(&inputs).unwrap_err().to_string();
    assert!(error.contains("would be a tensor of"), "{error}");
}

#[test]
fn an_output_that_is_not_what_the_file_says_is_an_error() {
    let session = session("by_value_reshape");
    let error = session.run(&[floats(&[4, 6]), integers(&[4, 6])]);
    assert!(error.is_err());
    let spec = TensorSpec {
        name: "Y".to_owned(),
        data_type: crate::tensor::DataType::F32,
        shape: vec![Some(2), None],
    };
    assert!(ByValue::kept(&spec, floats(&[2, 7])).is_ok());
    let error = ByValue::kept(&spec, floats(&[3, 7])).unwrap_err();
    assert!(error.to_string().contains("\"Y\""), "{error}");
    ByValue::kept(&spec, integers(&[2])).unwrap_err();
}

#[test]
fn weights_and_plans_are_counted_as_resident() {
    let session = session("by_value_computed");
    let weights = 6 * 20 * 4;
    assert!(session.resident().0 >= weights);
    let rows = Tensor::new(vec![], TensorData::I64(vec![2])).unwrap();
    let before = session.resident();
    session.run(&[floats(&[4, 6]), rows]).unwrap();
    assert!(session.resident() > before);
}

#[test]
fn a_graph_that_types_only_for_numbers_has_a_plan_for_each_shape() {
    let session = session("by_shape");
    for rows in [2, 4, 2, 6] {
        let outputs = session.run(&[floats(&[rows, 3])]).unwrap();
        assert_eq!(outputs[0].shape(), [2, rows * 3 / 2]);
    }
    assert_eq!(session.plans.entries().len(), 3);
    session.run(&[floats(&[3, 3])]).unwrap_err();
    session.run(&[floats(&[2, 3, 1])]).unwrap_err();
}

#[test]
fn a_model_that_types_for_no_extents_is_refused_when_it_is_loaded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/special/never_types.onnx");
    let error = crate::tract::TractEngine::new().load(&file(path));
    assert!(
        matches!(error, Err(LoadModelError::Shape { .. })),
        "{error:?}"
    );
}

fn node(name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: name.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn graph(nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        ..GraphProto::default()
    }
}

#[test]
fn a_parameter_is_followed_through_arithmetic_and_not_through_data() {
    let graph = graph(vec![
        node("ArgMax", &["X"], "best"),
        node("Mul", &["rows", "two"], "doubled"),
        node("Concat", &["doubled", "best"], "shape"),
        node("Reshape", &["data", "shape"], "Y"),
        node("Shape", &["Z"], "extents"),
        node("Expand", &["Y", "extents"], "W"),
    ]);
    let found = parameters::of(&graph);
    for name in ["rows", "two", "doubled", "best", "shape", "extents"] {
        assert!(found.contains(name), "{name} is missing of {found:?}");
    }
    for name in ["X", "data", "Y", "Z"] {
        assert!(!found.contains(name), "{name} is data: {found:?}");
    }
}

#[test]
fn a_parameter_of_a_subgraph_is_followed_to_the_graph_around_it() {
    let mut branch = node("If", &["which"], "Y");
    branch.attribute = vec![AttributeProto {
        name: "then_branch".to_owned(),
        g: Some(GraphProto {
            output: vec![ValueInfoProto {
                name: "inner".to_owned(),
                ..ValueInfoProto::default()
            }],
            ..graph(vec![
                node("Tile", &["X", "times"], "Z"),
                node("Identity", &["extents"], "inner"),
            ])
        }),
        ..AttributeProto::default()
    }];
    let reshape = node("Reshape", &["data", "Y"], "W");
    let graph = graph(vec![
        node("Add", &["more", "one"], "times"),
        branch,
        reshape,
    ]);
    let found = parameters::of(&graph);
    for name in ["which", "times", "more", "one", "Y", "extents"] {
        assert!(found.contains(name), "{name} is missing of {found:?}");
    }
    assert!(!found.contains("X"));
}

proptest! {
    #[test]
    fn keys_tell_values_and_shapes_apart(
        a in proptest::collection::vec(-3_i64..3, 0..4),
        b in proptest::collection::vec(-3_i64..3, 0..4),
        rows in 1_usize..3,
        columns in 1_usize..3,
    ) {
        let session = session("by_value_reshape");
        let one = session.key(&[floats(&[rows, columns]), integers(&a)]);
        let other = session.key(&[floats(&[columns, rows]), integers(&b)]);
        prop_assert_eq!(one == other, a == b && rows == columns);
    }
}
