//! A child process that never outlives its test, and whose output is kept.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use rustix::process::Signal;

use crate::wait;

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` and collects both of its output streams, line by line.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            child.stdout.take().map(|stream| collect(stream, &output)),
            child.stderr.take().map(|stream| collect(stream, &output)),
        ];
        Self {
            name,
            child,
            output,
            readers: readers.into_iter().flatten().collect(),
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a child that is gone already is left alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            _ = rustix::process::kill_process(pid, signal).is_ok();
        }
    }

    /// Kills at once, as `kill -9` and a power cut do, and waits until the child is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.join_readers();
    }

    /// Waits until the child has ended by itself.
    ///
    /// # Panics
    /// When it takes longer than [`wait::PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let status = wait::until(&format!("{name} ends"), || self.status());
        self.join_readers();
        status
    }

    /// How the child ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Everything that the child has printed so far.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a line that contains `text` and gives it back.
    ///
    /// # Panics
    /// When the line does not come, or the child ends before it; shows what was printed.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let what = format!("{} prints {text:?}", self.name);
        wait::until(&what, || {
            let found = self.output().into_iter().find(|line| line.contains(text));
            if found.is_none() && self.status().is_some() {
                self.join_readers();
                let output = self.output();
                let last = output.iter().find(|line| line.contains(text)).cloned();
                assert!(
                    last.is_some(),
                    "{what}: it ended after\n{}",
                    output.join("\n")
                );
                return last;
            }
            found
        })
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness has no runtime; the reader ends with its pipe"
)]
fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            output
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    })
}

/// What a command that ran to its end left.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When the command failed or printed anything else.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that the command succeeded.
    ///
    /// # Panics
    /// When it did not; shows what it printed.
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// Runs `edgeward` with these arguments to its end.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn run<S: AsRef<OsStr>>(binary: &Path, arguments: &[S]) -> Ran {
    let output = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
    Ran {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
