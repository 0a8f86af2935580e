use super::*;

const TYPES: [DataType; 12] = [
    DataType::Bool,
    DataType::U8,
    DataType::U16,
    DataType::U32,
    DataType::U64,
    DataType::I8,
    DataType::I16,
    DataType::I32,
    DataType::I64,
    DataType::F32,
    DataType::F64,
    DataType::String,
];

fn specs() -> Vec<TensorSpec> {
    let spec = |data_type: DataType| TensorSpec {
        name: data_type.to_string(),
        data_type,
        shape: vec![None, Some(3), None],
    };
    TYPES.into_iter().map(spec).collect()
}

#[test]
fn inputs_fit_their_specs_and_never_change() {
    let made = inputs(&specs());
    for (tensor, spec) in made.iter().zip(specs()) {
        assert_eq!(tensor.data_type(), spec.data_type);
        assert_eq!(tensor.shape(), &[16, 3, 16]);
    }
    assert_eq!(made, inputs(&specs()));
}

#[test]
fn numbers_stay_small_and_rows_differ() {
    let made = inputs(&specs());
    let TensorData::I64(integers) = made[8].data() else {
        panic!("i64")
    };
    assert!(integers.iter().all(|value| (0..8).contains(value)));
    let TensorData::F32(floats) = made[9].data() else {
        panic!("f32")
    };
    assert!(floats.iter().all(|value| (-1.0..1.0).contains(value)));
    for tensor in &made {
        assert_ne!(
            tensor.slice_rows(0..1),
            tensor.slice_rows(1..2),
            "{}",
            tensor.data_type()
        );
    }
}

#[test]
fn fixed_extents_and_scalars_are_kept() {
    let fixed = TensorSpec {
        name: "x".into(),
        data_type: DataType::F32,
        shape: vec![Some(2), Some(5)],
    };
    let scalar = TensorSpec {
        name: "y".into(),
        data_type: DataType::F32,
        shape: vec![],
    };
    let made = inputs(&[fixed, scalar]);
    assert_eq!(made[0].shape(), &[2, 5]);
    assert_eq!(made[1].shape(), &[] as &[usize]);
}

#[test]
fn a_mask_is_all_ones() {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        data_type: DataType::I64,
        shape: vec![None, None],
    };
    let made = inputs(&[spec("input_ids"), spec("attention_mask")]);
    let TensorData::I64(mask) = made[1].data() else {
        unreachable!()
    };
    assert!(mask.iter().all(|value| *value == 1));
    assert_ne!(made[0].data(), made[1].data());
}
