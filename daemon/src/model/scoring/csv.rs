//! Tables as comma-separated text, taken as `pandas.read_csv` takes them.
//!
//! - The first line names the columns. A field may stand in double quotes; a line that is short lacks
//!   its last columns.
//! - What pandas takes for missing (nothing, `NA`, `NaN`, `null`, ...) is null, in a column of text too.
//! - Any other field of a column of text is text; elsewhere it is a number or a truth value where it
//!   reads as one, and otherwise text, which the column's type then refuses by name.
//!
//! The text becomes a split table, which is read as the one in JSON is.

use serde_json::Value;

use super::{InputForm, ScoreError, ScoringInput};

/// The most bytes of JSON that one of the text becomes: an empty field and its comma are `null,`.
pub(super) const GROWTH: usize = 5;

/// What pandas reads as missing.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The same table in JSON. `is_text` says whether a column holds text.
///
/// # Errors
/// [`ScoreError::Refused`], with the line that cannot be read.
pub(super) fn split(
    input: &ScoringInput,
    is_text: impl Fn(&str) -> bool,
) -> Result<ScoringInput, ScoreError> {
    let text = input
        .text
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(&input.text);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let refuse = |error: &csv::Error| ScoreError::bad_request(format!("text/csv: {error}"));
    let header = reader.headers().map_err(|error| refuse(&error))?.clone();
    let texts: Vec<bool> = header.iter().map(is_text).collect();
    let mut json = Vec::with_capacity(input.text.len());
    json.extend_from_slice(b"{\"columns\":");
    write(
        &mut json,
        &header.iter().map(Value::from).collect::<Vec<_>>().into(),
    );
    json.extend_from_slice(b",\"data\":[");
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    while reader
        .read_record(&mut record)
        .map_err(|error| refuse(&error))?
    {
        if record.len() > header.len() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(ScoreError::bad_request(format!(
                "text/csv: line {line} has {} fields, and the first line names {} columns",
                record.len(),
                header.len()
            )));
        }
        json.extend_from_slice(if rows == 0 { b"[" } else { b",[" });
        for (at, is_text) in texts.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            write(
                &mut json,
                &cell(record.get(at).unwrap_or_default(), *is_text),
            );
        }
        json.push(b']');
        rows += 1;
    }
    json.extend_from_slice(b"]}");
    Ok(ScoringInput::new(InputForm::Csv, json.into()))
}

/// What a field says.
fn cell(field: &str, is_text: bool) -> Value {
    if MISSING.contains(&field) {
        return Value::Null;
    }
    if is_text {
        return field.into();
    }
    let number = field.trim();
    if let Ok(whole) = number.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.into();
    }
    match number {
        "True" | "TRUE" | "true" => true.into(),
        "False" | "FALSE" | "false" => false.into(),
        // Infinity is no number in JSON, and no model is asked it.
        _ => match number.parse::<f64>() {
            Ok(real) if real.is_finite() => real.into(),
            _ => field.into(),
        },
    }
}

fn write(json: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail, and neither can these plain values.
    if serde_json::to_writer(&mut *json, value).is_err() {
        json.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<String, ScoreError> {
        let input = ScoringInput::new(InputForm::Csv, text.to_owned().into());
        let split = split(&input, |name| name == "word")?;
        assert!(split.text.len() <= 64 + GROWTH * text.len(), "{text}");
        Ok(String::from_utf8(split.text.to_vec()).unwrap())
    }

    #[test]
    fn fields_become_cells_as_pandas_reads_them() {
        for (text, columns, data) in [
            ("a,word\n1,x\n", r#""a","word""#, r#"[1,"x"]"#),
            (
                "\u{feff}a,word\r\n-2.5,\"x, \"\"y\"\"\"\r\n",
                r#""a","word""#,
                r#"[-2.5,"x, \"y\""]"#,
            ),
            (
                "word,a\n7,\nNA,nan",
                r#""word","a""#,
                r#"["7",null],[null,null]"#,
            ),
            ("a,b\n1\n\n2,3\n", r#""a","b""#, "[1,null],[2,3]"),
            ("a\nTrue\n false\n", r#""a""#, "[true],[false]"),
            (
                "a\n1e3\n+4\n18446744073709551615\n",
                r#""a""#,
                "[1000.0],[4],[18446744073709551615]",
            ),
            ("a\ninf\n1_000\n", r#""a""#, r#"["inf"],["1_000"]"#),
            ("a,b", r#""a","b""#, ""),
        ] {
            let expected = format!("{{\"columns\":[{columns}],\"data\":[{data}]}}");
            assert_eq!(table(text).unwrap(), expected, "{text}");
        }
        let commas = format!("a{}\n{}", ",b".repeat(99), ",".repeat(99));
        assert!(table(&commas).unwrap().contains("[null,null"));
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        let refused = table("a,b\n1,2\n1,2,3\n").unwrap_err().to_string();
        assert!(refused.contains("line 3 has 3 fields"), "{refused}");
        let input = ScoringInput::new(InputForm::Csv, bytes::Bytes::from_static(b"a\n\xff\n"));
        let refused = split(&input, |_| true).unwrap_err().to_string();
        assert!(
            refused.contains("text/csv") && refused.contains("UTF-8"),
            "{refused}"
        );
    }
}
