//! One engine with one model in a process of its own, which runs when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::ours;

/// A process that has loaded its model, or why it could not.
pub(crate) type Load = Result<Peer, String>;

/// A loaded model and what its turns took.
pub(crate) struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Milliseconds of CPU until it was ready.
    pub(crate) load_ms: f64,
    /// KiB of memory that loading took.
    pub(crate) memory_kib: u64,
    /// Of each turn: the least wall time of a call, and the CPU time of one, in microseconds.
    pub(crate) turns: Vec<Turn>,
}

/// What a turn took.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Turn {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ready {
    Loaded { ms: f64, kib: u64 },
    Refused { no: String },
}

impl Peer {
    /// Starts the process of `engine` and waits until it has loaded `model` and run it once on `inputs`.
    pub(crate) fn start(engine: &str, threads: usize, model: &Path, inputs: &Path) -> Load {
        let mut command = program(engine)?;
        let command = command.arg(threads.to_string()).arg(model).arg(inputs);
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (ask, answers) = pipes.ok_or("no pipes")?;
        let mut answers = BufReader::new(answers);
        match answer(&mut answers) {
            Some(Ready::Loaded { ms, kib }) => Ok(Self {
                child,
                ask,
                answers,
                load_ms: ms,
                memory_kib: kib,
                turns: Vec::new(),
            }),
            Some(Ready::Refused { no }) => Err(no),
            None => Err(format!("ended: {:?}", child.wait())),
        }
    }

    /// Lets it run for some seconds.
    pub(crate) fn turn(&mut self, seconds: f64) {
        let asked = writeln!(self.ask, "{seconds}");
        let turn = asked.ok().and_then(|()| answer(&mut self.answers));
        self.turns
            .push(turn.unwrap_or_else(|| panic!("an engine ended in its turn")));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program that is an engine: this one for ours, `peers.py` for the others.
fn program(engine: &str) -> Result<Command, String> {
    if engine == crate::OURS {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(this);
        command.arg(ours::WORD);
        return Ok(command);
    }
    let python = std::env::var_os("EDGEWARD_PYTHON").ok_or("EDGEWARD_PYTHON is not set")?;
    let mut command = Command::new(edgeward_harness::workspace().join(python));
    command
        .arg(edgeward_harness::workspace().join("benches/engines/peers.py"))
        .arg(engine);
    Ok(command)
}

fn answer<T: for<'de> Deserialize<'de>>(answers: &mut impl BufRead) -> Option<T> {
    let mut line = String::new();
    answers.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}
