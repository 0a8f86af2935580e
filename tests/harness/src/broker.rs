//! A real Mosquitto, on a free port of the loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Ports that no system gives to who asks for any, be it a server of another test or a client: a
/// broker that is down for a while finds its port free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on, for servers that cannot take port 0. No two calls of this process
/// answer the same, and those of another process begin elsewhere.
///
/// # Panics
/// When the machine has no free port.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(61);
    let mut ports = std::iter::repeat_with(|| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + u16::try_from(next % count).unwrap_or_default()
    });
    let free = ports
        .by_ref()
        .take(usize::from(PORTS.end - PORTS.start))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.unwrap_or_else(|| panic!("no port of {PORTS:?} is free"))
}
