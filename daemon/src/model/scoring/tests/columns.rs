//! Models with named columns.

use edgeward_kernels::tensor::DataType;

use super::{BadRequest, Invalid, Predictions, amount_and_hour, answer, check, every_type, scorer};
use crate::model::tests::fake::{FakeSession, spec};

#[test]
fn every_form_scores_the_same_rows() {
    check(
        &amount_and_hour(),
        &[
            (
                r#"{"dataframe_records":[{"amount":1.5,"hour":2.0},{"amount":3.0,"hour":4.0}]}"#,
                Predictions("[3.5,7.0]"),
            ),
            (
                r#"{"dataframe_split":{"columns":["amount","hour"],"data":[[1.5,2.0],[3.0,4.0]]}}"#,
                Predictions("[3.5,7.0]"),
            ),
            (
                r#"{"dataframe_split":{"index":[7,8],"data":[[2.0,1.5],[4.0,3.0]],"columns":["hour","amount"]}}"#,
                Predictions("[3.5,7.0]"),
            ),
            (
                r#"{"inputs":{"amount":[1.5,3.0],"hour":[2.0,4.0]}}"#,
                Predictions("[3.5,7.0]"),
            ),
            (
                r#"{"inputs":{"hour":2.0,"amount":1.5}}"#,
                Predictions("[3.5]"),
            ),
            (
                r#"{"inputs":[{"amount":1.5,"hour":2.0}]}"#,
                Predictions("[3.5]"),
            ),
            (
                r#"{"instances":[{"hour":2.0,"amount":1.5},{"amount":3.0,"hour":4.0}]}"#,
                Predictions("[3.5,7.0]"),
            ),
        ],
    );
}

#[test]
fn column_order_is_free_and_extra_columns_are_ignored() {
    check(
        &amount_and_hour(),
        &[
            (
                r#"{"dataframe_records":[{"hour":2.0,"city":{"deep":[1]},"amount":1.0}]}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"dataframe_split":{"columns":["x","hour","amount"],"data":[["?",2.0,1.0]]}}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"inputs":{"x":["a","b","c"],"hour":[2.0],"amount":[1.0]}}"#,
                Predictions("[3.0]"),
            ),
        ],
    );
}

