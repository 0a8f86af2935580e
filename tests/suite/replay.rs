//! The seeds of the fuzz targets, and every input that once broke one, without the fuzzer.

use edgeward_harness::{floors, workspace};

use crate::fuzz;

/// Gives each file of the folder to the target, in the order of their names.
fn replay(target: &str, check: fn(&[u8]) -> bool) {
    let folder = workspace().join("tests/fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut seeds: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    let mut answered = 0;
    for seed in &seeds {
        // Shown beside the panic of a seed that breaks a claim.
        println!("{}", seed.display());
        answered += u64::from(check(&std::fs::read(seed).unwrap()));
    }
    floors::reached(&format!("suite.fuzz.{target}"), seeds.len() as u64);
    // Seeds that nobody answers any more would lead the fuzzer nowhere.
    floors::reached(&format!("suite.fuzz.{target}_answered"), answered);
}

#[test]
fn invocations_in_json() {
    replay("dataframe_json", fuzz::dataframe_json);
}

#[test]
fn invocations_in_csv() {
    replay("csv", fuzz::csv);
}

#[test]
fn inferences_with_raw_tensors() {
    replay("v2_binary", fuzz::v2_binary);
}

#[test]
fn mlmodel_files() {
    replay("mlmodel", fuzz::mlmodel);
}
