use edgeward_base::units::ByteCount;

use super::*;
use crate::tensor::{DataType, TensorSpec};

/// A session of one column in and one out that computes what the test says.
struct Scripted {
    spec: Vec<TensorSpec>,
    answer: fn(&[f32]) -> Result<Vec<f32>, RunModelError>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Session for Scripted {
    fn inputs(&self) -> &[TensorSpec] {
        &self.spec
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.spec
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let TensorData::F32(values) = inputs[0].data() else {
            panic!("floats in")
        };
        let answer = (self.answer)(values)?;
        Ok(vec![
            Tensor::new(vec![answer.len()], TensorData::F32(answer)).unwrap(),
        ])
    }

    fn permit_rows(&self, _rows: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Together
    }

    fn resident(&self) -> ByteCount {
        ByteCount(0)
    }
}

fn measured(
    values: &[f32],
    answer: fn(&[f32]) -> Result<Vec<f32>, RunModelError>,
) -> Result<Rows, RunModelError> {
    let spec = TensorSpec {
        name: "x".into(),
        data_type: DataType::F32,
        shape: vec![None],
    };
    let input = Tensor::new(vec![values.len()], TensorData::F32(values.to_vec())).unwrap();
    measure(
        &Scripted {
            spec: vec![spec],
            answer,
        },
        &[input],
    )
}

fn failure() -> RunModelError {
    RunModelError::Engine {
        reason: "scripted".into(),
    }
}

#[test]
fn a_function_of_each_row_is_independent() {
    assert_eq!(
        measured(&[1.0, 2.0, 3.0], |x| Ok(x.to_vec())),
        Ok(Rows::Independent)
    );
    assert_eq!(measured(&[1.0], |x| Ok(x.to_vec())), Ok(Rows::Independent));
}

#[test]
fn a_range_over_the_batch_is_found_with_a_single_row() {
    let ranged = |x: &[f32]| {
        let largest = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        Ok(x.iter()
            .map(|x| (x / largest * 7.0).round() / 7.0 * largest)
            .collect())
    };
    assert_eq!(measured(&[0.3], ranged), Ok(Rows::Together));
}

#[test]
fn an_influence_of_the_batch_size_is_found() {
    let sized = |x: &[f32]| Ok(x.iter().map(|value| value + x.len() as f32).collect());
    assert_eq!(measured(&[1.0, 2.0], sized), Ok(Rows::Together));
}

#[test]
fn a_model_that_fails_on_its_neighbours_keeps_to_itself() {
    let fussy = |x: &[f32]| {
        if x.iter().any(|x| *x < 0.0) {
            Err(failure())
        } else {
            Ok(x.to_vec())
        }
    };
    assert_eq!(measured(&[1.0, 2.0], fussy), Ok(Rows::Together));
}

#[test]
fn a_model_that_fails_on_a_row_alone_is_an_error() {
    let social = |x: &[f32]| {
        if x.len() == 1 {
            Err(failure())
        } else {
            Ok(x.to_vec())
        }
    };
    assert_eq!(measured(&[1.0, 2.0], social), Err(failure()));
}

#[test]
fn no_rows_tell_nothing() {
    assert_eq!(measured(&[], |x| Ok(x.to_vec())), Ok(Rows::Together));
}
