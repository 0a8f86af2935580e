use std::path::Path;

use edgeward_base::digest::Digest;
use edgeward_base::units::ByteCount;

use super::session::Compute as _;
use super::*;
use crate::engine::{Rows, RunModelError};
use crate::tensor::{DataType, Tensor, TensorData};

fn file(name: &str) -> ModelFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{name}.onnx"));
    ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    }
}

fn session(name: &str) -> GraphSession<Plans> {
    let evaluation = operator::Evaluation::Kernel;
    let read = load::read(&file(name), evaluation).unwrap();
    let graph = load::graph(&read).unwrap();
    let plans = Plans::of(&graph, evaluation).unwrap();
    GraphSession::new(graph, plans)
}

fn images(rows: usize) -> Tensor {
    let values = (0..rows * 72)
        .map(|place| (place % 13) as f32 - 6.0)
        .collect();
    Tensor::new(vec![rows, 2, 6, 6], TensorData::F32(values)).unwrap()
}

fn plans(session: &GraphSession<Plans>) -> &plan::PerShape {
    match &session.compute {
        Plans::PerShape(plans) => plans,
        Plans::One(_) => panic!("a product of activations gets a plan per shape"),
    }
}

#[test]
fn a_batch_is_padded_only_with_permission() {
    let session = session("special/plan_per_shape");
    session.run(&[images(5)]).unwrap();
    assert_eq!(plans(&session).shapes(), vec![vec![5]]);
    session.permit_rows(Rows::Independent);
    assert_eq!(session.run(&[images(3)]).unwrap()[0].rows(), Some(3));
    assert_eq!(session.run(&[images(4)]).unwrap()[0].rows(), Some(4));
    assert_eq!(plans(&session).shapes(), vec![vec![5], vec![4]]);
}

#[test]
fn a_very_large_batch_is_never_padded() {
    let session = session("special/plan_per_shape");
    assert_eq!(session.compute.bucket(3), Some(4));
    assert_eq!(session.compute.bucket(4), None);
    assert_eq!(session.compute.bucket(5000), None);
}

#[test]
fn the_least_recently_used_plan_gives_way() {
    let session = session("special/plan_per_shape");
    for rows in 1..=plan::MOST_PLANS {
        session.run(&[images(rows)]).unwrap();
    }
    session.run(&[images(1)]).unwrap();
    session.run(&[images(100)]).unwrap();
    let shapes = plans(&session).shapes();
    assert_eq!(shapes.len(), plan::MOST_PLANS);
    assert!(
        shapes.contains(&vec![1]) && shapes.contains(&vec![100]),
        "{shapes:?}"
    );
    assert!(!shapes.contains(&vec![2]), "{shapes:?}");
}

#[test]
fn a_tabular_model_has_one_plan_and_is_never_padded() {
    let session = session("recorded/mixed_columns");
    assert!(matches!(session.compute, Plans::One(_)));
    assert_eq!(session.compute.bucket(3), None);
}

#[test]
fn a_session_that_panics_again_and_again_is_dead() {
    let session = session("recorded/embedding");
    let outside = Tensor::new(vec![1, 3], TensorData::I64(vec![0, 1, 1_000_000])).unwrap();
    let inside = Tensor::new(vec![1, 3], TensorData::I64(vec![0, 1, 2])).unwrap();
    for _ in 0..guard::MOST_PANICS - 1 {
        let error = session.run(std::slice::from_ref(&outside)).unwrap_err();
        assert!(
            matches!(&error, RunModelError::Engine { reason } if reason.starts_with("panicked: ")),
            "{error}"
        );
    }
    session.run(std::slice::from_ref(&inside)).unwrap();
    for _ in 0..guard::MOST_PANICS - 1 {
        session.run(std::slice::from_ref(&outside)).unwrap_err();
    }
    let error = session.run(std::slice::from_ref(&outside)).unwrap_err();
    assert!(matches!(error, RunModelError::Dead { .. }), "{error}");
    let error = session.run(std::slice::from_ref(&inside)).unwrap_err();
    assert!(matches!(error, RunModelError::Dead { .. }), "{error}");
}

#[test]
fn labels_computed_as_dimensions_leave_as_integers() {
    let session = session("recorded/dimensions_as_outputs");
    let types: Vec<DataType> = session
        .outputs()
        .iter()
        .map(|spec| spec.data_type)
        .collect();
    assert_eq!(types, vec![DataType::I64, DataType::I64]);
}

#[test]
fn weights_are_counted_as_resident() {
    let session = session("special/plan_per_shape");
    let before = session.resident();
    session.run(&[images(1)]).unwrap();
    assert!(session.resident() > before);
    assert!(before >= ByteCount(session.file_bytes));
}
