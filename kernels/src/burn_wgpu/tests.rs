use std::path::Path;

use edgeward_base::digest::Digest;

use super::*;
use crate::engine::RunModelError;
use crate::tensor::{Tensor, TensorData};

/// The best adapter of this machine; without one the case is skipped.
fn engine(case: &str) -> Option<BurnWgpuEngine> {
    let mut adapters = probe().adapters.into_iter();
    let usable = adapters.find(|probed| probed.fault.is_none());
    if usable.is_none() {
        edgeward_harness::skip(
            case,
            "no Vulkan driver of this machine has an adapter to use",
        );
    }
    Some(BurnWgpuEngine::new(Ok(usable?.adapter)))
}

fn file(name: &str) -> ModelFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    }
}

fn images(rows: usize) -> Tensor {
    let values = (0..rows * 72).map(|place| (place % 13) as f32 - 6.0);
    Tensor::new(vec![rows, 2, 6, 6], TensorData::F32(values.collect())).unwrap()
}

#[test]
fn weights_are_on_the_device_once_however_many_plans_there_are() {
    let Some(engine) = engine("gpu.weights") else {
        return;
    };
    let session = engine
        .load(&file("tests/special/plan_per_shape.onnx"))
        .unwrap();
    session.run(&[images(1)]).unwrap();
    let resident = session.resident();
    let device = engine.device().unwrap();
    let run_all = || {
        for rows in [2, 3, 4] {
            session.run(&[images(rows)]).unwrap();
        }
        device.memory().0
    };
    let before = run_all();
    for _ in 0..20 {
        assert!(run_all() <= before);
    }
    assert!(before > 0);
    assert_eq!(resident, session.resident());
}

#[test]
fn a_device_that_is_lost_is_named_and_answers_nothing_any_more() {
    let Some(engine) = engine("gpu.lost") else {
        return;
    };
    let model = file("tests/special/plan_per_shape.onnx");
    let session = engine.load(&model).unwrap();
    session.run(&[images(2)]).unwrap();
    engine.device().unwrap().lose();
    for _ in 0..20 {
        let error = session.run(&[images(2)]).unwrap_err();
        assert!(
            matches!(&error, RunModelError::Engine { reason } if reason.contains("the device failed")),
            "{error}"
        );
    }
    let error = engine.load(&model).unwrap_err().to_string();
    assert!(error.contains("the device failed"), "{error}");
}
