//! The Databricks dialect: serving endpoints as its clients know them.
//!
//! - `endpoints`: create, get, list, update, delete under `/api/2.0/serving-endpoints`
//! - `invocations`: predictions under `/serving-endpoints`
//! - `objects`: the JSON of an endpoint
//! - `openapi`: what an endpoint takes and gives, as a document
//! - `fields`: reads the fields of a body, and refuses those that would have no effect

pub(crate) mod endpoints;
mod fields;
pub(crate) mod invocations;
pub(crate) mod objects;
mod openapi;

pub(crate) use fields::FieldError;
