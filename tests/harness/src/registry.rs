//! `edgeward registry serve` in a folder of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Ran, Signal, run};
use crate::{edgeward, wait};

/// A central registry: its folder outlives each process that serves from it.
#[derive(Debug)]
pub struct Registry {
    folder: TempDir,
    disk: PathBuf,
    binary: PathBuf,
    process: Option<Process>,
}

impl Registry {
    /// The fleet of every registry that the harness makes.
    pub const FLEET: &'static str = "test-fleet";

    /// Writes the configuration into a new folder; nothing runs yet.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(broker: &str) -> Self {
        Self::on(broker, None)
    }

    /// Like [`new`](Self::new), with its data on a disk of the test's own, if there is one.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn on(broker: &str, disk: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let disk = disk.unwrap_or_else(|| folder.path()).to_owned();
        let config = format!(
            "[registry]\ndir = \"{}\"\nlanding = \"{}\"\nfleet = \"{}\"\nbroker = \"{broker}\"\n",
            disk.join("registry").display(),
            disk.join("landing").display(),
            Self::FLEET,
        );
        std::fs::write(folder.path().join("registry.toml"), config)
            .unwrap_or_else(|error| panic!("no configuration: {error}"));
        Self {
            folder,
            disk,
            binary: edgeward(),
            process: None,
        }
    }

    /// Where rows land.
    #[must_use]
    pub fn landing(&self) -> PathBuf {
        self.disk.join("landing")
    }

    /// The registry's own folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.disk.join("registry")
    }

    /// Starts `edgeward registry serve` and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        let mut command = Command::new(&self.binary);
        command
            .args(["registry", "serve", "--config"])
            .arg(self.folder.path().join("registry.toml"));
        let mut process = Process::start(&mut command);
        wait::until("edgeward registry answers", || {
            let ended = process.status();
            assert!(
                ended.is_none(),
                "registry ended: {ended:?}\n{}",
                process.output().join("\n")
            );
            (self
                .edgeward(&["registry", "status", "--output", "json"])
                .code
                == Some(0))
            .then_some(())
        });
        self.process = Some(process);
    }

    /// The process that serves.
    ///
    /// # Panics
    /// When none does.
    pub fn process(&mut self) -> &mut Process {
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("the registry is not started"))
    }

    /// Kills the process, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks the process to stop and waits until it has.
    ///
    /// # Panics
    /// When it does not end with success.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            let status = process.wait();
            assert!(
                status.success(),
                "registry ended with {status}: {:?}",
                process.output()
            );
        }
    }

    /// Runs a verb of `edgeward registry` against this registry.
    pub fn edgeward(&self, arguments: &[&str]) -> Ran {
        let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        all.extend(["--registry".into(), self.dir().into_os_string()]);
        run(&self.binary, &all)
    }

    /// `edgeward registry status`.
    #[must_use]
    pub fn status(&self) -> Value {
        self.edgeward(&["registry", "status", "--output", "json"])
            .json()
    }

    /// The public key that devices pin.
    ///
    /// # Panics
    /// When the registry says none.
    #[must_use]
    pub fn key(&self) -> String {
        let status = self.status();
        let key = status.get("public_key").and_then(Value::as_str);
        key.unwrap_or_else(|| panic!("no public_key in {status}"))
            .to_owned()
    }

    /// Every Parquet file below the landing folder whose path contains `part`.
    #[must_use]
    pub fn landed(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.landing()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "parquet")
                    && path.to_string_lossy().contains(part)
                {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}
