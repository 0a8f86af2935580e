//! The conversation with the service manager (`systemd`, `Type=notify`).
//!
//! Datagrams to the socket that `NOTIFY_SOCKET` names: `READY=1` when the box serves, `STOPPING=1`
//! when a drain begins, `WATCHDOG=1` at half the interval of `WATCHDOG_USEC` for as long as the
//! async runtime makes progress. Without a service manager nothing is sent.

#[cfg(test)]
mod tests;

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The service manager that started this process, if one did.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// None: nobody is told anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from the environment.
    ///
    /// # Errors
    /// When `NOTIFY_SOCKET` is no address of a Unix socket.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> io::Result<Self> {
        let Some(socket) = env("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&socket)?,
        };
        let micros = env("WATCHDOG_USEC").and_then(|text| text.parse::<u64>().ok());
        let ours =
            env("WATCHDOG_PID").is_none_or(|process| process.parse() == Ok(std::process::id()));
        let watchdog = micros
            .filter(|micros| ours && *micros > 0)
            .map(Duration::from_micros);
        Ok(Self {
            address: Some(address),
            watchdog,
        })
    }

    /// The box serves.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A drain has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Says in a word what the process does, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", status.replace('\n', " ")));
    }

    /// Tells the watchdog that the runtime is alive, until `shutdown`. To be run as a task: a
    /// runtime that no longer runs its tasks falls silent, and is restarted.
    pub async fn feed_watchdog(self, shutdown: CancellationToken) {
        let Some(interval) = self.watchdog else {
            return;
        };
        loop {
            self.send("WATCHDOG=1");
            tokio::select! {
                () = tokio::time::sleep(interval / 2) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn send(&self, message: &str) {
        let Some(address) = &self.address else {
            return;
        };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // A service manager that does not read must not stop the box.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, message, "cannot tell the service manager");
        }
    }
}
