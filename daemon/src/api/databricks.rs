//! The Databricks dialect: serving endpoints as its clients know them.
//!
//! - `endpoints`: create, get, list, update, delete under `/api/2.0/serving-endpoints`
//! - `invocations`: predictions under `/serving-endpoints`
//! - `objects`: the JSON of an endpoint
//! - `settings`: tags, rate limits, AI gateway and what else changes without loading a model
//! - `observe`: metrics and logs
//! - `limits`: rate limits in JSON
//! - `permissions`: who may do what
//! - `provisioned`: endpoints with provisioned throughput
//! - `openapi`: what an endpoint takes and gives, as a document
//! - `fields`: reads the fields of a body, and refuses those that would have no effect

pub(crate) mod endpoints;
mod fields;
pub(crate) mod invocations;
mod limits;
mod objects;
mod observe;
mod openapi;
pub(crate) mod permissions;
mod provisioned;
mod settings;

pub(crate) use endpoints::unknown;
pub(crate) use fields::FieldError;
