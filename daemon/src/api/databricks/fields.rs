//! Reads the fields of a body one by one and refuses what is left.
//!
//! A field that is accepted has an effect (design decision D9). So every reader names the fields it
//! acts on, then those it knows and does not act on yet ([`Fields::refuse`]), and
//! [`Fields::finish`] refuses the rest. An explicit `null` is an absent field: clients send both.

use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// One field that cannot be taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub(crate) struct FieldError {
    /// The field; `body` for the whole of it.
    pub(crate) field: String,
    /// What is wrong and what is allowed.
    pub(crate) problem: String,
}

/// The fields of a body that nobody has read yet.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a body.
    ///
    /// # Errors
    /// When it is no object.
    pub(crate) fn of(body: Value) -> Result<Self, FieldError> {
        match body {
            Value::Object(left) => Ok(Self(left)),
            other => Err(error(
                "body",
                format!("must be an object, is {}", kind(&other)),
            )),
        }
    }

    /// Takes any value; `null` is absent.
    pub(crate) fn value(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    /// Takes a text.
    ///
    /// # Errors
    /// When it is another kind of value.
    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>, FieldError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(error(
                field,
                format!("must be a string, is {}", kind(&other)),
            )),
        }
    }

    /// Refuses fields that are known and have no effect here yet. A value that asks for nothing
    /// (`false`, an empty text, list or object) passes.
    ///
    /// # Errors
    /// For the first field that asks for something.
    pub(crate) fn refuse(&mut self, fields: &[&str]) -> Result<(), FieldError> {
        for field in fields {
            let asks = match self.value(field) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Array(items)) => !items.is_empty(),
                Some(Value::Object(fields)) => !fields.is_empty(),
                Some(Value::Bool(true) | Value::Number(_)) => true,
            };
            if asks {
                let problem = "is not enforced by this server, which takes no field that would \
                               have no effect: leave it out";
                return Err(error(field, problem));
            }
        }
        Ok(())
    }

    /// Refuses whatever nobody has read.
    ///
    /// # Errors
    /// For the first field left.
    pub(crate) fn finish(self) -> Result<(), FieldError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(field) => {
                let cut: String = field.chars().take(80).collect();
                Err(error(&cut, "is not a field of this request"))
            }
        }
    }
}

/// An error about one field.
pub(crate) fn error(field: &str, problem: impl Into<String>) -> FieldError {
    FieldError {
        field: field.to_owned(),
        problem: problem.into(),
    }
}

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
