//! The OpenAI dialect, under `/v1` and under `/serving-endpoints`, where the workspace has it.
//!
//! A model is a serving endpoint. Errors below `/v1` have OpenAI's form, those below `/serving-endpoints`
//! the workspace's, which the clients read too.
//!
//! - `embeddings`: vectors of texts
//! - `models`: what can be asked

pub(crate) mod embeddings;
mod models;

pub(crate) use models::routes;

/// Where the routes stand.
const ROOTS: [&str; 2] = ["/v1", "/serving-endpoints"];
