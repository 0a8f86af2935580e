//! Batches of every size, many threads, wrong inputs, broken files.

use std::path::PathBuf;
use std::sync::Arc;

use edgeward_kernels::engine::{LoadModelError, Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, Tensor, TensorData};
use edgeward_kernels::tolerance::compare;
use edgeward_kernels::verify::{KnownAnswers, VerifyModelError, verify};

use crate::recorded::{self, Recorded};
use crate::subject::{engines, load, model_file, recording, samples, special, try_load};

/// Loads a recording on an engine, with what it should answer.
fn recorded_session(
    engine: &dyn edgeward_kernels::engine::Engine,
    name: &str,
) -> (Arc<dyn Session>, Recorded, PathBuf) {
    let path = recording(name);
    let session = load(engine, &path);
    let recorded = recorded::read(&path.with_extension("json"), &*session);
    (session, recorded, path)
}

fn rows(tensors: &[Tensor], range: std::ops::Range<usize>) -> Vec<Tensor> {
    tensors
        .iter()
        .map(|tensor| tensor.slice_rows(range.clone()).unwrap())
        .collect()
}

fn assert_close(expected: &[Tensor], got: &[Tensor]) {
    assert_eq!(expected.len(), got.len());
    for (expected, got) in expected.iter().zip(got) {
        compare(expected, got).unwrap();
    }
}

#[test]
fn batches_of_any_size_answer_each_row_as_alone() {
    for engine in engines() {
        for sample in samples() {
            let session = load(&*engine, &sample.join("model.onnx"));
            let recorded = recorded::read(&sample.join("ort.json"), &*session);
            let count = recorded.inputs[0].rows().unwrap();
            let thousand: Vec<Tensor> = recorded
                .inputs
                .iter()
                .map(|input| {
                    Tensor::concat_rows(&vec![input; 1000 / count + 1])
                        .unwrap()
                        .slice_rows(0..1000)
                        .unwrap()
                })
                .collect();
            let outputs = session.run(&thousand).unwrap();
            assert_eq!(outputs[0].rows(), Some(1000));
            assert_close(
                &rows(&recorded.outputs, 0..1),
                &rows(&outputs, count..count + 1),
            );
            for size in [1, 2, 3, 5, 17] {
                let outputs = session.run(&rows(&recorded.inputs, 0..size)).unwrap();
                assert_close(&rows(&recorded.outputs, 0..size), &outputs);
            }
        }
    }
}

#[test]
fn no_rows_in_gives_no_rows_out() {
    for engine in engines() {
        for name in ["mixed_columns", "iris_forest", "convolution", "strings"] {
            let (session, recorded, _) = recorded_session(&*engine, name);
            let outputs = session.run(&rows(&recorded.inputs, 0..0)).unwrap();
            for (output, spec) in outputs.iter().zip(session.outputs()) {
                assert_eq!(output.rows(), Some(0), "{name}");
                assert!(spec.admits(output.shape()), "{name}");
                assert_eq!(output.data_type(), spec.data_type);
            }
        }
    }
}

