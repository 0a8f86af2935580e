//! Edgeward: model serving for an edge box.
//!
//! The modules stand in layers; each uses only layers below it (see `ARCHITECTURE.md`).

pub mod api;
pub mod app;
#[cfg(feature = "broker")]
pub mod broker;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod fleet;
pub mod gateway;
pub mod inference_table;
pub mod model;
pub mod profile;
pub mod registry;
pub mod serving;
pub mod store;
pub mod tasks;
pub mod telemetry;
