//! Invocations: dataframes and tensors in JSON, and tables as CSV.

use bytes::Bytes;
use edgeward::model::{InputForm, Scorer, ScoringInput, parse_csv_body, parse_scoring_body};
use edgeward_kernels::tensor::Tensor;
use serde_json::Value;

use super::{claims, models};

/// What the tensors of a small table may always take: the product says the same.
const FLOOR: usize = 1 << 20;

/// An invocation in one of the four forms of JSON; whether it is answered.
///
/// # Panics
/// When the product breaks a claim.
pub fn dataframe_json(data: &[u8]) -> bool {
    let Some((number, body)) = data.split_first() else {
        return false;
    };
    let scorer = models::pick(models::tables(), *number);
    let body = Bytes::copy_from_slice(body);
    let request = match parse_scoring_body(&body) {
        Ok(request) => request,
        Err(refused) => return claims::refused(&refused),
    };
    let Some(tensors) = prepared(scorer, &request.input) else {
        return false;
    };
    if let Ok(body) = serde_json::from_slice::<Value>(&body) {
        counted(
            &body[request.input.form().as_str()],
            request.input.form(),
            scorer,
            &tensors,
        );
    }
    answered(scorer, &tensors)
}

/// An invocation as comma-separated text; whether it is answered.
///
/// # Panics
/// When the product breaks a claim.
pub fn csv(data: &[u8]) -> bool {
    let Some((number, body)) = data.split_first() else {
        return false;
    };
    let scorer = models::pick(models::tables(), *number);
    let body = Bytes::copy_from_slice(body);
    let request = match parse_csv_body(&body) {
        Ok(request) => request,
        Err(refused) => return claims::refused(&refused),
    };
    let Some(tensors) = prepared(scorer, &request.input) else {
        return false;
    };
    // The first line names the columns, and the last one may lack its end.
    let ends = body.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    let lines = ends.count();
    let rows = tensors.first().and_then(Tensor::rows);
    assert!(
        rows.is_some_and(|rows| rows <= lines),
        "{rows:?} rows of {lines} lines"
    );
    answered(scorer, &tensors)
}

fn prepared(scorer: &Scorer, input: &ScoringInput) -> Option<Vec<Tensor>> {
    match scorer.prepare(input) {
        Ok(tensors) => {
            claims::accepted(
                scorer.session().inputs(),
                &tensors,
                input.text().len(),
                FLOOR,
            );
            // Every model here has its rows free.
            let rows = tensors.first().and_then(Tensor::rows);
            assert!(
                tensors.iter().all(|tensor| tensor.rows() == rows),
                "{tensors:?}"
            );
            Some(tensors)
        }
        Err(refused) => {
            claims::refused(&refused);
            None
        }
    }
}

/// The rows that were read are those that the body has, by a reader that knows nothing of models.
fn counted(rows: &Value, form: InputForm, scorer: &Scorer, tensors: &[Tensor]) {
    let read = tensors.first().and_then(Tensor::rows);
    let sent = match (form, rows) {
        (InputForm::DataframeSplit, Value::Object(split)) => split["data"].as_array().map(Vec::len),
        (_, Value::Array(rows)) => Some(rows.len()),
        (_, Value::Object(columns)) => {
            let known = scorer.input_names().into_iter();
            let mut sent = known.filter_map(|name| Some(columns.get(name)?.as_array()?.len()));
            sent.next()
        }
        _ => None,
    };
    if let Some(sent) = sent {
        assert_eq!(read, Some(sent), "{form}: {rows}");
    }
}

/// What was accepted is answered, with a prediction for each row.
fn answered(scorer: &Scorer, tensors: &[Tensor]) -> bool {
    let outputs = match scorer.run(tensors) {
        Ok(outputs) => outputs,
        Err(refused) => return claims::refused(&refused),
    };
    let predictions = scorer.render(&outputs).expect("outputs as declared");
    let answer: Value = serde_json::from_slice(predictions.body()).expect("an answer is JSON");
    let rows = tensors.first().and_then(Tensor::rows);
    match &answer["predictions"] {
        Value::Array(list) => assert_eq!(Some(list.len()), rows),
        Value::Object(named) => {
            for (name, list) in named {
                assert_eq!(list.as_array().map(Vec::len), rows, "{name}");
            }
        }
        other => panic!("predictions are {other}"),
    }
    true
}