#[test]
fn four_threads_get_the_same_answers_as_one() {
    for engine in engines() {
        for name in ["mixed_columns", "convolution", "iris_mlp"] {
            let (session, recorded, _) = recorded_session(&*engine, name);
            session.permit_rows(Rows::Independent);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (session, recorded) = (&session, &recorded);
                    scope.spawn(move || {
                        let count = recorded.inputs[0].rows().unwrap();
                        for turn in 0..200 {
                            let size = 1 + (turn + thread) % count;
                            let outputs = session.run(&rows(&recorded.inputs, 0..size)).unwrap();
                            assert_close(&rows(&recorded.outputs, 0..size), &outputs);
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn rows_that_influence_one_another_are_found_out() {
    for engine in engines() {
        for (name, expected) in [
            ("centred", Rows::Together),
            ("dynamic_quantization", Rows::Together),
            ("scalar_output", Rows::Together),
            ("convolution", Rows::Independent),
            ("embedding", Rows::Independent),
            ("mixed_columns", Rows::Independent),
        ] {
            let (session, recorded, path) = recorded_session(&*engine, name);
            let known = KnownAnswers {
                inputs: recorded.inputs,
                outputs: recorded.outputs,
            };
            let verdict =
                verify(&*engine, &*session, &model_file(&path), Some(&known), None).unwrap();
            assert_eq!(verdict.rows, expected, "{name}");
        }
    }
}

#[test]
fn padding_changes_no_answer() {
    for engine in engines() {
        let (session, recorded, _) = recorded_session(&*engine, "convolution");
        session.permit_rows(Rows::Independent);
        for size in 1..=5 {
            let outputs = session.run(&rows(&recorded.inputs, 0..size)).unwrap();
            assert_close(&rows(&recorded.outputs, 0..size), &outputs);
        }
    }
}

#[test]
fn more_shapes_than_plans_are_kept_still_run() {
    for engine in engines() {
        let (session, recorded, _) = recorded_session(&*engine, "convolution");
        for size in (1..40).chain(1..40) {
            let image = recorded.inputs[0].slice_rows(0..1).unwrap();
            let outputs = session.run(&[image.pad_rows(size).unwrap()]).unwrap();
            assert_close(
                &rows(&recorded.outputs, 0..1),
                &rows(&outputs, size - 1..size),
            );
        }
    }
}

#[test]
fn wrong_inputs_are_named_with_both_sides() {
    for engine in engines() {
        let (session, recorded, _) = recorded_session(&*engine, "mixed_columns");
        let good = recorded.inputs;
        assert_eq!(
            session.run(&good[1..]),
            Err(RunModelError::InputCount {
                expected: 4,
                got: 3
            })
        );

        let mut typed = good.clone();
        typed[2] = good[3].clone();
        let (expected, got) = (DataType::I64, DataType::F32);
        let error = session.run(&typed).unwrap_err();
        assert_eq!(
            error,
            RunModelError::InputType {
                name: "rooms".into(),
                expected,
                got
            }
        );
        assert!(error.is_input_mistake());

        let mut wide = good.clone();
        wide[3] = Tensor::new(vec![15, 2], TensorData::F32(vec![0.0; 30])).unwrap();
        let error = session.run(&wide).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input \"area\" has shape [-1, 1], got [15, 2]"
        );

        let mut short = good.clone();
        short[3] = good[3].slice_rows(0..7).unwrap();
        let error = session.run(&short).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input \"area\" has shape [30, 1], got [7, 1]"
        );
        assert!(error.is_input_mistake());
    }
}

#[test]
fn a_run_that_fails_inside_the_engine_hurts_no_other() {
    for engine in engines() {
        let (session, recorded, _) = recorded_session(&*engine, "embedding");
        let outside = Tensor::new(vec![1, 3], TensorData::I64(vec![0, 1, 1_000_000])).unwrap();
        for _ in 0..3 {
            let error = session.run(std::slice::from_ref(&outside)).unwrap_err();
            assert!(matches!(error, RunModelError::Engine { .. }), "{error}");
            assert_close(&recorded.outputs, &session.run(&recorded.inputs).unwrap());
        }
    }
}

#[test]
fn a_wrong_answer_is_refused_with_both_values() {
    // A forest has no form on a device.
    for engine in engines()
        .into_iter()
        .filter(|engine| engine.hardware().is_none())
    {
        let (session, recorded, path) = recorded_session(&*engine, "iris_forest");
        let Some(TensorData::F32(mut wrong)) =
            recorded.outputs.last().cloned().map(Tensor::into_data)
        else {
            panic!("probabilities are f32")
        };
        wrong[4] += 0.25;
        let shape = recorded.outputs[1].shape().to_vec();
        let outputs = vec![
            recorded.outputs[0].clone(),
            Tensor::new(shape, TensorData::F32(wrong)).unwrap(),
        ];
        let known = KnownAnswers {
            inputs: recorded.inputs,
            outputs,
        };
        let error =
            verify(&*engine, &*session, &model_file(&path), Some(&known), None).unwrap_err();
        let VerifyModelError::Mismatch {
            output, tensors, ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(output, &session.outputs()[1].name);
        assert_eq!(tensors.0, known.outputs[1]);
        assert!(error.to_string().contains("element [1, 1]"), "{error}");
        assert_eq!(session.rows(), Rows::Together);
    }
}

#[test]
fn weights_beside_the_model_are_found() {
    for engine in engines() {
        let session = load(&*engine, &special("external"));
        let three = Tensor::new(vec![1, 1], TensorData::F32(vec![3.0])).unwrap();
        let outputs = session.run(&[three]).unwrap();
        assert_eq!(outputs[0].data(), &TensorData::F32(vec![6.0]));
    }
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    for engine in engines() {
        for (model, refusal) in [
            ("unsupported", "NoSuchOperator (node \"nosuchoperator\")"),
            // The standard Relu is not what this is, whatever it may be.
            ("other_domain", "com.example.Relu (node \"rectify\")"),
        ] {
            let error = try_load(&*engine, &special(model)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("unsupported operator: {refusal}")
            );
        }
    }
}

#[test]
fn a_graph_that_does_not_type_names_the_node() {
    for engine in engines() {
        let error = try_load(&*engine, &special("shape_clash")).unwrap_err();
        assert!(matches!(error, LoadModelError::Shape { .. }), "{error}");
        assert!(error.to_string().contains("product"), "{error}");
        let error = try_load(&*engine, &special("broken_tree")).unwrap_err();
        assert!(
            error.to_string().contains("tree 0 has no node 99"),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(recording("iris_forest")).unwrap();
    let mut files = vec![b"not a model".to_vec(), Vec::new()];
    files.extend((1..8).map(|eighth| whole[..whole.len() * eighth / 8].to_vec()));
    for engine in engines() {
        for (number, bytes) in files.iter().enumerate() {
            let path = folder.path().join(format!("{number}.onnx"));
            std::fs::write(&path, bytes).unwrap();
            try_load(&*engine, &path).unwrap_err();
        }
        let missing = edgeward_kernels::engine::ModelFile {
            path: folder.path().join("missing.onnx"),
            ..model_file(&recording("strings"))
        };
        assert!(matches!(
            engine.load(&missing),
            Err(LoadModelError::Read { .. })
        ));
    }
}
