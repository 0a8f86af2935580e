//! What every crate of Edgeward stands on: names, units, the clock, digests and durable files.
//!
//! This crate lies below all others. It knows no endpoint, no message and no engine, it never
//! spawns and never logs, and it depends on nothing of weight (no tokio, no serde formats).
//!
//! - [`names`]: validated newtypes for everything that has a name
//! - [`units`]: bytes and percentages, with the text forms people write in configuration
//! - [`clock`]: the only place that reads time
//! - [`digest`]: BLAKE3 digests of bytes and files
//! - [`error`]: an error with everything that caused it, on one line
//! - [`durable`]: the file operations that must survive a power cut, behind a trait
//! - [`memory`]: what the process can give back to the kernel

pub mod clock;
pub mod digest;
pub mod durable;
pub mod error;
pub mod memory;
pub mod names;
pub mod units;
