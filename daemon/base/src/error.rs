//! How an error and what caused it are shown together.

use std::error::Error;

/// An error and everything that caused it, on one line: `outer: inner: innermost`.
///
/// Our errors never repeat their source in their own text, so nothing is said twice.
#[must_use]
pub fn chain(error: &(dyn Error + '_)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_on_the_line() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
    }
}
