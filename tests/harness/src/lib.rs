//! Black-box test harness: starts the real binaries and talks to them only from outside.
//!
//! - [`wait`]: the one place that waits, always on a condition and with a deadline
//! - [`process`]: a child process that never outlives its test
//! - [`http`]: a blocking HTTP/1.1 client over TCP and Unix sockets
//! - [`device`]: `edgeward serve` in a folder of its own
//! - [`registry`]: `edgeward registry serve` in a folder of its own
//! - [`broker`]: a real Mosquitto
//! - [`clock`]: a wall clock that a test moves
//! - [`disk`]: disks that lose their power, and that fill up
//! - [`mqtt`]: a client that publishes what no agent would
//! - [`floors`]: the counts below which a bounded run fails
//! - [`report`]: what a run says of them, and of what it skipped
//!
//! The harness knows the product's command line, sockets and files, and nothing of its code.

#![expect(clippy::panic, reason = "a harness reports by panicking")]

pub mod broker;
pub mod clock;
pub mod device;
pub mod disk;
pub mod floors;
pub mod http;
pub mod mqtt;
pub mod process;
pub mod registry;
pub mod report;
pub mod wait;

use std::path::{Path, PathBuf};

pub use report::skip;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The `edgeward` binary under test: `EDGEWARD_BIN`, else the newest build of this workspace.
///
/// # Panics
/// When there is none: build it first.
#[must_use]
pub fn edgeward() -> PathBuf {
    if let Some(named) = std::env::var_os("EDGEWARD_BIN") {
        return workspace().join(named);
    }
    // A test binary lies in target/<profile>/deps, beside the profile's binaries.
    let beside = std::env::current_exe().ok().and_then(|exe| {
        exe.parent()
            .and_then(Path::parent)
            .map(|folder| folder.join("edgeward"))
    });
    beside.filter(|binary| binary.is_file()).unwrap_or_else(|| {
        panic!("no edgeward binary: cargo build -p edgeward, or set EDGEWARD_BIN")
    })
}
