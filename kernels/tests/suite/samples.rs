//! The product's sample models, held against the engine and the framework that recorded them.

use edgeward_kernels::engine::Rows;
use edgeward_kernels::tensor::{Tensor, TensorData};
use edgeward_kernels::tolerance::{Rounding, compare_rounded};
use edgeward_kernels::verify::{KnownAnswers, Verified, verify};
use serde_json::Value;

use crate::recorded;
use crate::subject::{engines, load, model_file, samples};

#[test]
fn every_sample_equals_onnxruntime() {
    for engine in engines() {
        for sample in samples() {
            let session = load(&*engine, &sample.join("model.onnx"));
            let recorded = recorded::read(&sample.join("ort.json"), &*session);
            let outputs = session.run(&recorded.inputs).unwrap();
            let rounding = session.roundings().first().copied();
            for (expected, got) in recorded.outputs.iter().zip(&outputs) {
                compare_rounded(expected, got, rounding.unwrap_or(Rounding::None))
                    .unwrap_or_else(|difference| panic!("{}: {difference}", sample.display()));
            }
        }
    }
}

/// The one output of every sample, as the training framework gave it.
#[expect(clippy::cast_possible_truncation, reason = "the output is f32")]
fn golden(sample: &std::path::Path) -> Tensor {
    let json: Value =
        serde_json::from_str(&std::fs::read_to_string(sample.join("golden.json")).unwrap())
            .unwrap();
    let outputs = json["outputs"].as_object().unwrap();
    let values = outputs.values().next().unwrap().as_array().unwrap();
    let rows = values.len();
    let row = |row: &Value| row.as_array().cloned().unwrap_or_else(|| vec![row.clone()]);
    let numbers = values.iter().flat_map(row);
    let numbers: Vec<f32> = numbers
        .map(|value| value.as_f64().unwrap() as f32)
        .collect();
    let shape = if values.iter().all(Value::is_array) {
        vec![rows, numbers.len() / rows]
    } else {
        vec![rows]
    };
    Tensor::new(shape, TensorData::F32(numbers)).unwrap()
}

#[test]
fn every_sample_is_verified_against_its_framework_and_has_independent_rows() {
    for engine in engines() {
        for sample in samples() {
            let path = sample.join("model.onnx");
            let session = load(&*engine, &path);
            let inputs = recorded::read(&sample.join("ort.json"), &*session).inputs;
            let known = KnownAnswers {
                inputs,
                outputs: vec![golden(&sample)],
            };
            let verdict =
                verify(&*engine, &*session, &model_file(&path), Some(&known), None).unwrap();
            assert_eq!(
                verdict.verified,
                Verified::Framework,
                "{}",
                sample.display()
            );
            assert_eq!(verdict.rows, Rows::Independent, "{}", sample.display());
            assert_eq!(session.rows(), Rows::Independent);
        }
    }
}

#[test]
fn every_sample_is_verified_against_the_reference_when_it_brings_no_answers() {
    for engine in engines() {
        for sample in samples() {
            let path = sample.join("model.onnx");
            let session = load(&*engine, &path);
            let verdict = verify(&*engine, &*session, &model_file(&path), None, None).unwrap();
            assert_eq!(
                verdict.verified,
                Verified::Reference,
                "{}",
                sample.display()
            );
        }
    }
}
