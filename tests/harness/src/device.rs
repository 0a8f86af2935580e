//! `edgeward serve` in a folder of its own.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::Client;
use crate::process::{Process, Ran, Signal, run};
use crate::{edgeward, wait};

/// How a device is set up.
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    /// Lines of TOML that follow the section headers the harness writes itself.
    pub config: String,
    /// The URL of the broker, for a device that belongs to a fleet.
    pub broker: Option<String>,
    /// Environment variables of the process, with their values.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Where the state directory is made, such as a disk of the test's own; in the device's folder
    /// if nowhere else.
    pub disk: Option<PathBuf>,
}

/// A device: its folder outlives each process that serves from it.
#[derive(Debug)]
pub struct Device {
    folder: TempDir,
    state: PathBuf,
    binary: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    process: Option<Process>,
    notices: Option<UnixDatagram>,
    token: Option<String>,
    url: Option<String>,
    warnings: Vec<String>,
}

impl Device {
    /// Writes the configuration into a new folder; nothing runs yet.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(options: &DeviceOptions) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let fleet = options
            .broker
            .as_ref()
            .map(|broker| format!("[fleet]\nbroker = \"{broker}\"\n"))
            .unwrap_or_default();
        let disk = options.disk.as_deref().unwrap_or_else(|| folder.path());
        let state = disk.join("state");
        let config = format!(
            "[state]\ndir = \"{}\"\n[server]\nlisten = \"127.0.0.1:0\"\n{fleet}{}",
            state.display(),
            options.config
        );
        std::fs::write(folder.path().join("edgeward.toml"), config)
            .unwrap_or_else(|error| panic!("no configuration: {error}"));
        Self {
            folder,
            state,
            binary: edgeward(),
            environment: options
                .environment
                .iter()
                .map(|(name, value)| (*name, value.into()))
                .collect(),
            process: None,
            notices: None,
            token: None,
            url: None,
            warnings: Vec::new(),
        }
    }

    /// From now on another `edgeward` serves from this folder, such as one of an older version.
    pub fn set_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Sets an environment variable of every process that serves from now on.
    pub fn set_environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("edgeward.toml")
    }

    /// The folder of the configuration.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the identity and pins the registry's key, as a factory does.
    pub fn provision(&self, fleet: &str, device: &str, registry_key: &str) {
        let state = self.state();
        let arguments = [
            "provision".as_ref(),
            "--state".as_ref(),
            state.as_os_str(),
            "--fleet".as_ref(),
            fleet.as_ref(),
            "--device".as_ref(),
            device.as_ref(),
            "--registry-key".as_ref(),
            registry_key.as_ref(),
        ];
        run(&self.binary, &arguments).success();
    }

    /// Starts `edgeward serve` and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|said| panic!("{said}"));
    }

    /// Like [`start`](Self::start), for a test whose subject is whether it does.
    ///
    /// # Errors
    /// What the process said when it ended before it was ready.
    ///
    /// # Panics
    /// When it is neither ready nor ended in time.
    pub fn try_start(&mut self) -> Result<(), String> {
        let socket = self.folder.path().join("notify.sock");
        drop(std::fs::remove_file(&socket));
        let notices = UnixDatagram::bind(&socket).unwrap_or_else(|error| panic!("{error}"));
        notices
            .set_nonblocking(true)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .envs(self.environment.iter().cloned())
            .env("NOTIFY_SOCKET", &socket);
        self.process = Some(Process::start(&mut command));
        self.notices = Some(notices);
        self.url = None;
        self.notice("READY=1")
    }

    /// Waits until the process tells its service manager this, as one line of a notice. Earlier
    /// notices are forgotten.
    ///
    /// # Panics
    /// When the process ends before it does.
    pub fn wait_for_notice(&mut self, notice: &str) {
        self.notice(notice).unwrap_or_else(|said| panic!("{said}"));
    }

    /// Waits for a notice; the error is what the process said when it ended before it.
    fn notice(&mut self, notice: &str) -> Result<(), String> {
        let (Some(process), Some(notices)) = (&mut self.process, &self.notices) else {
            panic!("the device is not started");
        };
        wait::until(&format!("edgeward serve says {notice}"), || {
            let ended = process.status();
            let mut message = [0; 512];
            while let Ok(length) = notices.recv(&mut message) {
                let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
                if text.lines().any(|line| line == notice) {
                    return Some(Ok(()));
                }
            }
            ended.map(|_| {
                let status = process.wait();
                let said = process.output().join("\n");
                Err(format!("serve ended before {notice}: {status}\n{said}"))
            })
        })
    }

    /// The process that serves.
    ///
    /// # Panics
    /// When none does.
    pub fn process(&mut self) -> &mut Process {
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("the device is not started"))
    }

    /// Kills the process, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.keep_warnings(&process);
        }
    }

    fn keep_warnings(&mut self, ended: &Process) {
        let output = ended.output().into_iter();
        let warnings = output.filter(|line| line.contains(" WARN ") || line.contains("ERROR"));
        self.warnings.extend(warnings);
    }

    /// What the processes that have ended warned of.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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
                "serve ended with {status}: {}",
                process.output().join("\n")
            );
            self.keep_warnings(&process);
        }
    }

    /// Runs another verb of `edgeward` against this device.
    pub fn edgeward(&self, arguments: &[&str]) -> Ran {
        let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        all.extend(["--state".into(), self.state().into_os_string()]);
        run(&self.binary, &all)
    }

    /// `edgeward status`.
    #[must_use]
    pub fn status(&self) -> Value {
        self.edgeward(&["status", "--output", "json"]).json()
    }

    /// `http://host:port` of the running process.
    ///
    /// # Panics
    /// When it says none.
    pub fn url(&mut self) -> String {
        if self.url.is_none() {
            let status = self.status();
            let url = status.get("url").and_then(Value::as_str).map(str::to_owned);
            self.url = Some(url.unwrap_or_else(|| panic!("no url in {status}")));
        }
        self.url.clone().unwrap_or_default()
    }

    /// A token of the principal `tester`, made once: an administrator's. Binaries before there were groups
    /// know no others, and not the option.
    ///
    /// # Panics
    /// When none can be made.
    pub fn token(&mut self) -> String {
        if self.token.is_none() {
            let create = [
                "token",
                "create",
                "--principal",
                "tester",
                "--output",
                "json",
            ];
            let with_group = [&create[..], &["--group", "admins"]].concat();
            let mut ran = self.edgeward(&with_group);
            if ran.code != Some(0) {
                ran = self.edgeward(&create);
            }
            let made = ran.json();
            let token = made.get("token").and_then(Value::as_str).map(str::to_owned);
            self.token = Some(token.unwrap_or_else(|| panic!("no token in {made}")));
        }
        self.token.clone().unwrap_or_default()
    }

    /// A client with a token.
    pub fn client(&mut self) -> Client {
        let token = self.token();
        Client::tcp(&self.url()).with_token(&token)
    }
}
