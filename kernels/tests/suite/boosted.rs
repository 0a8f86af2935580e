//! Every model in `tests/boosted`, held against what its framework answered; see `train.py` there.

use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_kernels::engine::{
    Engine, LoadModelError, ModelFile, ModelForm, Predictor, Rows, RunModelError, Session,
};
use edgeward_kernels::tensor::{DataType, Tensor, TensorData};
use edgeward_kernels::verify::{KnownAnswers, verify};
use serde_json::Value;

use crate::recorded;
use crate::subject::engines_for;

/// How far a number may lie from the framework's: a part of it.
const ALLOWED: f64 = 1e-6;

/// One trained model.
struct Case {
    name: String,
    file: ModelFile,
    answers: PathBuf,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boosted")
}

fn file(path: PathBuf, form: ModelForm) -> ModelFile {
    ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form,
        text: None,
    }
}

fn cases() -> Vec<Case> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut answers: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    answers.retain(|path| path.extension().is_some_and(|ending| ending == "answers"));
    answers.sort();
    let case = |answers: PathBuf| {
        let text = std::fs::read_to_string(&answers).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let predictor = match json["predictor"].as_str().unwrap() {
            "booster" => Predictor::Booster,
            "estimator" => Predictor::Estimator,
            "classifier" => Predictor::Classifier,
            other => panic!("{other} predicts nothing"),
        };
        let (path, form) = ["ubj", "json", "txt"]
            .map(|ending| answers.with_extension(ending))
            .into_iter()
            .find(|path| path.try_exists().unwrap())
            .map(|path| {
                let text = path.extension().is_some_and(|ending| ending == "txt");
                let form = if text {
                    ModelForm::LightGbm(predictor)
                } else {
                    ModelForm::XgBoost(predictor)
                };
                (path, form)
            })
            .unwrap();
        Case {
            name: answers.file_stem().unwrap().to_string_lossy().into_owned(),
            file: file(path, form),
            answers,
        }
    };
    let cases: Vec<Case> = answers.into_iter().map(case).collect();
    assert!(cases.len() >= 86, "only {} models found", cases.len());
    cases
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// Runs `check` on every case and engine, and reports all failures together.
fn each_case(check: impl Fn(&dyn Engine, &Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    for case in cases() {
        for engine in engines_for(case.file.form) {
            if let Err(reason) = check(&*engine, &case) {
                failures.push(format!("{} on {}: {reason}", engine.name(), case.name));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        TensorData::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        TensorData::F64(values) => values.clone(),
        TensorData::I64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        other => panic!("{:?} are no answers", other.data_type()),
    }
}

#[test]
fn every_model_answers_as_its_framework() {
    each_case(|engine, case| {
        let session = engine.load(&case.file).map_err(|error| error.to_string())?;
        let recorded = recorded::read(&case.answers, &*session);
        let got = session
            .run(&recorded.inputs)
            .map_err(|error| error.to_string())?;
        let (got, expected) = (&got[0], &recorded.outputs[0]);
        let labels = expected.data_type() == DataType::I64 || expected.data_type() == DataType::I32;
        let same_type =
            got.data_type() == expected.data_type() || labels && got.data_type() == DataType::I64;
        if got.shape() != expected.shape() || !same_type {
            return Err(format!(
                "{:?} of {}, expected {:?} of {}",
                got.shape(),
                got.data_type(),
                expected.shape(),
                expected.data_type()
            ));
        }
        if !session.outputs()[0].admits(got.shape()) {
            return Err(format!("{:?} does not keep its spec", session.outputs()[0]));
        }
        let pairs = numbers(expected).into_iter().zip(numbers(got));
        for (at, (expected, got)) in pairs.enumerate() {
            let allowed = if labels {
                0.0
            } else {
                ALLOWED * expected.abs()
            };
            if (expected - got).abs() > allowed || got.is_nan() {
                return Err(format!("element {at}: {got:?}, not {expected:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn every_model_is_verified_with_and_without_answers_of_its_framework() {
    each_case(|engine, case| {
        let session = engine.load(&case.file).map_err(|error| error.to_string())?;
        let mut recorded = recorded::read(&case.answers, &*session);
        if session.outputs()[0].data_type == DataType::I64 {
            let labels = numbers(&recorded.outputs[0]).into_iter();
            #[expect(clippy::cast_possible_truncation, reason = "labels are small")]
            let labels = TensorData::I64(labels.map(|label| label as i64).collect());
            let shape = recorded.outputs[0].shape().to_vec();
            recorded.outputs = vec![Tensor::new(shape, labels).unwrap()];
        }
        let known = KnownAnswers {
            inputs: recorded.inputs,
            outputs: recorded.outputs,
        };
        for golden in [Some(&known), None] {
            let verdict = verify(engine, &*session, &case.file, golden, None)
                .map_err(|error| error.to_string())?;
            let refuses = case.name.starts_with("xgb_words") || case.name == "xgb_levels";
            if verdict.rows != session.rows() || (verdict.rows == Rows::Independent) == refuses {
                return Err(format!("rows are {:?}", verdict.rows));
            }
        }
        Ok(())
    });
}

#[test]
fn a_row_answers_the_same_alone() {
    each_case(|engine, case| {
        let session = engine.load(&case.file).map_err(|error| error.to_string())?;
        let inputs = recorded::read(&case.answers, &*session).inputs;
        let together = session.run(&inputs).map_err(|error| error.to_string())?;
        let rows = inputs[0].shape()[0];
        for row in 0..rows {
            let alone: Vec<Tensor> = inputs
                .iter()
                .map(|input| input.slice_rows(row..row + 1).unwrap())
                .collect();
            let alone = session.run(&alone).map_err(|error| error.to_string())?;
            if Some(&alone[0]) != together[0].slice_rows(row..row + 1).as_ref() {
                return Err(format!("row {row} differs"));
            }
        }
        Ok(())
    });
}

/// Changes one cell of the input of that name, or of the only one.
fn run_with(
    session: &dyn Session,
    inputs: &[Tensor],
    name: &str,
    cell: &Value,
) -> Result<(), RunModelError> {
    let named = session.inputs().iter().position(|spec| spec.name == name);
    let at = named.unwrap_or(0);
    let data = match inputs[at].data() {
        TensorData::F64(values) => {
            let mut values = values.clone();
            values[1] = cell.as_f64().unwrap_or(f64::NAN);
            TensorData::F64(values)
        }
        TensorData::String(values) => {
            let mut values = values.clone();
            values[1] = cell.as_str().unwrap().to_owned();
            TensorData::String(values)
        }
        other => panic!("{:?}", other.data_type()),
    };
    let mut inputs = inputs.to_vec();
    inputs[at] = Tensor::new(inputs[at].shape().to_vec(), data).unwrap();
    session.run(&inputs).map(drop)
}

#[test]
fn what_xgboost_refuses_is_refused_by_name() {
    for (name, input, cell, says) in [
        (
            "xgb_words_ubj",
            "kind",
            Value::from("unheard of"),
            "input \"kind\", row 1: \"unheard of\" is a category that the training data did not have",
        ),
        (
            "xgb_words_ubj",
            "level",
            Value::from(7.0),
            "input \"level\", row 1: 7.0 is a category",
        ),
        (
            "xgb_levels",
            "level",
            Value::from(-1.0),
            "input \"level\", row 0: -1.0 is a category",
        ),
        (
            "xgb_logistic",
            "features",
            Value::from(1e39),
            "input \"1\", row 0: the number is beyond the range of float32",
        ),
    ] {
        let case = case(name);
        for engine in engines_for(case.file.form) {
            let session = engine.load(&case.file).unwrap();
            let inputs = recorded::read(&case.answers, &*session).inputs;
            let refused = run_with(&*session, &inputs, input, &cell).unwrap_err();
            assert!(refused.is_input_mistake());
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    for name in ["xgb_softprob", "lgb_words"] {
        let case = case(name);
        for engine in engines_for(case.file.form) {
            let session = engine.load(&case.file).unwrap();
            let inputs = recorded::read(&case.answers, &*session).inputs;
            let narrow = Tensor::new(vec![2, 3], TensorData::F64(vec![0.0; 6])).unwrap();
            let single = Tensor::new(vec![1, 5], TensorData::F32(vec![0.0; 5])).unwrap();
            let mut uneven = inputs.clone();
            let last = uneven.len() - 1;
            uneven[last] = uneven[last].slice_rows(0..3).unwrap();
            let mut wrong = vec![
                Vec::new(),
                vec![narrow; inputs.len()],
                vec![single; inputs.len()],
            ];
            wrong.extend((inputs.len() > 1).then_some(uneven));
            for inputs in wrong {
                let refused = session.run(&inputs).unwrap_err();
                assert!(refused.is_input_mistake(), "{refused}");
            }
            let nothing: Vec<Tensor> = inputs
                .iter()
                .map(|input| input.slice_rows(0..0).unwrap())
                .collect();
            assert_eq!(session.run(&nothing).unwrap()[0].rows(), Some(0));
        }
    }
}

const XGB: ModelForm = ModelForm::XgBoost(Predictor::Booster);
const LGB: ModelForm = ModelForm::LightGbm(Predictor::Booster);

/// Loads bytes as a file of the form, and answers the refusal.
fn refusal(form: ModelForm, bytes: &[u8]) -> String {
    let written = tempfile::tempdir().unwrap();
    let path = written.path().join("model");
    std::fs::write(&path, bytes).unwrap();
    let engines = engines_for(form);
    engines[0].load(&file(path, form)).unwrap_err().to_string()
}

/// A trained model with a part of it replaced.
fn edited(name: &str, from: &str, to: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    text.replace(from, to).into_bytes()
}

#[test]
fn what_is_not_served_says_so() {
    for (form, bytes, says) in [
        (
            LGB,
            edited("refused_linear.txt", "tree", "tree"),
            "linear trees of LightGBM",
        ),
        (
            XGB,
            edited("xgb_softprob.json", "multi:softprob", "reg:unheardof"),
            "objective \"reg:unheardof\" of XGBoost",
        ),
        (
            LGB,
            edited("lgb_binary.txt", "objective=binary", "objective=other"),
            "objective \"other\" of LightGBM",
        ),
        (
            XGB,
            edited("xgb_words_json.json", "[97,109,", "[-61,-74,"),
            "category texts that are not ASCII",
        ),
        (
            LGB,
            edited("lgb_levels.txt", "[0, 10,", "[\"a\", 10,"),
            "neither all texts nor all numbers",
        ),
        (
            LGB,
            edited("lgb_levels.txt", "[[0, 10,", "[[1, 2], [0, 10,"),
            "pandas_categorical has 2 columns",
        ),
        (
            XGB,
            b"binf\0\0\0?\x05\0\0\0".to_vec(),
            "save it with save_model",
        ),
    ] {
        let refused = refusal(form, &bytes);
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn what_is_damaged_says_where() {
    for (form, bytes, says) in [
        (
            XGB,
            b"{\"learner\":{}}".to_vec(),
            "not a valid XGBoost model: missing field",
        ),
        (
            XGB,
            edited(
                "xgb_softprob.json",
                "\"num_class\":\"3\"",
                "\"num_class\":\"2\"",
            ),
            "base_score is",
        ),
        (
            XGB,
            edited(
                "xgb_softprob.json",
                "\"num_feature\":\"5\",\"num_target",
                "\"num_feature\":\"2\",\"num_target",
            ),
            "trees look at 5 features, the model has 2",
        ),
        (
            XGB,
            edited(
                "xgb_softprob.json",
                "\"left_children\":[1,",
                "\"left_children\":[0,",
            ),
            "tree 0 is damaged",
        ),
        (
            LGB,
            b"tree\nnum_class=1\n".to_vec(),
            "max_feature_idx is missing",
        ),
        (LGB, b"treetop\n".to_vec(), "does not begin with \"tree\""),
        (
            LGB,
            b"tree\nmax_feature_idx=99999999\nnum_class=1\n".to_vec(),
            "it has 100000000 features",
        ),
        (
            LGB,
            edited("lgb_binary.txt", "Tree=3\n", ""),
            "another number of trees than it says",
        ),
        (
            LGB,
            edited("lgb_binary.txt", "num_leaves=6", "num_leaves=5"),
            "tree 0: leaf_value has 6 numbers, not 5",
        ),
    ] {
        let refused = refusal(form, &bytes);
        assert!(refused.contains(says), "{refused}");
    }
}

/// A model that is damaged is refused, or it is a model; it never takes the process down.
#[test]
fn cut_and_flipped_files_are_refused_or_give_numbers() {
    let written = tempfile::tempdir().unwrap();
    let path = written.path().join("damaged");
    let (mut refused, mut answered) = (0, 0);
    for name in [
        "xgb_category_sets",
        "xgb_words_json",
        "xgb_dart",
        "xgb_target_vectors_ubj",
        "xgb_linear",
        "lgb_categories",
        "lgb_words",
    ] {
        let case = case(name);
        let sound = std::fs::read(&case.file.path).unwrap();
        let engines = engines_for(case.file.form);
        let mut attempt = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            for engine in &engines {
                let damaged = ModelFile {
                    path: path.clone(),
                    ..case.file.clone()
                };
                match engine.load(&damaged).and_then(|session| {
                    let inputs = session.example().unwrap();
                    let answer = session.run(&inputs);
                    answer.map_err(|error| LoadModelError::Engine {
                        reason: error.to_string(),
                    })
                }) {
                    Ok(outputs) => {
                        assert_eq!(outputs.len(), 1);
                        answered += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        };
        for eighth in 0..8 {
            attempt(&sound[..sound.len() * eighth / 8]);
        }
        // Spread over the file by a step that shares no factor with its bits.
        for flip in 0..160 {
            let bit = flip * 7919 * 13 % (sound.len() * 8);
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            attempt(&bytes);
        }
    }
    assert!(refused > 200 && answered > 100, "{refused}, {answered}");
}
