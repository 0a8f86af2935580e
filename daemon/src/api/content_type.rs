//! Which bodies are read: JSON, and a body that does not say what it is.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

/// The content types that a body may have, as an error lists them.
pub(crate) const SUPPORTED: &str = "application/json";

/// A body in a format that is not read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content type {given:?} is not supported: send {SUPPORTED}")]
pub(crate) struct ContentTypeError {
    /// What the request said, cut to a length that is safe to print.
    pub(crate) given: String,
}

/// Accepts `application/json`, with `charset=utf-8` at most, and a missing content type.
///
/// # Errors
/// [`ContentTypeError`] for any other type and any other parameter: it would change what the body
/// means, and it would be ignored.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), ContentTypeError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parts = text.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|essence| essence.is_empty() || essence.eq_ignore_ascii_case(SUPPORTED));
    if json && parts.all(is_utf8) {
        return Ok(());
    }
    Err(ContentTypeError {
        given: text.chars().take(80).collect(),
    })
}

fn is_utf8(parameter: &str) -> bool {
    parameter.is_empty()
        || parameter.split_once('=').is_some_and(|(name, value)| {
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("charset")
                && ["utf-8", "utf8"]
                    .iter()
                    .any(|utf8| value.eq_ignore_ascii_case(utf8))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str) -> Result<(), ContentTypeError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        expect_json(&headers)
    }

    #[test]
    fn json_and_nothing_are_read() {
        assert_eq!(expect_json(&HeaderMap::new()), Ok(()));
        for json in [
            "application/json",
            "Application/JSON",
            "application/json;",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "",
        ] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_supported() {
        for other in [
            "text/csv",
            "text/plain",
            "application/vnd.apache.parquet",
            "application/json; format=pandas-split",
            "application/json; charset=latin-1",
            "application/jsonx",
        ] {
            let error = check(other).unwrap_err().to_string();
            assert!(
                error.contains(other) && error.contains(SUPPORTED),
                "{error}"
            );
        }
    }
}
