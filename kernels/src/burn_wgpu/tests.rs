use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgeward_base::digest::Digest;

use super::*;
use crate::engine::{Rows, RunModelError};
use crate::standby::Standby;
use crate::tensor::{Tensor, TensorData};
use crate::verify::{KnownAnswers, verify};

mod network;

use network::{SIDE, write};

/// Room for all weights of these tests.
const WEIGHTS: ByteCount = ByteCount::mib(64);

/// The best adapter of this machine; without one the case is skipped.
fn engine(case: &str) -> Option<BurnWgpuEngine> {
    engine_for(case, WEIGHTS)
}

fn engine_for(case: &str, weights: ByteCount) -> Option<BurnWgpuEngine> {
    let mut adapters = probe().adapters.into_iter();
    let usable = adapters.find(|probed| probed.fault.is_none());
    if usable.is_none() {
        edgeward_harness::skip(
            case,
            "no Vulkan driver of this machine has an adapter to use",
        );
    }
    Some(BurnWgpuEngine::new(Ok(usable?.adapter), weights))
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
    let resident = session.on_device();
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
    assert_eq!(resident, session.on_device());
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

/// The bytes that the device's allocator holds for the model while nothing runs.
fn held(bits: usize) -> Option<u64> {
    let engine = engine("gpu.memory")?;
    let folder = tempfile::tempdir().unwrap();
    let session = engine.load(&write(folder.path(), bits)).unwrap();
    let row = Tensor::new(vec![1, SIDE], TensorData::F32(vec![1.0; SIDE])).unwrap();
    for _ in 0..3 {
        session.run(std::slice::from_ref(&row)).unwrap();
    }
    assert_eq!(session.host_nodes(), Vec::<String>::new());
    let (used, _) = engine.device().unwrap().memory();
    Some(used)
}

#[test]
fn packed_weights_take_a_quarter_and_an_eighth_of_the_device_s_memory() {
    let (Some(float), Some(bytes), Some(halves)) = (held(32), held(8), held(4)) else {
        return;
    };
    println!(
        "on the device: {float} bytes of f32, {bytes} of int8, {halves} of int4 in blocks of 32"
    );
    assert!(bytes * 100 <= float * 27, "int8: {bytes} of {float}");
    // An eighth, and a scale of 4 bytes for each 32.
    assert!(halves * 100 <= float * 18, "int4: {halves} of {float}");
}

/// Callers at the same time, and how many requests each makes.
const CALLERS: usize = 4;
const REQUESTS: usize = 60;

#[test]
fn a_device_that_is_lost_under_load_costs_no_request() {
    let Some(engine) = engine("gpu.loss") else {
        return;
    };
    let model = file("tests/special/plan_per_shape.onnx");
    let processor = tract::TractEngine::new();
    let first = engine.load(&model).unwrap();
    let other = processor.load(&model).unwrap();
    let expected = other.run(&[images(2)]).unwrap();
    let session = Standby::new(first, other, "tract");
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..REQUESTS {
                    let got = session.run(&[images(2)]).unwrap();
                    for (expected, got) in expected.iter().zip(&got) {
                        crate::tolerance::compare(expected, got).unwrap();
                    }
                    // The device goes once all callers are at work.
                    let so_far = answered.fetch_add(1, Ordering::SeqCst) + 1;
                    if so_far == CALLERS * REQUESTS / 3 {
                        engine.device().unwrap().lose();
                    }
                }
            });
        }
    });
    let takeover = session.takeover().unwrap();
    assert_eq!(takeover.engine, "tract");
    assert!(
        takeover.reason.contains("the device failed"),
        "{}",
        takeover.reason
    );
    edgeward_harness::floors::reached("gpu.loss.requests", answered.into_inner() as u64);
}

/// The engine's device, as one that binds only so many bytes.
fn binding(engine: &BurnWgpuEngine, bytes: u64) -> Arc<Device> {
    let adapter = engine.adapter.as_ref().unwrap();
    let mut device = Device::open(adapter, WEIGHTS).unwrap();
    device.adapter.max_binding_bytes = bytes;
    Arc::new(device)
}

fn open_on(device: &Arc<Device>, model: &ModelFile) -> Arc<dyn Session> {
    let device = Arc::clone(device);
    tract::open_on(model, move |graph| {
        DevicePlans::new(graph, Arc::clone(&device))
    })
    .unwrap()
}

