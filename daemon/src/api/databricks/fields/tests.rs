use serde_json::json;

use super::*;

fn fields(body: Value) -> Fields {
    Fields::of(body).unwrap()
}

#[test]
fn a_text_is_taken_and_null_is_absent() {
    let mut all = fields(json!({"text": "a", "null": null, "any": [1]}));
    assert_eq!(all.text("text"), Ok(Some("a".to_owned())));
    assert_eq!(all.text("null"), Ok(None));
    assert_eq!(all.text("absent"), Ok(None));
    assert_eq!(all.value("any"), Some(json!([1])));
    assert_eq!(all.finish(), Ok(()));
}

#[test]
fn a_wrong_kind_names_the_field_and_what_is_allowed() {
    let wrong = fields(json!({"name": [1]})).text("name").unwrap_err();
    assert_eq!(wrong.to_string(), "`name` must be a string, is a list");
    let wrong = Fields::of(json!([])).unwrap_err();
    assert_eq!(wrong.to_string(), "`body` must be an object, is a list");
}

#[test]
fn a_field_without_effect_passes_only_when_it_asks_for_nothing() {
    let mut nothing = fields(json!({"a": null, "b": false, "c": [], "d": {}, "e": ""}));
    assert_eq!(nothing.refuse(&["a", "b", "c", "d", "e", "f"]), Ok(()));
    assert_eq!(nothing.finish(), Ok(()));
    for asks in [
        json!(true),
        json!(0),
        json!("x"),
        json!([1]),
        json!({"x": 1}),
    ] {
        let error = fields(json!({"guardrails": asks})).refuse(&["guardrails"]);
        assert_eq!(error.unwrap_err().field, "guardrails");
    }
}

#[test]
fn what_nobody_read_is_refused_by_name() {
    let error = fields(json!({"naem": "x"})).finish().unwrap_err();
    assert_eq!(error.to_string(), "`naem` is not a field of this request");
}
