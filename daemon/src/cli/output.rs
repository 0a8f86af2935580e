//! How verbs print, and how they fail.

use std::fmt;
use std::io::{self, Write as _};

use edgeward_base::error::chain;
use serde::Serialize;
use serde_json::Value;

use super::args::Output;

/// A verb that was not carried out: what to say, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    pub(super) code: u8,
}

impl Failure {
    /// It was tried and failed.
    const FAILED: u8 = 1;
    /// The arguments make no sense.
    pub(super) const USAGE: u8 = 64;
    /// The configuration is wrong, or the state is newer than the program.
    const CONFIG: u8 = 78;

    /// It was tried and failed.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self {
            message: chain(error),
            code: Self::FAILED,
        }
    }

    /// The configuration is wrong.
    pub(super) fn config(error: &dyn std::error::Error) -> Self {
        Self {
            message: chain(error),
            code: Self::CONFIG,
        }
    }

    /// An argument makes no sense.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::USAGE,
        }
    }

    /// What went wrong was printed already.
    pub(super) fn said() -> Self {
        Self {
            message: String::new(),
            code: Self::FAILED,
        }
    }

    /// Several things did not end as they should.
    pub(super) fn problems(problems: &[String]) -> Self {
        Self {
            message: problems.join("\n"),
            code: Self::FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Prints one line on standard output.
pub(super) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(&error)),
        Ok(()) => Ok(()),
    }
}

/// Prints a value: as one line of JSON, or as an indented outline for people.
pub(super) fn value(value: &impl Serialize, output: Output) -> Result<(), Failure> {
    let value = serde_json::to_value(value).map_err(|error| Failure::failed(&error))?;
    match output {
        Output::Json => line(value),
        Output::Text => {
            let mut text = String::new();
            outline(&value, 0, &mut text);
            line(text.trim_end())
        }
    }
}

/// Writes a value as `key: value` lines, objects and lists indented.
fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                entry(&format!("{indent}{key}:"), value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                entry(&format!("{indent}-"), item, depth, text);
            }
        }
        scalar => {
            text.push_str(&plain(scalar));
            text.push('\n');
        }
    }
}

fn entry(head: &str, value: &Value, depth: usize, text: &mut String) {
    text.push_str(head);
    let empty = value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty);
    if empty {
        text.push_str(" none\n");
    } else if value.is_object() || value.is_array() {
        text.push('\n');
        outline(value, depth + 1, text);
    } else {
        text.push(' ');
        text.push_str(&plain(value));
        text.push('\n');
    }
}

fn plain(scalar: &Value) -> String {
    scalar
        .as_str()
        .map_or_else(|| scalar.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_shows_every_value_that_is_there() {
        let mut text = String::new();
        let value = json!({"a": 1, "b": {"c": "x", "d": []}, "e": [{"f": true}], "g": null});
        outline(&value, 0, &mut text);
        assert_eq!(text, "a: 1\nb:\n  c: x\n  d: none\ne:\n  -\n    f: true\n");
    }
}
