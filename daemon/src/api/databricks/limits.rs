//! Rate limits in JSON, as the AI gateway has them and in their older form.
//!
//! `{"calls": 10, "tokens": 1000, "renewal_period": "minute", "key": "user", "principal": "ann"}`; the older
//! form has no `tokens` and no `principal`.

use serde_json::{Value, json};

use super::fields::{self, FieldError, Fields};
use crate::gateway::{LimitKey, RateLimit};

/// The most limits of an endpoint: every request looks at all of them.
const MOST_LIMITS: usize = 20;

/// Which form of limits is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `rate_limits` of an endpoint.
    Endpoint,
    /// `rate_limits` of its AI gateway.
    Gateway,
}

/// Reads a list of limits; an absent one is empty.
pub(super) fn read(list: Option<Value>, form: Form) -> Result<Vec<RateLimit>, FieldError> {
    let list = match list {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(fields::error("rate_limits", "must be a list")),
    };
    if list.len() > MOST_LIMITS {
        let problem = format!("has at most {MOST_LIMITS} elements");
        return Err(fields::error("rate_limits", problem));
    }
    let mut limits: Vec<RateLimit> = Vec::with_capacity(list.len());
    for element in list {
        let limit = one(element, form)?;
        if limits.iter().any(|known| known.key == limit.key) {
            return Err(fields::error("rate_limits", "has the same key twice"));
        }
        limits.push(limit);
    }
    Ok(limits)
}

fn one(element: Value, form: Form) -> Result<RateLimit, FieldError> {
    let mut fields = Fields::of(element)?;
    let calls = count(&mut fields, "calls")?;
    let tokens = match form {
        Form::Endpoint => None,
        Form::Gateway => count(&mut fields, "tokens")?,
    };
    let period = fields.text("renewal_period")?;
    let key = fields.text("key")?;
    let principal = match form {
        Form::Endpoint => None,
        Form::Gateway => fields.text("principal")?,
    };
    fields.finish()?;
    if period.as_deref() != Some("minute") {
        return Err(fields::error("renewal_period", "must be minute"));
    }
    if calls.is_none() && tokens.is_none() {
        let problem = match form {
            Form::Endpoint => "is required",
            Form::Gateway => "or `tokens` is required",
        };
        return Err(fields::error("calls", problem));
    }
    let principal = principal.map(|name| {
        let name = name.parse();
        name.map_err(|problem| fields::error("principal", format!("{problem}")))
    });
    let key = match (
        key.as_deref().unwrap_or("endpoint"),
        principal.transpose()?,
        form,
    ) {
        ("endpoint", None, _) => LimitKey::Endpoint,
        ("user", None, _) => LimitKey::EachUser,
        ("user", Some(name), _) => LimitKey::User(name),
        ("user_group", Some(name), Form::Gateway) => LimitKey::Group(name),
        ("service_principal", Some(name), Form::Gateway) => LimitKey::ServicePrincipal(name),
        ("endpoint", Some(_), _) => {
            return Err(fields::error(
                "principal",
                "means nothing with the key endpoint",
            ));
        }
        ("user_group" | "service_principal", None, Form::Gateway) => {
            return Err(fields::error("principal", "is required with this key"));
        }
        (_, _, Form::Endpoint) => {
            return Err(fields::error("key", "must be user or endpoint"));
        }
        (_, _, Form::Gateway) => {
            let problem = "must be user, endpoint, user_group or service_principal";
            return Err(fields::error("key", problem));
        }
    };
    Ok(RateLimit { key, calls, tokens })
}

fn count(fields: &mut Fields, field: &str) -> Result<Option<u64>, FieldError> {
    let Some(value) = fields.value(field) else {
        return Ok(None);
    };
    let count = value.as_u64();
    count
        .map(Some)
        .ok_or_else(|| fields::error(field, "must be a whole number, 0 or more"))
}

/// Writes limits as they were read.
pub(super) fn write<'l>(limits: impl Iterator<Item = &'l RateLimit>) -> Vec<Value> {
    let one = |limit: &RateLimit| {
        let (key, principal) = match &limit.key {
            LimitKey::Endpoint => ("endpoint", None),
            LimitKey::EachUser => ("user", None),
            LimitKey::User(name) => ("user", Some(name)),
            LimitKey::Group(name) => ("user_group", Some(name)),
            LimitKey::ServicePrincipal(name) => ("service_principal", Some(name)),
        };
        let all = [
            ("calls", json!(limit.calls)),
            ("tokens", json!(limit.tokens)),
            ("renewal_period", json!("minute")),
            ("key", json!(key)),
            ("principal", json!(principal)),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_null());
        Value::Object(
            given
                .map(|(field, value)| (field.to_owned(), value))
                .collect(),
        )
    };
    limits.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_they_are_read() {
        let limits = json!([
            {"calls": 10, "renewal_period": "minute", "key": "endpoint"},
            {"calls": 5, "tokens": 100, "renewal_period": "minute", "key": "user"},
            {"tokens": 7, "renewal_period": "minute", "key": "user", "principal": "ann@example.org"},
            {"calls": 0, "renewal_period": "minute", "key": "user_group", "principal": "ops"},
            {"calls": 3, "renewal_period": "minute", "key": "service_principal", "principal": "bot"},
        ]);
        let read = read(Some(limits.clone()), Form::Gateway).unwrap();
        assert_eq!(Value::Array(write(read.iter())), limits);
    }

    #[test]
    fn what_is_no_limit_is_refused_by_its_field() {
        for (limit, form, field) in [
            (json!({"calls": 1}), Form::Endpoint, "renewal_period"),
            (
                json!({"calls": 1, "renewal_period": "hour"}),
                Form::Gateway,
                "renewal_period",
            ),
            (json!({"renewal_period": "minute"}), Form::Gateway, "calls"),
            (
                json!({"calls": -1, "renewal_period": "minute"}),
                Form::Gateway,
                "calls",
            ),
            (
                json!({"calls": 1.5, "renewal_period": "minute"}),
                Form::Endpoint,
                "calls",
            ),
            (
                json!({"calls": 1, "renewal_period": "minute", "key": "team"}),
                Form::Gateway,
                "key",
            ),
            (
                json!({"calls": 1, "renewal_period": "minute", "key": "user_group", "principal": "a"}),
                Form::Endpoint,
                "principal",
            ),
            (
                json!({"calls": 1, "renewal_period": "minute", "key": "user_group"}),
                Form::Gateway,
                "principal",
            ),
            (
                json!({"calls": 1, "renewal_period": "minute", "principal": "a"}),
                Form::Gateway,
                "principal",
            ),
            (
                json!({"tokens": 1, "renewal_period": "minute"}),
                Form::Endpoint,
                "tokens",
            ),
        ] {
            let refused = read(Some(json!([limit.clone()])), form).unwrap_err();
            assert_eq!(refused.field, field, "{limit}: {refused}");
        }
        let twice = json!([
            {"calls": 1, "renewal_period": "minute"},
            {"calls": 2, "renewal_period": "minute", "key": "endpoint"},
        ]);
        assert_eq!(
            read(Some(twice), Form::Endpoint).unwrap_err().field,
            "rate_limits"
        );
        assert_eq!(read(None, Form::Endpoint), Ok(vec![]));
    }
}
