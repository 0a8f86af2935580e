//! Runs cases in processes of their own, so that a crash, a stack overflow or an endless loop is one
//! failed case and not the end of the run.
//!
//! A process takes every second case and says on its output what it begins and how that ended. One
//! that ends or falls silent is replaced by one that goes on behind the case it had begun.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use edgeward_kernels::engine::Engine;

use crate::{engines, package};

/// Of each case: nothing, or why it failed.
pub(crate) type Outcomes = BTreeMap<String, Result<(), String>>;

/// How many processes run at a time.
const PROCESSES: usize = 2;

/// A case takes milliseconds; this is for a machine under load.
const LIMIT: Duration = Duration::from_secs(60);

/// What begins the line that a process says of a case.
const ENDS: &str = "@ends ";

/// What a process is told: the engine's name, the folder of the cases, and the first of its cases.
const ENGINE: &str = "EDGEWARD_NODES_ENGINE";
const FOLDER: &str = "EDGEWARD_NODES_FOLDER";
const FROM: &str = "EDGEWARD_NODES_FROM";

/// The outcome of every case on the engine of this name.
pub(crate) fn of(engine: &str, folder: &Path, names: &[String]) -> Outcomes {
    std::thread::scope(|scope| {
        let every_second = |first| {
            let mine = names.iter().skip(first).step_by(PROCESSES);
            let mine: Vec<&String> = mine.collect();
            move || of_some(engine, folder, &mine, first)
        };
        let running: Vec<_> = (0..PROCESSES)
            .map(|first| scope.spawn(every_second(first)))
            .collect();
        let parts = running.into_iter().map(|part| part.join().unwrap());
        parts.flatten().collect()
    })
}

fn of_some(engine: &str, folder: &Path, names: &[&String], first: usize) -> Outcomes {
    let mut outcomes = Outcomes::new();
    while outcomes.len() < names.len() {
        let from = first + outcomes.len() * PROCESSES;
        let mut process = start(engine, folder, from);
        let stopped = follow(&mut process, &mut outcomes);
        let ended = process.wait().unwrap();
        let Some(name) = names.get(outcomes.len()) else {
            break;
        };
        let why = stopped.unwrap_or_else(|| format!("crashed: {ended}"));
        outcomes.insert((*name).clone(), Err(why));
    }
    outcomes
}

fn start(engine: &str, folder: &Path, from: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::cases_in_a_process_of_their_own"])
        .args(["--ignored", "--nocapture"])
        .env(ENGINE, engine)
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Takes in what a process says until it ends. One that says nothing for too long is killed, and
/// the answer is why.
fn follow(process: &mut Child, outcomes: &mut Outcomes) -> Option<String> {
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::sync_channel(64);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut lines = lines.map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        loop {
            match receiver.recv_timeout(LIMIT) {
                Ok(line) => take(&line, outcomes),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    // The thread ends with the process's output.
                    process.kill().unwrap();
                    return Some(format!("did not end within {} s", LIMIT.as_secs()));
                }
            }
        }
    })
}

fn take(line: &str, outcomes: &mut Outcomes) {
    let said = line.strip_prefix(ENDS);
    if let Some((name, outcome)) = said.and_then(|said| said.split_once(' ')) {
        let failed = outcome.strip_prefix("failed: ");
        let outcome = failed.map_or(Ok(()), |reason| Err(reason.to_owned()));
        outcomes.insert(name.to_owned(), outcome);
    }
}

/// In such a process: runs its cases and says how each ended.
pub(crate) fn tell(check: impl Fn(&dyn Engine, &Path) -> Result<(), String>) {
    let told = |variable| std::env::var(variable).unwrap();
    let (name, folder) = (told(ENGINE), PathBuf::from(told(FOLDER)));
    let engines = engines::all();
    let engine = engines.iter().find(|engine| engine.name() == name).unwrap();
    let from = told(FROM).parse().unwrap();
    for name in package::cases(&folder).iter().skip(from).step_by(PROCESSES) {
        let outcome = match check(&**engine, &folder.join(name)) {
            Ok(()) => "passed".to_owned(),
            Err(reason) => format!("failed: {}", reason.replace('\n', " ")),
        };
        // The test's own output may stand at the beginning of the line.
        println!("\n{ENDS}{name} {outcome}");
    }
}