#[test]
fn bare_arrays_have_no_names() {
    check(
        &amount_and_hour(),
        &[
            (
                r#"{"inputs":[[1.0,2.0]]}"#,
                Invalid("must name its columns"),
            ),
            (
                r#"{"instances":[[1.0,2.0]]}"#,
                Invalid("[\"amount\", \"hour\"]"),
            ),
            (r#"{"inputs":[1.0,2.0]}"#, Invalid("must name its columns")),
            (r#"{"inputs":1.0}"#, Invalid("must name its columns")),
            (
                r#"{"instances":{"amount":[1.0],"hour":[2.0]}}"#,
                BadRequest("instances"),
            ),
        ],
    );
}

#[test]
fn missing_columns_are_all_listed() {
    check(
        &amount_and_hour(),
        &[
            (
                r#"{"dataframe_records":[{"x":1}]}"#,
                Invalid("missing inputs [\"amount\", \"hour\"]"),
            ),
            (
                r#"{"dataframe_split":{"columns":["hour"],"data":[[1]]}}"#,
                Invalid("missing inputs [\"amount\"]"),
            ),
            (
                r#"{"inputs":{"amount":[1]}}"#,
                Invalid("missing inputs [\"hour\"]"),
            ),
            (
                r#"{"inputs":{}}"#,
                Invalid("missing inputs [\"amount\", \"hour\"]"),
            ),
            (
                r#"{"instances":[{"hour":1},{"hour":2}]}"#,
                Invalid("missing inputs [\"amount\"]"),
            ),
            // One row has it: the other's is null, which a float column takes.
            (
                r#"{"instances":[{"hour":1},{"hour":2,"amount":1}]}"#,
                Predictions("[null,3.0]"),
            ),
        ],
    );
}

#[test]
fn numbers_widen_and_nothing_else_does() {
    check(
        &amount_and_hour(),
        &[
            (
                r#"{"dataframe_records":[{"amount":1,"hour":2}]}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"dataframe_records":[{"amount":true,"hour":2}]}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"dataframe_records":[{"amount":null,"hour":2}]}"#,
                Predictions("[null]"),
            ),
            (
                r#"{"dataframe_records":[{"amount":"a","hour":2}]}"#,
                BadRequest(
                    "column \"amount\" (float) in row 0 must be a number, got the string \"a\"",
                ),
            ),
            (
                r#"{"dataframe_records":[{"amount":"1.5","hour":2}]}"#,
                BadRequest("must be a number"),
            ),
            (
                r#"{"dataframe_records":[{"amount":[1],"hour":2}]}"#,
                BadRequest("got a list"),
            ),
            (
                r#"{"dataframe_records":[{"amount":{},"hour":2}]}"#,
                BadRequest("got an object"),
            ),
            (
                r#"{"dataframe_records":[{"amount":1e300,"hour":2}]}"#,
                BadRequest("range of float32"),
            ),
        ],
    );
}

#[test]
fn rows_must_be_there_and_be_rows() {
    check(
        &amount_and_hour(),
        &[
            (r#"{"dataframe_records":[]}"#, Invalid("has no rows")),
            (r#"{"instances":[]}"#, Invalid("has no rows")),
            (r#"{"inputs":[]}"#, Invalid("has no rows")),
            (
                r#"{"inputs":{"amount":[],"hour":[]}}"#,
                Invalid("has no rows"),
            ),
            (
                r#"{"dataframe_split":{"columns":["amount","hour"],"data":[]}}"#,
                Invalid("has no rows"),
            ),
            (
                r#"{"dataframe_records":{"amount":[1]}}"#,
                BadRequest("list of row objects"),
            ),
            (
                r#"{"dataframe_records":"x"}"#,
                BadRequest("list of row objects"),
            ),
            (r#"{"dataframe_split":[]}"#, BadRequest("columns and data")),
            (
                r#"{"dataframe_split":{"columns":["amount","hour"]}}"#,
                BadRequest("no data"),
            ),
            (
                r#"{"dataframe_split":{"data":[[1,2]]}}"#,
                BadRequest("no columns"),
            ),
            (
                r#"{"dataframe_split":{"columns":["amount","hour"],"data":[[1]]}}"#,
                BadRequest("1 values for 2"),
            ),
            (
                r#"{"dataframe_split":{"columns":["amount","hour"],"data":[[1,2,3]]}}"#,
                BadRequest("more values"),
            ),
            (
                r#"{"dataframe_split":{"data":[[1]],"columns":["amount","hour"]}}"#,
                BadRequest("1 values for 2"),
            ),
            (
                r#"{"dataframe_split":{"columns":["amount","amount"],"data":[[1,2]]}}"#,
                BadRequest("twice"),
            ),
            (
                r#"{"dataframe_split":{"columns":[],"data":[],"rows":1}}"#,
                BadRequest("\"rows\""),
            ),
            (
                r#"{"dataframe_records":[{"amount":1,"amount":2,"hour":3}]}"#,
                BadRequest("twice"),
            ),
            (
                r#"{"inputs":{"amount":[1],"hour":[1,2]}}"#,
                Invalid("has 2 values"),
            ),
            (
                r#"{"inputs":{"amount":[1],"amount":[1],"hour":[1]}}"#,
                BadRequest("twice"),
            ),
        ],
    );
}

const WHOLE_ROW: &str = r#""flag":true,"small":7,"big":9007199254740993,"real":0.1,"text":"a""#;

#[test]
fn every_column_type_takes_its_values() {
    let scorer = every_type();
    let row = |extra: &str| format!("{{\"dataframe_records\":[{{{WHOLE_ROW}{extra}}}]}}");
    assert_eq!(
        answer(&scorer, &row("")).unwrap(),
        "{\"predictions\":[{\"flag\":true,\"small\":7,\"big\":9007199254740993,\"real\":0.1,\
         \"text\":\"a\",\"bytes\":\"\",\"moment\":\"\",\"maybe\":null,\"note\":\"\"}]}"
    );
    let full = row(
        r#","bytes":"aMOp","moment":"2026-03-01T12:30:00Z","maybe":true,"note":null,"extra":1"#,
    );
    let got = answer(&scorer, &full).unwrap();
    assert!(got.contains("\"bytes\":\"h\u{e9}\""), "{got}");
    assert!(
        got.contains("\"moment\":\"2026-03-01T12:30:00Z\",\"maybe\":1.0,\"note\":\"\""),
        "{got}"
    );
}

/// What stands in the row, what is put there instead, and what the refusal says.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "\"flag\":true",
        "\"flag\":1",
        "(boolean) in row 0 must be true or false, got 1",
    ),
    ("\"flag\":true", "\"flag\":null", "got null"),
    (
        "\"small\":7",
        "\"small\":7.5",
        "(integer) in row 0 must be a whole number",
    ),
    (
        "\"small\":7",
        "\"small\":2147483648",
        "from -2147483648 to 2147483647, got 2147483648",
    ),
    (
        "\"small\":7",
        "\"small\":true",
        "must be a whole number, got true",
    ),
    ("\"small\":7", "\"small\":\"7\"", "the string \"7\""),
    ("\"small\":7", "\"small\":null", "must be integer, got null"),
    (
        "9007199254740993",
        "9223372036854775808",
        "to 9223372036854775807",
    ),
    ("9007199254740993", "1e19", "whole number"),
    (
        "\"real\":0.1",
        "\"real\":\"0.1\"",
        "(double) in row 0 must be a number",
    ),
    (
        "\"text\":\"a\"",
        "\"text\":1",
        "(string) in row 0 must be a string, got 1",
    ),
    (
        "\"text\":\"a\"",
        "\"text\":null",
        "must be string, got null",
    ),
    (
        "\"text\":\"a\"",
        "\"text\":\"a\",\"bytes\":\"?\"",
        "(binary) in row 0 must be base64",
    ),
    (
        "\"text\":\"a\"",
        "\"text\":\"a\",\"bytes\":\"/w==\"",
        "must be base64 of UTF-8",
    ),
    (
        "\"text\":\"a\"",
        "\"text\":\"a\",\"moment\":\"noon\"",
        "(datetime) in row 0 must be an ISO 8601",
    ),
    ("\"text\":\"a\"", "\"text\":\"a\",\"moment\":12", "ISO 8601"),
];

#[test]
fn every_column_type_refuses_the_rest() {
    let scorer = every_type();
    for (from, to, says) in REFUSED {
        let body = format!("{{\"dataframe_records\":[{{{WHOLE_ROW}}}]}}").replace(from, to);
        let refused = answer(&scorer, &body).expect_err(&body);
        assert!(
            refused.mistake().is_some() && refused.to_string().contains(says),
            "{to}: {refused}"
        );
    }
    let integral = format!("{{\"instances\":[{{{WHOLE_ROW}}}]}}").replace(":7,", ":7.0,");
    assert!(answer(&scorer, &integral).unwrap().contains("\"small\":7,"));
}

#[test]
fn a_moment_reaches_an_integer_input_as_nanoseconds() {
    let scorer = scorer(
        r#"[{"type":"datetime","name":"at"}]"#,
        Some(r#"[{"type":"long","name":"at"}]"#),
        FakeSession::echo(vec![spec("at", DataType::I64, &[None, Some(1)])]),
    );
    check(
        &scorer,
        &[(
            r#"{"instances":[{"at":"1970-01-01T00:00:01.5Z"}]}"#,
            Predictions("[1500000000]"),
        )],
    );
}

#[test]
fn few_bytes_never_ask_for_much_memory() {
    let columns: Vec<String> = (0..1000)
        .map(|at| format!("{{\"type\":\"double\",\"name\":\"c{at}\",\"required\":false}}"))
        .collect();
    let scorer = scorer(
        &format!("[{}]", columns.join(",")),
        None,
        FakeSession::row_sum(Some(1000)),
    );
    let sparse =
        |rows: usize| format!("{{\"dataframe_records\":[{}]}}", vec!["{}"; rows].join(","));
    assert!(answer(&scorer, &sparse(100)).is_ok());
    let refused = answer(&scorer, &sparse(10_000)).unwrap_err();
    assert!(
        refused.to_string().contains("too many rows that lack"),
        "{refused}"
    );
}

#[test]
fn columns_without_names_go_by_number() {
    let nameless = scorer(
        r#"[{"type":"float"},{"type":"float"}]"#,
        Some(r#"[{"type":"float"}]"#),
        FakeSession::row_sum(Some(2)),
    );
    check(
        &nameless,
        &[
            (
                r#"{"dataframe_split":{"columns":[1,0],"data":[[2,1]]}}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"dataframe_split":{"columns":["0","1"],"data":[[2,1]]}}"#,
                Predictions("[3.0]"),
            ),
            (
                r#"{"dataframe_split":{"columns":[0,-1],"data":[[2,1]]}}"#,
                BadRequest("a column's name"),
            ),
        ],
    );
}
