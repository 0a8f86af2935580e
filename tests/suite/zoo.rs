//! What the long run looks at beside the samples: the zoo that `tests/zoo/build.sh` builds, against
//! what onnxruntime and sentence-transformers answered. `EDGEWARD_ZOO` names its folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use edgeward_base::digest::Digest;
use edgeward_harness::{floors, skip, workspace};
use edgeward_kernels::engine::{ModelFile, ModelForm, Session};
use edgeward_kernels::tensor::{Tensor, TensorData};
use edgeward_kernels::tolerance::{Rounding, compare_rounded};
use serde_json::{Value, json};

use crate::rooms::{Rooms, invoke};

/// How alike two vectors of one sentence are, at least: the cosine between them.
const ALIKE: f64 = 0.99999;

/// The folder of the zoo.
fn zoo(case: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEWARD_ZOO").map(|zoo| workspace().join(zoo));
    if folder.is_none() {
        skip(
            case,
            "EDGEWARD_ZOO names no folder that tests/zoo/build.sh has filled",
        );
    }
    folder
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_network_of_the_zoo_answers_as_onnxruntime_does() {
    let Some(folder) = zoo("suite.zoo") else {
        return;
    };
    let entries = std::fs::read_dir(folder).unwrap();
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    models.retain(|folder| folder.join("ort.json").is_file());
    models.sort();
    let rows = models.iter().map(|folder| held(folder)).sum();
    floors::reached("suite.zoo.rows", rows);
}

/// Holds each row of one network, alone; answers how many there were.
fn held(folder: &Path) -> u64 {
    let path = folder.join("model.onnx");
    let recorded = read(&folder.join("ort.json"));
    let model = ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    };
    let engines = edgeward_kernels::engines();
    let engine = engines
        .iter()
        .find(|engine| engine.takes(model.form))
        .unwrap();
    let session = edgeward_kernels::load(engine.as_ref(), &model).unwrap();
    let inputs = session.inputs().iter();
    let inputs: Vec<Tensor> = inputs
        .map(|spec| tensor(&recorded["inputs"][&spec.name]))
        .collect();
    let expected = tensor(&recorded["outputs"]["Y"]);
    let count = expected.shape()[0];
    let name = folder.file_name().unwrap().display();
    let (mut worst, mut decided) = (0.0, 0);
    for row in 0..count {
        let of_row = |tensor: &Tensor| tensor.slice_rows(row..row + 1).unwrap();
        let given: Vec<Tensor> = inputs.iter().map(of_row).collect();
        let (expected, got) = (of_row(&expected), session.run(&given).unwrap().remove(0));
        if let Err(difference) = compare_rounded(&expected, &got, rounding(session.as_ref())) {
            panic!("{name}, row {row}: {difference}");
        }
        let (expected, got) = (reals(&expected), reals(&got));
        decided += usize::from(largest(&expected) == largest(&got));
        let apart = expected
            .iter()
            .zip(&got)
            .map(|(a, b)| f64::from((a - b).abs()));
        worst = apart.fold(worst, f64::max);
    }
    println!(
        "{name}: {count} rows, worst error {worst:.2e}, {decided} with the same largest output"
    );
    assert_eq!(decided, count, "{name}");
    count as u64
}

fn rounding(session: &dyn Session) -> Rounding {
    session
        .roundings()
        .first()
        .copied()
        .unwrap_or(Rounding::None)
}

fn tensor(recorded: &Value) -> Tensor {
    let data = recorded["data"].as_array().unwrap().iter();
    let shape = recorded["shape"].as_array().unwrap().iter();
    let shape = shape.map(|extent| usize::try_from(extent.as_u64().unwrap()).unwrap());
    let data = match recorded["dtype"].as_str().unwrap() {
        "int64" => TensorData::I64(data.map(|number| number.as_i64().unwrap()).collect()),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "written from numbers of this type"
        )]
        "float32" => TensorData::F32(data.map(|number| number.as_f64().unwrap() as f32).collect()),
        other => panic!("no input of the zoo is of {other}"),
    };
    Tensor::new(shape.collect(), data).unwrap()
}

fn reals(tensor: &Tensor) -> Vec<f32> {
    match tensor.data() {
        TensorData::F32(reals) => reals.clone(),
        other => panic!("an output of {}", other.data_type()),
    }
}

/// Where the largest number is.
fn largest(numbers: &[f32]) -> Option<usize> {
    let numbers = numbers.iter().enumerate();
    numbers
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(place, _)| place)
}

#[tokio::test(flavor = "multi_thread")]
async fn sentences_become_the_vectors_that_sentence_transformers_makes() {
    let Some(folder) = zoo("suite.embeddings") else {
        return;
    };
    let recorded = read(&folder.join("minilm-l6.json"));
    let rooms = Rooms::open(1).await;
    rooms
        .import(&folder.join("minilm-l6"), "main.default.minilm/1")
        .await;
    let config = json!({"served_entities": [
        {"name": "only", "entity_name": "main.default.minilm", "entity_version": "1"},
    ]});
    rooms.configure("sentences", &config).await;
    let texts = recorded["texts"].as_array().unwrap();
    let mut vectors = Vec::new();
    for texts in texts.chunks(16) {
        let body = Bytes::from(json!({"inputs": texts}).to_string());
        let (_, reply) = invoke(&rooms.serving, "sentences", &body).await.unwrap();
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        let predictions = &reply["predictions"];
        let rows = predictions
            .as_array()
            .or_else(|| predictions["embedding"].as_array());
        vectors.extend(rows.unwrap_or_else(|| panic!("{predictions}")).clone());
    }
    rooms.close().await;
    let expected = recorded["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), expected.len());
    let worst = expected
        .iter()
        .zip(&vectors)
        .zip(texts)
        .map(|((expected, got), text)| {
            let cosine = cosine(expected, got);
            assert!(cosine >= ALIKE, "{text}: {cosine}");
            cosine
        });
    println!("the least alike of them: {}", worst.fold(1.0, f64::min));
    floors::reached("suite.embeddings.sentences", vectors.len() as u64);
}

fn cosine(a: &Value, b: &Value) -> f64 {
    let numbers = |vector: &Value| -> Vec<f64> {
        let numbers = vector.as_array().unwrap().iter();
        numbers.map(|number| number.as_f64().unwrap()).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}
