use super::*;

fn matrix(rows: usize, columns: usize) -> Tensor {
    let values = (0..rows * columns)
        .map(|value| i64::try_from(value).unwrap())
        .collect();
    Tensor::new(vec![rows, columns], TensorData::I64(values)).unwrap()
}

#[test]
fn a_shape_that_does_not_fit_is_refused() {
    let error = Tensor::new(vec![2, 3], TensorData::F32(vec![0.0; 5])).unwrap_err();
    assert_eq!(error.to_string(), "shape [2, 3] does not fit 5 elements");
    assert!(Tensor::new(vec![usize::MAX, 2], TensorData::Bool(vec![])).is_err());
}

#[test]
fn a_scalar_has_one_element_and_no_rows() {
    let scalar = Tensor::new(vec![], TensorData::F64(vec![1.5])).unwrap();
    assert_eq!(scalar.rows(), None);
    assert_eq!(scalar.slice_rows(0..1), None);
    assert_eq!(scalar.pad_rows(2), None);
}

#[test]
fn rows_taken_apart_and_put_together_are_the_same_tensor() {
    let whole = matrix(5, 3);
    let head = whole.slice_rows(0..2).unwrap();
    let tail = whole.slice_rows(2..5).unwrap();
    assert_eq!(Tensor::concat_rows(&[&head, &tail]), Some(whole.clone()));
    assert_eq!(whole.slice_rows(4..6), None);
    assert_eq!(whole.slice_rows(0..0).unwrap().shape(), &[0, 3]);
}

#[test]
fn padding_repeats_the_last_row() {
    let padded = matrix(2, 2).pad_rows(4).unwrap();
    assert_eq!(padded.shape(), &[4, 2]);
    assert_eq!(
        padded.data(),
        &TensorData::I64(vec![0, 1, 2, 3, 2, 3, 2, 3])
    );
    assert_eq!(matrix(0, 2).pad_rows(4), None);
    assert_eq!(matrix(3, 2).pad_rows(2), None);
}

#[test]
fn tensors_of_other_widths_or_types_are_not_put_together() {
    assert_eq!(Tensor::concat_rows(&[&matrix(1, 2), &matrix(1, 3)]), None);
    let text = Tensor::new(vec![1, 2], TensorData::String(vec!["a".into(), "b".into()])).unwrap();
    assert_eq!(Tensor::concat_rows(&[&matrix(1, 2), &text]), None);
    assert_eq!(Tensor::concat_rows(&[]), None);
}

#[test]
fn a_spec_admits_free_axes_and_no_other_rank() {
    let spec = TensorSpec {
        name: "x".into(),
        data_type: DataType::F32,
        shape: vec![None, Some(3)],
    };
    assert!(spec.admits(&[7, 3]));
    assert!(!spec.admits(&[7, 4]));
    assert!(!spec.admits(&[3]));
}
