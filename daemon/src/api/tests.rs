//! The whole API through real sockets: real store, models, endpoints and compute threads, and a
//! sink that keeps the rows.

mod admin;
mod batching;
mod document;
mod endpoints;
mod errors;
mod grpc;
mod invocations;
mod open_inference;
mod overload;
mod policies;
mod provisioned;
mod stack;
mod staging;
