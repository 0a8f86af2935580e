//! Bearer tokens: who sent a request.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::error::ApiError;
use crate::gateway::{Caller, Tokens};

/// Who sent a request, by the token that it carries.
///
/// # Errors
/// 401 when it carries none, 403 when the token is not good, 429 when too many were not.
pub(crate) fn authenticate(headers: &HeaderMap, tokens: &Tokens) -> Result<Caller, ApiError> {
    let token = bearer(headers).ok_or_else(ApiError::unauthenticated)?;
    Ok(tokens.authenticate(token)?)
}

/// The token in `Authorization: Bearer {token}`; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_found_in_any_spelling_and_nothing_else_is() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            headers
        };
        for good in ["Bearer t", "bearer t", "BEARER   t", " Bearer t "] {
            assert_eq!(bearer(&with(good)), Some("t"), "{good}");
        }
        for wrong in ["", "Bearer", "Bearer ", "Basic dDp0", "t", "Bearert"] {
            assert_eq!(bearer(&with(wrong)), None, "{wrong}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
