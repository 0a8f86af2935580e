//! One case on one engine, in this process.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_kernels::engine::{Engine, ModelFile, ModelForm, Session};
use edgeward_kernels::tensor::{Tensor, TensorData, TensorSpec};

use crate::protobuf::{self, Named};

/// What the runner of the package allows: `abs(got - expected) <= 1e-7 + 1e-3 * abs(expected)`.
const ABSOLUTE: f64 = 1e-7;
const RELATIVE: f64 = 1e-3;

/// Runs the case in `folder`; the error says what the engine refused or got wrong.
pub(crate) fn check(engine: &dyn Engine, folder: &Path) -> Result<(), String> {
    let path = folder.join("model.onnx");
    let digest = Digest::of_file(&path).map_err(|error| error.to_string())?;
    let session = engine
        .load(&ModelFile {
            path,
            digest,
            form: ModelForm::Onnx,
            text: None,
        })
        .map_err(|error| format!("load: {error}"))?;
    let sets = entries(folder, "test_data_set_");
    if sets.is_empty() {
        return Err("the case has no data".to_owned());
    }
    for set in sets {
        let inputs = pick("input", &read(&set, "input_")?, session.inputs())?;
        let expected = pick("output", &read(&set, "output_")?, session.outputs())?;
        let got = session
            .run(&inputs)
            .map_err(|error| format!("run: {error}"))?;
        compare_all(&*session, &expected, &got)?;
    }
    Ok(())
}

fn compare_all(session: &dyn Session, expected: &[Tensor], got: &[Tensor]) -> Result<(), String> {
    if expected.len() != got.len() {
        return Err(format!("gives {} outputs", got.len()));
    }
    for ((spec, expected), got) in session.outputs().iter().zip(expected).zip(got) {
        compare(expected, got).map_err(|reason| format!("output {}: {reason}", spec.name))?;
    }
    Ok(())
}

/// What begins with `prefix` in `folder`, in the order of the numbers that follow.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy();
        if let Some(number) = stem.strip_prefix(prefix) {
            found.push((number.parse::<usize>().unwrap(), path.clone()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn read(set: &Path, prefix: &str) -> Result<Vec<Named>, String> {
    let tensor = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        protobuf::tensor(&bytes)
    };
    entries(set, prefix).iter().map(tensor).collect()
}

/// The tensors in the order of `specs`.
fn pick(side: &str, tensors: &[Named], specs: &[TensorSpec]) -> Result<Vec<Tensor>, String> {
    if tensors.len() != specs.len() {
        return Err(format!(
            "the case has {} {side}s, the session {}",
            tensors.len(),
            specs.len()
        ));
    }
    let of = |spec: &TensorSpec| {
        let named = tensors.iter().find(|tensor| tensor.name == spec.name);
        let named = named.ok_or_else(|| format!("the case has no {side} {}", spec.name))?;
        Ok(named.tensor.clone())
    };
    specs.iter().map(of).collect()
}

fn compare(expected: &Tensor, got: &Tensor) -> Result<(), String> {
    if expected.data_type() != got.data_type() {
        let (expected, got) = (expected.data_type(), got.data_type());
        return Err(format!("elements are {got}, not {expected}"));
    }
    if expected.shape() != got.shape() {
        let (expected, got) = (expected.shape(), got.shape());
        return Err(format!("shape is {got:?}, not {expected:?}"));
    }
    match (expected.data(), got.data()) {
        (TensorData::F32(a), TensorData::F32(b)) => first(a, b, close),
        (TensorData::F64(a), TensorData::F64(b)) => first(a, b, close),
        (TensorData::Bool(a), TensorData::Bool(b)) => first(a, b, PartialEq::eq),
        (TensorData::U8(a), TensorData::U8(b)) => first(a, b, PartialEq::eq),
        (TensorData::U16(a), TensorData::U16(b)) => first(a, b, PartialEq::eq),
        (TensorData::U32(a), TensorData::U32(b)) => first(a, b, PartialEq::eq),
        (TensorData::U64(a), TensorData::U64(b)) => first(a, b, PartialEq::eq),
        (TensorData::I8(a), TensorData::I8(b)) => first(a, b, PartialEq::eq),
        (TensorData::I16(a), TensorData::I16(b)) => first(a, b, PartialEq::eq),
        (TensorData::I32(a), TensorData::I32(b)) => first(a, b, PartialEq::eq),
        (TensorData::I64(a), TensorData::I64(b)) => first(a, b, PartialEq::eq),
        (TensorData::String(a), TensorData::String(b)) => first(a, b, PartialEq::eq),
        (_, other) => Err(format!("{} elements are not compared", other.data_type())),
    }
}

/// The first pair that is not the `same` is the error.
fn first<T: Debug>(expected: &[T], got: &[T], same: impl Fn(&T, &T) -> bool) -> Result<(), String> {
    let pairs = expected.iter().zip(got).enumerate();
    let mut apart = pairs.filter(|(_, (expected, got))| !same(expected, got));
    apart.next().map_or(Ok(()), |(at, (expected, got))| {
        Err(format!("element {at} is {got:?}, not {expected:?}"))
    })
}

fn close<T: Copy + Into<f64>>(expected: &T, got: &T) -> bool {
    let (expected, got): (f64, f64) = ((*expected).into(), (*got).into());
    expected == got
        || (expected.is_nan() && got.is_nan())
        || (got - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs()
}
