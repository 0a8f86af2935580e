//! Our CPU engine beside onnxruntime, tract alone and openvino, alternated in one run.
//!
//! Over every sample model, and over the zoo that `tests/zoo/build.sh` built where `EDGEWARD_ZOO` names it: batches of 1,
//! 8 and 32, with one and with two threads; the CPU time of a call, the least wall time of one, and what loading took.
//! `EDGEWARD_PYTHON` names a Python that has the packages of `tests/zoo/requirements.txt`. Words on the command line
//! choose the models whose names hold one of them.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::panic, reason = "a measurement that cannot be taken ends")]

use std::path::{Path, PathBuf};

use edgeward_benches::recorded;
use edgeward_harness::workspace;

#[path = "engines/ours.rs"]
mod ours;
#[path = "engines/peer.rs"]
mod peer;
#[path = "engines/table.rs"]
mod table;

use peer::{Load, Peer};
use table::Row;

/// The allocator of `edgeward`.
#[global_allocator]
static ALLOCATOR: edgeward_kernels::memory::Allocator = edgeward_kernels::memory::Allocator;

/// Our own engine.
const OURS: &str = "edgeward";
/// The engines, ours first; the others are named as `peers.py` knows them.
const ENGINES: [&str; 4] = [OURS, "onnxruntime", "tract", "openvino"];
const BATCHES: [usize; 3] = [1, 8, 32];
const THREADS: [usize; 2] = [1, 2];
/// How often each engine has its turn.
const ROUNDS: usize = 5;
/// How long a turn lasts, in seconds.
const TURN: f64 = 0.2;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, rest @ ..] = &*arguments
        && word == ours::WORD
    {
        return ours::serve(rest);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let models = models().into_iter().filter(|model| {
        wanted.is_empty() || wanted.iter().any(|word| model.name.contains(word.as_str()))
    });
    println!("{}", table::HEAD);
    for model in models {
        for threads in THREADS {
            for batch in BATCHES {
                println!("{}", measured(&model, batch, threads));
            }
        }
    }
}

/// A model and what goes into it.
struct Model {
    name: String,
    folder: PathBuf,
}

/// The samples, and the zoo where there is one.
fn models() -> Vec<Model> {
    let samples = workspace().join("daemon/samples");
    let mut folders: Vec<PathBuf> = entries(&samples)
        .iter()
        .flat_map(|sample| entries(sample))
        .collect();
    if let Some(zoo) = std::env::var_os("EDGEWARD_ZOO") {
        folders.extend(entries(&workspace().join(zoo)));
    }
    let models = folders
        .into_iter()
        .filter(|folder| folder.join("ort.json").is_file());
    let models = models.map(|folder| Model {
        name: name(&samples, &folder),
        folder,
    });
    models.collect()
}

/// What is in a folder, in order; nothing where it is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(samples: &Path, folder: &Path) -> String {
    let inside = folder.strip_prefix(samples).ok();
    let shown = inside
        .or_else(|| folder.file_name().map(Path::new))
        .unwrap_or(folder);
    shown.display().to_string().replace('/', " ")
}

/// Lets the engines take turns.
fn measured(model: &Model, batch: usize, threads: usize) -> Row {
    let inputs = recorded::inputs(&model.folder.join("ort.json"), batch);
    let file = std::env::temp_dir().join(format!("edgeward-engines-{}.json", std::process::id()));
    std::fs::write(&file, serde_json::to_vec(&inputs).unwrap_or_default())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut peers: Vec<Load> = ENGINES
        .iter()
        .map(|engine| Peer::start(engine, threads, &model.folder.join("model.onnx"), &file))
        .collect();
    for _ in 0..ROUNDS {
        for peer in peers.iter_mut().flatten() {
            peer.turn(TURN);
        }
    }
    drop(std::fs::remove_file(&file));
    Row::new(&model.name, batch, threads, &peers)
}
