//! How the fleet is reached: both ends' protocol engines over MQTT 5.
//!
//! Owns: connections, the outbox, reconciliation of desired documents, transfer of blobs and
//! segments. Must never: spawn a task, touch a disk, read a clock of its own, or know what an
//! endpoint or an engine is: all of that comes through [`ports`].
//!
//! Both ends are built from options, ports and a connector, and come back as named futures for the
//! caller to run. Each ends when the token is cancelled.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use edgeward_sync::{
//!     device::{DeviceOptions, DevicePorts, device_tasks},
//!     link::{BrokerOptions, RumqttConnector},
//!     registry::{RegistryOptions, RegistryPorts, registry_tasks},
//!     task::AgentTask,
//! };
//! use tokio_util::sync::CancellationToken;
//!
//! fn both_ends(
//!     (device, device_ports): (DeviceOptions, DevicePorts),
//!     (registry, registry_ports): (RegistryOptions, RegistryPorts),
//!     run: impl Fn(AgentTask),
//! ) {
//!     let broker = Arc::new(RumqttConnector::new(BrokerOptions::new("127.0.0.1", 1883)));
//!     let shutdown = CancellationToken::new();
//!     let tasks = device_tasks(device, device_ports, broker.clone(), shutdown.clone());
//!     tasks.into_iter().for_each(&run);
//!     let tasks = registry_tasks(registry, registry_ports, broker, shutdown.clone());
//!     tasks.into_iter().for_each(&run);
//!     // ... and once the process shall end:
//!     shutdown.cancel();
//! }
//! ```

pub mod device;
pub mod link;
pub mod outbox;
pub mod ports;
pub mod registry;
pub mod task;

#[cfg(test)]
mod tests;
