//! The body of an invocation: exactly one input form, and what may ride along with it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{InputForm, ScoreError, ScoringInput};

/// An invocation of a tabular model.
#[derive(Debug, Clone)]
pub struct ScoringRequest {
    /// The rows.
    pub input: ScoringInput,
    /// The client's own name for the request; it goes into the inference table.
    pub client_request_id: Option<String>,
    /// Whatever the client wants to find again in the inference table.
    pub usage_context: BTreeMap<String, String>,
}

const FORMS: [InputForm; 4] = [
    InputForm::DataframeSplit,
    InputForm::DataframeRecords,
    InputForm::Inputs,
    InputForm::Instances,
];

const ALLOWED: &str = "the body must be a JSON object with exactly one of dataframe_split, \
                       dataframe_records, inputs, instances; params, client_request_id and \
                       usage_context may stand beside it";

/// Reads a body. `params` is accepted beside any form and read by no ONNX model.
///
/// # Errors
/// [`ScoreError::Refused`] with [`Mistake::BadRequest`](super::Mistake::BadRequest), always.
pub fn parse_scoring_body(body: &Bytes) -> Result<ScoringRequest, ScoreError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ScoreError::bad_request(format!(
            "the body is empty: {ALLOWED}"
        )));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut visitor = BodyVisitor {
        body,
        found: Found::default(),
        refused: None,
    };
    let read = reader
        .deserialize_any(&mut visitor)
        .and_then(|()| reader.end());
    if let Some(refused) = visitor.refused {
        return Err(refused);
    }
    read.map_err(|error| not_json(&error))?;
    let found = visitor.found;
    let input = found.input.ok_or_else(|| {
        ScoreError::bad_request(format!("the body has none of the input forms: {ALLOWED}"))
    })?;
    Ok(ScoringRequest {
        input,
        client_request_id: found.client_request_id,
        usage_context: found.usage_context,
    })
}

/// Takes a body of comma-separated text, which is read when the model is known.
///
/// # Errors
/// [`ScoreError::Refused`] when it is empty.
pub fn parse_csv_body(body: &Bytes) -> Result<ScoringRequest, ScoreError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ScoreError::bad_request(
            "the body is empty: the first line must name the columns, the others are rows",
        ));
    }
    Ok(ScoringRequest {
        input: ScoringInput::new(InputForm::Csv, body.clone()),
        client_request_id: None,
        usage_context: BTreeMap::new(),
    })
}

fn not_json(error: &serde_json::Error) -> ScoreError {
    ScoreError::bad_request(if error.is_data() {
        format!("{ALLOWED} ({error})")
    } else {
        format!("the body is not valid JSON: {error}")
    })
}

#[derive(Default)]
struct Found {
    input: Option<ScoringInput>,
    client_request_id: Option<String>,
    usage_context: BTreeMap<String, String>,
}

/// Reads the keys; keeps the first refusal, because a serde error carries only text.
struct BodyVisitor<'b> {
    body: &'b Bytes,
    found: Found,
    refused: Option<ScoreError>,
}

impl BodyVisitor<'_> {
    fn refuse<E: serde::de::Error>(&mut self, message: String) -> E {
        self.refused
            .get_or_insert_with(|| ScoreError::bad_request(message));
        E::custom("refused")
    }

    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if let Some(form) = FORMS.into_iter().find(|form| form.as_str() == key) {
            if let Some(first) = &self.found.input {
                let both = format!("the body has {} and {form}: {ALLOWED}", first.form());
                return Err(self.refuse(both));
            }
            let raw: &'de RawValue = map.next_value()?;
            let json = self.body.slice_ref(raw.get().as_bytes());
            self.found.input = Some(ScoringInput::new(form, json));
            return Ok(());
        }
        match key {
            "params" => map.next_value::<IgnoredAny>().map(|_| ()),
            "client_request_id" => {
                let raw: &'de RawValue = map.next_value()?;
                self.found.client_request_id = serde_json::from_str(raw.get()).map_err(|_| {
                    self.refuse::<A::Error>("client_request_id must be a string or null".into())
                })?;
                Ok(())
            }
            "usage_context" => {
                let raw: &'de RawValue = map.next_value()?;
                let context: Option<BTreeMap<String, String>> = serde_json::from_str(raw.get())
                    .map_err(|_| {
                        let wanted = "usage_context must be an object of strings, or null";
                        self.refuse::<A::Error>(wanted.into())
                    })?;
                self.found.usage_context = context.unwrap_or_default();
                Ok(())
            }
            other => {
                let shown: String = other.chars().take(80).collect();
                Err(self.refuse(format!("the body has the unknown key {shown:?}: {ALLOWED}")))
            }
        }
    }
}

impl<'de> Visitor<'de> for &mut BodyVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with one input form")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            self.take(&key, &mut map)?;
        }
        Ok(())
    }
}
