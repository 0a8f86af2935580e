//! Tables as comma-separated text, taken as `pandas.read_csv` takes them.
//!
//! - The first line names the columns; one without a name is called `Unnamed: 0` by its place. A field
//!   may stand in double quotes, and lines of nothing but space are skipped.
//! - What pandas takes for missing (nothing, `NA`, `NaN`, `null`, ...) is null, in a column of text too.
//!   A line that is short lacks its last columns.
//! - Any other field of a column of text is text; elsewhere it is a number or a truth value where it
//!   reads as one, and otherwise text, which the column's type then refuses by name.
//!
//! For a model with columns, cells go straight to where they belong. For one with tensors the text
//! becomes a split table in JSON, which is read as any other; no line may be short then, so that the
//! JSON is no more than a few times the text.

use std::borrow::Cow;

use csv::StringRecord;
use edgeward_kernels::tensor::Tensor;
use serde_json::Value;

use super::binding::{ColumnPlan, Slot, TensorPlan};
use super::cell::Cell;
use super::table::Table;
use super::{InputForm, ScoreError, ScoringInput};
use crate::model::signature::ColumnType;

/// The most fields of a line: each takes some bytes of memory beside its text.
const MOST_FIELDS: usize = 1 << 20;

/// What pandas reads as missing.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Reads a table for a model with columns.
pub(super) fn read(plan: &ColumnPlan, input: &ScoringInput) -> Result<Vec<Tensor>, ScoreError> {
    let mut table = Table::new(plan, input);
    let mut lines = Lines::open(input.text())?;
    // For each column of the text where it belongs, and whether it is text there.
    let mut header: Vec<Option<(usize, bool)>> = Vec::with_capacity(plan.slots.len());
    let mut named = vec![false; plan.slots.len()];
    for name in &lines.header {
        let found = table.find(name, header.len());
        if let Some(named) = found.and_then(|at| named.get_mut(at))
            && std::mem::replace(named, true)
        {
            return Err(refuse(format!("column {name:?} stands there twice")));
        }
        header.push(found.map(|at| (at, plan.slots.get(at).is_some_and(is_text))));
    }
    while let Some(line) = lines.next()? {
        table.begin_row()?;
        for (field, column) in line.iter().zip(&header) {
            if let Some((position, is_text)) = column {
                table.put(*position, cell(field, *is_text))?;
            }
        }
        table.end_row();
    }
    for (position, named) in named.into_iter().enumerate() {
        if !named {
            table.lack(position);
        }
    }
    table.finish()
}

fn is_text(slot: &Slot) -> bool {
    use ColumnType::{Binary, Datetime, String};
    matches!(slot.column.column_type, String | Binary | Datetime)
}

/// The table for a model with tensors, as a split table in JSON.
pub(super) fn split(plan: &TensorPlan, input: &ScoringInput) -> Result<ScoringInput, ScoreError> {
    let mut lines = Lines::open(input.text())?;
    let texts: Vec<bool> = lines.header.iter().map(|name| plan.is_text(name)).collect();
    let mut json = b"{\"columns\":[".to_vec();
    for (at, name) in lines.header.iter().enumerate() {
        write(&mut json, at, &Cell::Text(Cow::Borrowed(name)));
    }
    json.extend_from_slice(b"],\"data\":[");
    let mut rows = 0;
    while let Some(line) = lines.next()? {
        if line.len() < texts.len() {
            let got = format!("{} fields, and the first one {}", line.len(), texts.len());
            return Err(refuse(format!("{} has {got}", place(line))));
        }
        json.extend_from_slice(if rows == 0 { b"[" } else { b",[" });
        for (at, (field, is_text)) in line.iter().zip(&texts).enumerate() {
            write(&mut json, at, &cell(field, *is_text));
        }
        json.push(b']');
        rows += 1;
    }
    json.extend_from_slice(b"]}");
    Ok(ScoringInput::new(InputForm::Csv, json.into()))
}

fn refuse(problem: impl std::fmt::Display) -> ScoreError {
    ScoreError::bad_request(format!("text/csv: {problem}"))
}

fn place(line: &StringRecord) -> String {
    let number = line.position().map_or(0, csv::Position::line);
    format!("line {number}")
}

/// The lines of a table.
struct Lines<'t> {
    reader: csv::Reader<&'t [u8]>,
    header: Vec<String>,
    line: StringRecord,
}

impl<'t> Lines<'t> {
    fn open(text: &'t [u8]) -> Result<Self, ScoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let fields = |line: &[u8]| line.iter().filter(|byte| **byte == b',').count();
        if text
            .split(|byte| *byte == b'\n')
            .any(|line| fields(line) >= MOST_FIELDS)
        {
            return Err(refuse(format!("a line has more than {MOST_FIELDS} fields")));
        }
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(false).flexible(true);
        let mut lines = Self {
            reader: builder.from_reader(text),
            header: Vec::new(),
            line: StringRecord::new(),
        };
        let Some(names) = lines.next()? else {
            return Err(refuse("the first line must name the columns"));
        };
        let names = names.iter().enumerate();
        let named = names.map(|(at, name)| match name {
            "" => format!("Unnamed: {at}"),
            name => name.to_owned(),
        });
        lines.header = named.collect();
        Ok(lines)
    }

    /// The next line that is not blank; it has no more fields than there are columns.
    fn next(&mut self) -> Result<Option<&StringRecord>, ScoreError> {
        loop {
            let read = self.reader.read_record(&mut self.line);
            if !read.map_err(refuse)? {
                return Ok(None);
            }
            let is_blank = |field: &str| !field.is_empty() && field.trim().is_empty();
            if self.line.len() == 1 && self.line.get(0).is_some_and(is_blank) {
                continue;
            }
            let columns = self.header.len();
            if columns > 0 && self.line.len() > columns {
                let got = format!("{} fields, and the first one {columns}", self.line.len());
                return Err(refuse(format!("{} has {got}", place(&self.line))));
            }
            return Ok(Some(&self.line));
        }
    }
}

/// What a field says.
fn cell(field: &str, is_text: bool) -> Cell<'_> {
    if MISSING.contains(&field) {
        return Cell::Null;
    }
    let text = || Cell::Text(Cow::Borrowed(field));
    if is_text {
        return text();
    }
    let number = field.trim();
    if let Ok(whole) = number.parse() {
        return Cell::Int(whole);
    }
    if let Ok(whole) = number.parse() {
        return Cell::Big(whole);
    }
    match number {
        "True" | "TRUE" | "true" => Cell::Bool(true),
        "False" | "FALSE" | "false" => Cell::Bool(false),
        // As in JSON, infinity is no number.
        _ => match number.parse() {
            Ok(real) if f64::is_finite(real) => Cell::Float(real),
            _ => text(),
        },
    }
}

/// Writes a cell as JSON, after a comma where it is not the first.
fn write(json: &mut Vec<u8>, at: usize, cell: &Cell<'_>) {
    if at > 0 {
        json.push(b',');
    }
    let value = match cell {
        Cell::Bool(value) => Value::from(*value),
        Cell::Int(value) => Value::from(*value),
        Cell::Big(value) => Value::from(*value),
        Cell::Float(value) => Value::from(*value),
        Cell::Text(text) => Value::from(text.as_ref()),
        Cell::Null | Cell::List | Cell::Object => Value::Null,
    };
    // Writing to memory cannot fail, and neither can these plain values.
    if serde_json::to_writer(&mut *json, &value).is_err() {
        json.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests;
