//! What the fuzz targets ask of the readers of everything that comes from outside.
//!
//! Each function takes any bytes at all and panics when the product breaks a claim: what is accepted has as many
//! rows as were sent, fits the model that takes it and asks for no more memory than its text allows; what is
//! refused is refused with status 400 and a message for a person. They call the product through what it calls
//! itself, and have no door of their own.
//!
//! The same functions run in two places: `cargo fuzz` runs them as the library of this package, on inputs that it
//! makes up, and the suite runs them as a module of its own, on `seeds/`, so that what was once found stays found
//! without a nightly compiler.
//!
//! # Inputs
//!
//! | target | bytes |
//! |---|---|
//! | `dataframe_json` | the number of a model of `models::tables`, as a digit; the body of an invocation |
//! | `csv` | the same; the body, as `text/csv` |
//! | `v2_binary` | the number of a model of `models::tensors`; `0`: the body alone is JSON, `1`: a line is the header with the length of the JSON, `2`: the JSON ends at the first byte 0, which is not part of the body; the body |
//! | `mlmodel` | an MLmodel file |

mod claims;
mod framing;
mod mlmodel_file;
mod models;
mod tables;

pub use framing::v2_binary;
pub use mlmodel_file::mlmodel;
pub use tables::{csv, dataframe_json};
