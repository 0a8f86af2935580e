//! A real Mosquitto, on a free port of the loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait;

/// Where Debian puts it, and the usual places.
const PLACES: [&str; 3] = [
    "/usr/sbin/mosquitto",
    "/usr/bin/mosquitto",
    "/usr/local/sbin/mosquitto",
];

/// A running broker; stopped when dropped. Keeps retained messages across [`Mosquitto::restart`].
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    port: u16,
    folder: TempDir,
    binary: PathBuf,
}

impl Mosquitto {
    /// The Mosquitto of this machine, if there is one.
    #[must_use]
    pub fn installed() -> Option<PathBuf> {
        PLACES
            .iter()
            .map(PathBuf::from)
            .find(|place| place.is_file())
    }

    /// Starts a broker, or answers `None` where no Mosquitto is installed.
    ///
    /// # Panics
    /// When an installed one does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let binary = Self::installed()?;
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let port = free_port();
        let process = launch(&binary, folder.path(), port);
        Some(Self {
            process,
            port,
            folder,
            binary,
        })
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the broker: connections break, and without persistence it forgets everything.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with nothing in its memory.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.binary, self.folder.path(), self.port);
    }
}

fn launch(binary: &Path, folder: &Path, port: u16) -> Process {
    let config = folder.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
         max_queued_messages 0\nset_tcp_nodelay true\nlog_type error\nlog_type warning\n"
    );
    std::fs::write(&config, text).unwrap_or_else(|error| panic!("no configuration: {error}"));
    let mut process = Process::start(Command::new(binary).arg("-c").arg(&config));
    wait::until("mosquitto listens", || {
        assert!(
            process.status().is_none(),
            "mosquitto ended: {:?}",
            process.output()
        );
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    process
}

/// A port that nobody listened on a moment ago, for servers that cannot take port 0.
///
/// # Panics
/// When the machine has no free port.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_or_else(
            |error| panic!("no free port: {error}"),
            |address| address.port(),
        )
}
