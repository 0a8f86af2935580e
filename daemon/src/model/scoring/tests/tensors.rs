//! Models with tensors.

use edgeward_kernels::tensor::DataType;

use super::{BadRequest, Invalid, Predictions, check, matrix_of_four, scorer};
use crate::model::tests::fake::{FakeSession, spec};

#[test]
fn every_form_becomes_the_matrix() {
    let expected = r#"{"y":[10.0,26.0]}"#;
    let bodies = [
        r#"{"inputs":[[1,2,3,4],[5,6,7,8]]}"#,
        r#"{"instances":[[1,2,3,4],[5,6,7,8]]}"#,
        r#"{"dataframe_split":{"columns":["a","b","c","d"],"data":[[1,2,3,4],[5,6,7,8]]}}"#,
        r#"{"dataframe_split":{"columns":[0,1,2,3],"index":[0,1],"data":[[1,2,3,4],[5,6,7,8]]}}"#,
        r#"{"dataframe_split":{"data":[[1,2,3,4],[5,6,7,8]]}}"#,
        r#"{"dataframe_records":[{"a":1,"b":2,"c":3,"d":4},{"d":8,"c":7,"b":6,"a":5}]}"#,
        r#"{"inputs":{"X":[[1,2,3,4],[5,6,7,8]]}}"#,
        r#"{"instances":[{"X":[1,2,3,4]},{"X":[5,6,7,8]}]}"#,
        r#"{"inputs":[{"X":[1,2,3,4]},{"X":[5,6,7,8]}]}"#,
    ];
    let cases: Vec<_> = bodies
        .into_iter()
        .map(|body| (body, Predictions(expected)))
        .collect();
    check(&matrix_of_four(), &cases);
}