#[test]
fn weights_that_are_larger_than_a_binding_are_in_parts() {
    let Some(engine) = engine("gpu.parts") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let row = Tensor::new(vec![1, SIDE], TensorData::F32(vec![1.0; SIDE])).unwrap();
    // A quarter of the float matrix.
    let device = binding(&engine, (SIDE * SIDE) as u64);
    for bits in [32, 8, 4] {
        let model = write(folder.path(), bits);
        let session = open_on(&device, &model);
        let expected = tract::TractEngine::new().load(&model).unwrap();
        let expected = expected.run(std::slice::from_ref(&row)).unwrap();
        let got = session.run(std::slice::from_ref(&row)).unwrap();
        for (expected, got) in expected.iter().zip(&got) {
            crate::tolerance::compare(expected, got).unwrap();
        }
    }
}

#[test]
fn a_batch_that_is_larger_than_a_binding_is_divided_and_its_rows_are_known_to_be_independent() {
    let Some(engine) = engine("gpu.division") else {
        return;
    };
    let model = file("tests/special/plan_per_shape.onnx");
    let processor = tract::TractEngine::new();
    let expected = processor.load(&model).unwrap().run(&[images(16)]).unwrap();
    let numbers = |tensor: &Tensor| tensor.shape().iter().product::<usize>();
    let largest = expected.iter().map(numbers).max().unwrap().max(16 * 72);
    // Five rows of the largest tensor: two halvings of sixteen.
    let device = binding(&engine, (largest * 4 * 5 / 16) as u64);
    let session = open_on(&device, &model);
    let refused = session.run(&[images(16)]).unwrap_err();
    assert!(
        matches!(refused, RunModelError::TooLarge { .. }),
        "{refused}"
    );
    let known = KnownAnswers {
        inputs: vec![images(16)],
        outputs: expected.clone(),
    };
    let verdict = verify(&processor, session.as_ref(), &model, Some(&known), None).unwrap();
    assert_eq!(verdict.rows, Rows::Independent);
    for rows in [16, 13, 5, 4, 1] {
        let got = session.run(&[images(rows)]).unwrap();
        for (expected, got) in expected.iter().zip(&got) {
            let expected = expected.slice_rows(0..rows).unwrap();
            crate::tolerance::compare(&expected, got).unwrap();
        }
    }
    // What does not fit one row fits none.
    let session = open_on(&binding(&engine, 128), &model);
    session.permit_rows(Rows::Independent);
    let refused = session.run(&[images(3)]).unwrap_err();
    assert!(
        matches!(refused, RunModelError::TooLarge { .. }),
        "{refused}"
    );
}

#[test]
fn the_model_that_was_asked_longest_ago_gives_way_and_comes_back_the_same() {
    let matrix = (SIDE * SIDE * 4) as u64;
    let Some(engine) = engine_for("gpu.eviction", ByteCount(matrix + matrix / 2)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let row = [Tensor::new(vec![1, SIDE], TensorData::F32(vec![1.0; SIDE])).unwrap()];
    // A matrix each of them, and of the last a quarter.
    let models = [32, 32, 8].map(|bits| engine.load(&write(folder.path(), bits)).unwrap());
    let answers = models.each_ref().map(|model| model.run(&row).unwrap());
    let held = || models.each_ref().map(|model| model.on_device().unwrap().0);
    let [first, second, third] = held();
    assert_eq!((first, second), (0, matrix));
    assert!(third > 0 && third * 3 < matrix);
    let (_, first_reserved) = engine.device().unwrap().memory();
    for _ in 0..4 {
        for (model, answer) in models.iter().zip(&answers) {
            assert_eq!(&model.run(&row).unwrap(), answer);
            assert!(held().iter().sum::<u64>() <= matrix + matrix / 2);
            // The allocator says so, too; what a run leaves are a few rows.
            let (used, reserved) = engine.device().unwrap().memory();
            assert!(used < matrix * 7 / 4, "{used} bytes in use");
            assert!(reserved <= first_reserved, "{reserved} bytes reserved");
        }
    }
    assert_eq!(models[0].host_nodes(), Vec::<String>::new());
}

#[test]
fn weights_that_alone_have_no_room_are_refused_with_what_they_take() {
    let Some(engine) = engine_for("gpu.room", ByteCount(1000)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let session = engine.load(&write(folder.path(), 32)).unwrap();
    let row = Tensor::new(vec![1, SIDE], TensorData::F32(vec![1.0; SIDE])).unwrap();
    let refused = session.run(&[row]).unwrap_err().to_string();
    assert!(
        refused.contains("its weights take 1048576 bytes"),
        "{refused}"
    );
}
