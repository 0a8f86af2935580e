//! Operators of `com.microsoft` on other things than bytes: what skl2onnx needs beyond the standard.
//!
//! Semantics follow onnxruntime's documentation of them.

use tract_onnx::model::OnnxOpRegister;

use super::operator::{Build, Operator, Port, build};

mod tokenizer;

/// Puts these operators into `register`.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("Tokenizer", build::<tokenizer::Tokenizer>);
}
