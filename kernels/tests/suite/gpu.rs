//! What is asked of the GPU engine alone.

use std::path::Path;

use edgeward_harness::{floors, skip};
use edgeward_kernels::engine::Engine;
use edgeward_kernels::tensor::{Tensor, TensorData};
use edgeward_kernels::tolerance::{Rounding, compare_rounded};

use crate::recorded;
use crate::subject::{gpu, samples, try_load};

/// The nodes of each model that have no form on the device, at most.
const MOST_HOST_NODES: usize = 2;

/// How far the answers lie from the expected ones at most, beside the size of what was expected.
fn worst(expected: &Tensor, got: &Tensor) -> f64 {
    let (TensorData::F32(expected), TensorData::F32(got)) = (expected.data(), got.data()) else {
        return 0.0;
    };
    let pairs = expected.iter().zip(got);
    let errors = pairs.map(|(expected, got)| (f64::from(*expected) - f64::from(*got)).abs());
    errors.fold(0.0, f64::max)
}

/// Runs the recorded rows of a model one by one, prints how far the worst number lies from onnxruntime's, and fails
/// where one is outside of what is allowed.
fn equals_onnxruntime(engine: &dyn Engine, name: &str, folder: &Path) {
    let session = try_load(engine, &folder.join("model.onnx"));
    let session = session.unwrap_or_else(|error| panic!("{name}: {error}"));
    let recorded = recorded::read(&folder.join("ort.json"), &*session);
    let rows = recorded.inputs.first().unwrap().shape()[0];
    let rounding = session.roundings().first().copied();
    let mut largest = 0.0_f64;
    for row in 0..rows.min(ROWS) {
        let of_row = |tensor: &Tensor| tensor.slice_rows(row..row + 1).unwrap();
        let inputs: Vec<Tensor> = recorded.inputs.iter().map(of_row).collect();
        let outputs = session.run(&inputs).unwrap();
        for (expected, got) in recorded.outputs.iter().zip(&outputs) {
            let expected = of_row(expected);
            largest = largest.max(worst(&expected, got));
            compare_rounded(&expected, got, rounding.unwrap_or(Rounding::None))
                .unwrap_or_else(|difference| panic!("{name}, row {row}: {difference}"));
        }
    }
    let host = session.host_nodes();
    println!("{name}: worst error {largest:.2e}, {rounding:?}; on the CPU: {host:?}");
    assert!(host.len() <= MOST_HOST_NODES, "{name}: {host:?}");
}

/// So many rows are looked at: a software rasteriser takes a second and more for some.
const ROWS: usize = 4;

#[test]
fn samples_equal_onnxruntime_row_by_row() {
    let Some(engine) = gpu() else { return };
    for folder in samples() {
        let name = folder
            .iter()
            .rev()
            .take(2)
            .map(|part| part.to_string_lossy());
        let name: Vec<_> = name.collect();
        equals_onnxruntime(&*engine, &name.join(" of "), &folder);
    }
}

#[test]
fn networks_of_the_zoo_equal_onnxruntime() {
    let Some(engine) = gpu() else { return };
    let Some(zoo) = std::env::var_os("EDGEWARD_ZOO") else {
        return skip("suite.gpu.zoo", "EDGEWARD_ZOO names no folder of networks");
    };
    let entries = std::fs::read_dir(&zoo).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders
        .filter(|folder| folder.join("ort.json").is_file())
        .collect();
    folders.sort();
    for folder in &folders {
        let name = folder.file_name().unwrap().to_string_lossy();
        equals_onnxruntime(&*engine, &name, folder);
    }
    floors::reached("suite.gpu.zoo", folders.len() as u64);
}
