use super::*;

fn floats(values: &[f32]) -> Tensor {
    Tensor::new(vec![1, values.len()], TensorData::F32(values.to_vec())).unwrap()
}

#[test]
fn nan_equals_nan_and_nothing_else() {
    assert_eq!(compare(&floats(&[f32::NAN]), &floats(&[f32::NAN])), Ok(()));
    assert!(compare(&floats(&[f32::NAN]), &floats(&[0.0])).is_err());
    assert!(compare(&floats(&[0.0]), &floats(&[f32::NAN])).is_err());
}

#[test]
fn an_infinity_equals_itself_only() {
    assert_eq!(
        compare(&floats(&[f32::INFINITY]), &floats(&[f32::INFINITY])),
        Ok(())
    );
    assert!(compare(&floats(&[f32::INFINITY]), &floats(&[f32::MAX])).is_err());
    assert!(compare(&floats(&[f32::INFINITY]), &floats(&[f32::NEG_INFINITY])).is_err());
}

#[test]
fn the_first_element_outside_the_tolerance_is_named() {
    assert_eq!(
        compare(&floats(&[1.0, 100.0]), &floats(&[1.000_05, 100.005])),
        Ok(())
    );
    let difference =
        compare(&floats(&[1.0, 100.0, 7.0]), &floats(&[1.0, 100.02, 8.0])).unwrap_err();
    assert_eq!(
        difference,
        Difference::Element {
            index: vec![0, 1],
            expected: "100.0".into(),
            got: "100.02".into()
        }
    );
}

#[test]
fn integers_and_strings_have_no_tolerance() {
    let one = |value| Tensor::new(vec![1], TensorData::I64(vec![value])).unwrap();
    assert!(compare(&one(3), &one(4)).is_err());
    let text = |value: &str| Tensor::new(vec![1], TensorData::String(vec![value.into()])).unwrap();
    assert_eq!(compare(&text("a"), &text("a")), Ok(()));
    assert!(compare(&text("a"), &text("A")).is_err());
}

#[test]
fn type_and_shape_come_before_elements() {
    let flat = Tensor::new(vec![2], TensorData::F32(vec![1.0, 2.0])).unwrap();
    assert!(matches!(
        compare(&floats(&[1.0, 2.0]), &flat),
        Err(Difference::Shape { .. })
    ));
    let wide = Tensor::new(vec![2], TensorData::F64(vec![1.0, 2.0])).unwrap();
    assert!(matches!(
        compare(&flat, &wide),
        Err(Difference::Type { .. })
    ));
}

#[test]
fn rounding_to_bytes_adds_a_step_and_no_more() {
    let steps = Rounding::Steps(0.5);
    let expected = floats(&[1.0, 2.0]);
    assert_eq!(
        compare_rounded(&expected, &floats(&[1.5, 2.0]), steps),
        Ok(())
    );
    assert!(compare_rounded(&expected, &floats(&[1.51, 2.0]), steps).is_err());
    assert!(compare(&expected, &floats(&[1.5, 2.0])).is_err());
    // A 255th of 51 is 0.2.
    let expected = floats(&[-1.0, 50.0, 3.0]);
    let off =
        |by: f32| compare_rounded(&expected, &floats(&[-1.0, 50.0, 3.0 + by]), Rounding::Range);
    assert_eq!(off(0.2), Ok(()));
    assert!(off(0.21).is_err());
    let bytes = |byte| Tensor::new(vec![1], TensorData::U8(vec![byte])).unwrap();
    assert_eq!(
        compare_rounded(&bytes(3), &bytes(4), Rounding::Steps(1.0)),
        Ok(())
    );
    assert!(compare_rounded(&bytes(3), &bytes(5), Rounding::Steps(1.0)).is_err());
    assert!(compare(&bytes(3), &bytes(4)).is_err());
}
