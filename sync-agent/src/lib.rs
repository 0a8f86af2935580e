//! How the fleet is reached: both ends' protocol engines over MQTT 5.
//!
//! Owns: connections, the outbox, reconciliation of desired documents, transfer of blobs and
//! segments. Must never: spawn a task, touch a disk, read a clock of its own, or know what an
//! endpoint or an engine is: all of that comes through [`ports`].

pub mod device;
pub mod link;
pub mod outbox;
pub mod ports;
pub mod registry;
pub mod task;

#[cfg(test)]
mod tests;