#[test]
fn the_shape_must_be_the_models() {
    check(
        &matrix_of_four(),
        &[
            (
                r#"{"inputs":[[1,2]]}"#,
                Invalid("Shape of input (1, 2) does not match expected shape (-1, 4)"),
            ),
            (
                r#"{"inputs":[1,2,3,4]}"#,
                Invalid("Shape of input (4,) does not match"),
            ),
            (
                r#"{"inputs":[[[1,2,3,4]]]}"#,
                Invalid("Shape of input (1, 1, 4) does not match"),
            ),
            (r#"{"inputs":[[1,2,3,4],[1]]}"#, BadRequest("same length")),
            (r#"{"inputs":[[1,2,3,4],5]}"#, BadRequest("same length")),
            (r#"{"inputs":[5,[1,2,3,4]]}"#, BadRequest("same length")),
            (r#"{"inputs":[[],[1]]}"#, BadRequest("same length")),
            (r#"{"inputs":[]}"#, Invalid("no rows")),
            (r#"{"dataframe_records":[]}"#, Invalid("no rows")),
            (
                r#"{"inputs":3}"#,
                BadRequest("inputs does not have its form"),
            ),
            (
                r#"{"instances":{"X":[[1,2,3,4]]}}"#,
                BadRequest("a list of rows"),
            ),
            (
                r#"{"inputs":{"x":[[1,2,3,4]]}}"#,
                Invalid("missing inputs [\"X\"]"),
            ),
            (
                r#"{"inputs":{"X":[[1,2,3,4]],"X":[[1,2,3,4]]}}"#,
                BadRequest("twice"),
            ),
            (
                r#"{"inputs":[["a",2,3,4]]}"#,
                BadRequest("must hold a number"),
            ),
            (r#"{"inputs":[[{},2,3,4]]}"#, BadRequest("got an object")),
            (
                r#"{"dataframe_records":[{"a":1,"b":2,"c":3,"d":4},{"a":1,"b":2,"c":3}]}"#,
                BadRequest("row 1 lacks column \"d\""),
            ),
            (
                r#"{"dataframe_records":[{"a":1,"b":2,"c":3,"d":4},{"a":1,"b":2,"c":3,"e":3}]}"#,
                BadRequest("\"e\""),
            ),
        ],
    );
}

#[test]
fn null_is_not_a_number_and_comes_back_as_null() {
    check(
        &matrix_of_four(),
        &[
            (
                r#"{"inputs":[[null,2,3,4],[1,2,3,4]]}"#,
                Predictions(r#"{"y":[null,10.0]}"#),
            ),
            (
                r#"{"inputs":[[true,2,3,4]]}"#,
                Predictions(r#"{"y":[10.0]}"#),
            ),
        ],
    );
}

#[test]
fn several_tensors_come_by_name() {
    let specs = vec![
        spec("ids", DataType::I64, &[None, Some(2)]),
        spec("word", DataType::String, &[None]),
    ];
    let signature = r#"[{"type":"tensor","name":"word","tensor-spec":{"dtype":"str","shape":[-1]}},
        {"type":"tensor","name":"ids","tensor-spec":{"dtype":"int64","shape":[-1,2]}}]"#;
    let scorer = scorer(signature, None, FakeSession::echo(specs));
    let expected = r#"{"ids":[[1,2],[3,4]],"word":["a","b"]}"#;
    check(
        &scorer,
        &[
            (
                r#"{"inputs":{"word":["a","b"],"ids":[[1,2],[3,4]]}}"#,
                Predictions(expected),
            ),
            (
                r#"{"instances":[{"ids":[1,2],"word":"a"},{"word":"b","ids":[3,4]}]}"#,
                Predictions(expected),
            ),
            (
                r#"{"dataframe_records":[{"ids":[1,2],"word":"a"},{"word":"b","ids":[3,4]}]}"#,
                Predictions(expected),
            ),
            (
                r#"{"dataframe_split":{"columns":["word","x","ids"],"data":[["a",0,[1,2]],["b",0,[3,4]]]}}"#,
                Predictions(expected),
            ),
            (
                r#"{"inputs":[[1,2]]}"#,
                Invalid("must name its tensors: ids, word"),
            ),
            (r#"{"instances":[1]}"#, Invalid("must name its tensors")),
            (
                r#"{"inputs":{"ids":[[1,2]]}}"#,
                Invalid("missing inputs [\"word\"]"),
            ),
            (
                r#"{"instances":[{"ids":[1,2]}]}"#,
                Invalid("missing inputs [\"word\"]"),
            ),
            (
                r#"{"inputs":{"ids":[[1,2.5]],"word":["a"]}}"#,
                BadRequest("whole number"),
            ),
            (
                r#"{"inputs":{"ids":[[1,null]],"word":["a"]}}"#,
                BadRequest("got null"),
            ),
            (
                r#"{"inputs":{"ids":[[1,2]],"word":[null]}}"#,
                BadRequest("got null"),
            ),
            (
                r#"{"inputs":{"ids":[[1,2]],"word":["a","b"]}}"#,
                Invalid("rows"),
            ),
            (
                r#"{"dataframe_split":{"columns":["word"],"data":[["a"]]}}"#,
                Invalid("missing inputs"),
            ),
            (
                r#"{"dataframe_split":{"columns":["word","ids"],"data":[["a"]]}}"#,
                BadRequest("2 values"),
            ),
        ],
    );
}

/// A row has as many columns as its client likes, in any order: none may be looked for along all of them.
#[test]
fn a_row_of_many_columns_takes_no_long_time() {
    let columns = 200_000;
    let row = |order: &mut dyn Iterator<Item = usize>| {
        let cells: Vec<String> = order.map(|at| format!("\"c{at}\":{at}")).collect();
        cells.join(",")
    };
    let first = row(&mut (0..columns));
    let second = row(&mut (0..columns).rev());
    let body = format!("{{\"dataframe_records\":[{{{first}}},{{{second}}}]}}");
    let shape = "Shape of input (2, 200000) does not match expected shape (-1, 4)";
    check(&matrix_of_four(), &[(&body, Invalid(shape))]);
    let twice = format!("{{\"dataframe_records\":[{{{first},\"c7\":1}}]}}");
    check(
        &matrix_of_four(),
        &[(&twice, BadRequest("row 0 has column \"c7\" twice"))],
    );
}
