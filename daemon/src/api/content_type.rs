//! Which bodies are read: JSON and, of invocations, comma-separated text; and a body that does not
//! say what it is, which is JSON.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

const JSON: &str = "application/json";
const CSV: &str = "text/csv";

/// A body in a format that is not read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content type {given:?} is not supported: send {}", supported.join(" or "))]
pub(crate) struct ContentTypeError {
    /// What the request said, cut to a length that is safe to print.
    given: String,
    supported: &'static [&'static str],
}

/// What the body of an invocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScoringFormat {
    /// JSON with one of the input forms.
    Json,
    /// A table as comma-separated text.
    Csv,
}

/// Accepts `application/json`, with `charset=utf-8` at most, and a missing content type.
///
/// # Errors
/// [`ContentTypeError`] for any other type and any other parameter: it would change what the body
/// means, and it would be ignored.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), ContentTypeError> {
    one_of(headers, &[JSON]).map(drop)
}

/// The same for an invocation, which may be `text/csv` too.
///
/// # Errors
/// As [`expect_json`].
pub(crate) fn of_scoring(headers: &HeaderMap) -> Result<ScoringFormat, ContentTypeError> {
    Ok(match one_of(headers, &[JSON, CSV])? {
        CSV => ScoringFormat::Csv,
        _ => ScoringFormat::Json,
    })
}

/// Which of the supported types the body has; the first where it does not say.
fn one_of(
    headers: &HeaderMap,
    supported: &'static [&'static str],
) -> Result<&'static str, ContentTypeError> {
    let text = headers.get(CONTENT_TYPE);
    let text = text.map_or_else(Default::default, |value| {
        String::from_utf8_lossy(value.as_bytes())
    });
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let mut types = supported.iter();
    let found = types.find(|known| essence.is_empty() || essence.eq_ignore_ascii_case(known));
    match found {
        Some(found) if parts.all(is_utf8) => Ok(found),
        _ => Err(ContentTypeError {
            given: text.chars().take(80).collect(),
            supported,
        }),
    }
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

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers
    }

    fn check(content_type: &str) -> Result<(), ContentTypeError> {
        expect_json(&headers(content_type))
    }

    #[test]
    fn an_invocation_may_be_a_table_as_text() {
        let format = |content_type: &str| of_scoring(&headers(content_type));
        assert_eq!(of_scoring(&HeaderMap::new()), Ok(ScoringFormat::Json));
        assert_eq!(format("application/json"), Ok(ScoringFormat::Json));
        for csv in ["text/csv", "Text/CSV; charset=utf-8"] {
            assert_eq!(format(csv), Ok(ScoringFormat::Csv), "{csv}");
        }
        let refused = format("text/csv; header=absent").unwrap_err().to_string();
        assert!(
            refused.contains("send application/json or text/csv"),
            "{refused}"
        );
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
            assert!(error.contains(other) && error.contains(JSON), "{error}");
        }
    }
}
