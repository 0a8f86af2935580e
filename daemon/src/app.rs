//! Builds everything: the only place that knows every module.
//!
//! A [`Device`] is what `edgeward serve` runs, a [`Registry`] what `edgeward registry serve` runs;
//! `edgeward quickstart` composes both with the embedded broker. `build` opens and binds, `run`
//! serves until it is told to stop, then drains (see `drain`).
//!
//! Nothing here decides anything about a request, a change or a row.

mod device;
mod drain;
pub(crate) mod engines;
mod fleet;
mod identity;
mod idle;
#[cfg(feature = "broker")]
mod quickstart;
mod registry;
mod retention;
mod rooms;
mod status;

pub use device::{BuildDeviceError, Device};
pub use drain::DrainReport;
pub use fleet::ConnectBrokerError;
#[cfg(feature = "broker")]
pub use quickstart::{Greeting, Quickstart, QuickstartError, QuickstartOptions, SampleCall};
pub use registry::{BuildRegistryError, CallRegistryError, Registry, call as call_registry};
pub use rooms::state_options;
pub use status::account;

use std::sync::Arc;

use edgeward_base::clock::{SharedClock, SystemClock};
use edgeward_base::durable::{RealFs, SharedFs};
use tokio::runtime::Handle;

use crate::tasks::Tasks;

/// The admin socket's name in a state directory, a device's or a registry's.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// What the process brings: time, files and the list of its tasks.
#[derive(Debug, Clone)]
pub struct Means {
    /// The clocks.
    pub clock: SharedClock,
    /// The file system.
    pub fs: SharedFs,
    /// Every task.
    pub tasks: Tasks,
}

impl Means {
    /// The operating system's, with tasks on `runtime`.
    #[must_use]
    pub fn of_the_system(runtime: Handle) -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            fs: RealFs::shared(),
            tasks: Tasks::new(runtime),
        }
    }
}
