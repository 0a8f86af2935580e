//! Texts against what pandas reads of them.

use edgeward_kernels::tensor::{DataType, TensorData};

use super::*;
use crate::model::scoring::tests::{amount_and_hour, scorer};
use crate::model::scoring::{Scorer, parse_csv_body};
use crate::model::tests::fake::{FakeSession, spec};

/// A model with the columns `a` (double), `word` (text), `flag` (boolean) and `count` (long).
fn table() -> Scorer {
    let inputs = vec![
        spec("a", DataType::F64, &[None]),
        spec("word", DataType::String, &[None]),
        spec("flag", DataType::Bool, &[None]),
        spec("count", DataType::U64, &[None]),
    ];
    let columns = r#"[{"type":"double","name":"a"},{"type":"string","name":"word","required":false},
        {"type":"boolean","name":"flag"},{"type":"long","name":"count"}]"#;
    scorer(columns, None, FakeSession::echo(inputs))
}

/// A model with one matrix.
fn matrix() -> Scorer {
    let inputs = vec![spec("x", DataType::F32, &[None, None])];
    let tensor = r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,-1]}}]"#;
    scorer(tensor, None, FakeSession::echo(inputs))
}

fn answer(scorer: &Scorer, text: &[u8]) -> Result<String, ScoreError> {
    let request = parse_csv_body(&bytes::Bytes::copy_from_slice(text))?;
    let body = scorer.score(&request.input)?.into_body();
    Ok(String::from_utf8(body).unwrap())
}

#[test]
fn fields_become_cells_as_pandas_reads_them() {
    let header = "a,word,flag,count";
    for (lines, a, word, flag, count) in [
        ("1,x,True,2", "1.0", "\"x\"", "true", "2"),
        (
            "-2.5,\"x, \"\"y\"\"\",FALSE,2.0",
            "-2.5",
            "\"x, \\\"y\\\"\"",
            "false",
            "2",
        ),
        ("NA,NA, true,+4", "null", "\"\"", "true", "4"),
        (
            "1e3,7,false,18446744073709551615",
            "1000.0",
            "\"7\"",
            "false",
            "18446744073709551615",
        ),
        ("nan,True,true,1\n \t \n\n", "null", "\"True\"", "true", "1"),
    ] {
        let expected = format!(
            "{{\"predictions\":{{\"a\":[{a}],\"word\":[{word}],\"flag\":[{flag}],\"count\":[{count}]}}}}"
        );
        for text in [
            format!("{header}\n{lines}"),
            format!("\u{feff}{header}\r\n{lines}\r\n"),
        ] {
            assert_eq!(
                answer(&table(), text.as_bytes()).unwrap(),
                expected,
                "{text}"
            );
        }
    }
}

#[test]
fn columns_come_in_any_order_and_others_are_ignored() {
    let text = "hour,,never seen,amount\n2,0,x,1.5\n4,1,,3\n";
    let expected = answer(&amount_and_hour(), b"amount,hour\n1.5,2\n3,4\n").unwrap();
    assert_eq!(
        answer(&amount_and_hour(), text.as_bytes()).unwrap(),
        expected
    );
    let short = answer(&amount_and_hour(), b"hour,amount\n2,1.5\n4\n").unwrap();
    assert_eq!(short, "{\"predictions\":[3.5,null]}");
}

#[test]
fn a_model_with_a_matrix_takes_all_columns() {
    let expected = r#"{"predictions":{"x":[[1.0,null],[3.0,4.5]]}}"#;
    assert_eq!(answer(&matrix(), b"p,q\n1,\n3,4.5\n").unwrap(), expected);
}

#[test]
fn what_is_no_table_for_the_model_is_refused_with_its_place() {
    for (scorer, text, says) in [
        (amount_and_hour(), "", "is empty"),
        (amount_and_hour(), "amount,hour", "has no rows"),
        (
            amount_and_hour(),
            "amount\n1\n",
            "Model is missing inputs [\"hour\"]",
        ),
        (
            amount_and_hour(),
            "amount,amount\n1,2\n",
            "column \"amount\" stands there twice",
        ),
        (
            amount_and_hour(),
            "amount,hour\n1,2\n1,2,3\n",
            "line 3 has 3 fields, and the first one 2",
        ),
        (
            amount_and_hour(),
            "amount,hour\ninf,2\n",
            "must be a number, got the string \"inf\"",
        ),
        (
            amount_and_hour(),
            "amount,hour\n1_000,2\n",
            "column \"amount\"",
        ),
        (
            matrix(),
            "p,q\n1,2\n3\n",
            "line 3 has 1 fields, and the first one 2",
        ),
        (matrix(), "p,q\n1,x\n", "x"),
    ] {
        let refused = answer(&scorer, text.as_bytes()).unwrap_err();
        assert!(refused.mistake().is_some(), "{text}");
        assert!(refused.to_string().contains(says), "{text}: {refused}");
    }
    let refused = answer(&table(), b"a,word\n1,\xff\n")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("text/csv") && refused.contains("UTF-8"),
        "{refused}"
    );
}

/// Short lines under a long first one must not be filled up before anything is refused.
#[test]
fn memory_stays_a_few_times_the_text() {
    let wide = format!("{}\n{}", vec!["x"; 30_000].join(","), "1\n".repeat(30_000));
    let refused = answer(&amount_and_hour(), wide.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("Model is missing inputs"), "{refused}");
    let refused = answer(&matrix(), wide.as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("line 2 has 1 fields"), "{refused}");
    let longest = ",".repeat(MOST_FIELDS);
    let refused = answer(&matrix(), longest.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("more than 1048576 fields"), "{refused}");

    let tensor = TensorPlan::of(&[spec("x", DataType::F32, &[None, None])]);
    let rows = format!("a,b\n{}", ",\n".repeat(1000));
    let input = ScoringInput::new(InputForm::Csv, rows.clone().into());
    let json = split(&tensor, &input).unwrap();
    assert!(json.text().len() < 7 * rows.len(), "{}", json.text().len());

    let columns: Vec<String> = (0..1000)
        .map(|at| format!("{{\"type\":\"double\",\"name\":\"c{at}\"}}"))
        .collect();
    let many = scorer(
        &format!("[{}]", columns.join(",")),
        None,
        FakeSession::new(
            vec![spec("X", DataType::F64, &[None, Some(1000)])],
            vec![spec("y", DataType::F64, &[None])],
            |tensors| {
                let rows = tensors[0].rows().unwrap();
                vec![Tensor::new(vec![rows], TensorData::F64(vec![0.0; rows])).unwrap()]
            },
        ),
    );
    let names: Vec<String> = (0..1000).map(|at| format!("c{at}")).collect();
    let short = format!("{}\n{}", names.join(","), "1\n".repeat(10_000));
    let refused = answer(&many, short.as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("too many rows"), "{refused}");
}
