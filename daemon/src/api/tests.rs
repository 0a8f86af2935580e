//! The whole API through real sockets: real store, models, endpoints and compute threads, and a
//! sink that keeps the rows.

mod admin;
mod endpoints;
mod errors;
mod invocations;
mod overload;
mod stack;
mod staging;
