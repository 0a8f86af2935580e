//! Writes the answer of an inference: a JSON header, and after it the tensors that were wanted raw.

use std::borrow::Cow;

use edgeward_kernels::tensor::{Tensor, TensorData};
use serde_json::json;

use super::datatype::{Datatype, encode};
use super::tensors::Wanted;
use crate::model::{ScoreError, Scorer, write_values};

/// An answer: its bytes, and how many of them are the header when others follow.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) body: Vec<u8>,
    pub(super) header: Option<usize>,
}

/// Writes the outputs that are wanted. `model` and `id` are what the answer repeats.
pub(super) fn write(
    model: &str,
    id: Option<&str>,
    wanted: &[Wanted],
    scorer: &Scorer,
    outputs: &[Tensor],
) -> Result<Written, ScoreError> {
    let version = scorer.model().version.to_string();
    let mut body = Vec::with_capacity(256);
    body.extend_from_slice(b"{\"model_name\":");
    text(&mut body, model);
    body.extend_from_slice(b",\"model_version\":");
    text(&mut body, &version);
    if let Some(id) = id {
        body.extend_from_slice(b",\"id\":");
        text(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    let mut raw = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write_output(&mut body, &mut raw, *wanted, scorer, outputs)?;
    }
    body.extend_from_slice(b"]}");
    let binary = wanted.iter().any(|wanted| wanted.binary);
    let header = binary.then_some(body.len());
    body.append(&mut raw);
    Ok(Written { body, header })
}

/// An output that is wanted, under the model's name for it, as it is to be written.
pub(super) fn chosen<'t>(
    wanted: Wanted,
    scorer: &'t Scorer,
    outputs: &'t [Tensor],
) -> Result<(&'t str, Cow<'t, Tensor>), ScoreError> {
    let session = scorer.session();
    let spec = session.outputs().get(wanted.output);
    let (Some(spec), Some(tensor)) = (spec, outputs.get(wanted.output)) else {
        let name = wanted.output.to_string();
        return Err(ScoreError::Output { name });
    };
    if wanted.classes == 0 {
        return Ok((&spec.name, Cow::Borrowed(tensor)));
    }
    let labels = session.labels().get(wanted.output);
    let labels = labels.map(Vec::as_slice).unwrap_or_default();
    let classes = largest(&spec.name, tensor, wanted.classes, labels)?;
    Ok((&spec.name, Cow::Owned(classes)))
}

fn write_output(
    body: &mut Vec<u8>,
    raw: &mut Vec<u8>,
    wanted: Wanted,
    scorer: &Scorer,
    outputs: &[Tensor],
) -> Result<(), ScoreError> {
    let (name, tensor) = chosen(wanted, scorer, outputs)?;
    body.extend_from_slice(b"{\"name\":");
    text(body, name);
    body.extend_from_slice(b",\"datatype\":");
    text(body, Datatype::name(tensor.data_type()));
    body.extend_from_slice(b",\"shape\":");
    body.extend_from_slice(json!(tensor.shape()).to_string().as_bytes());
    if wanted.binary {
        let before = raw.len();
        encode(raw, tensor.data());
        let parameters = json!({"binary_data_size": raw.len() - before});
        body.extend_from_slice(b",\"parameters\":");
        body.extend_from_slice(parameters.to_string().as_bytes());
    } else {
        body.extend_from_slice(b",\"data\":");
        write_values(body, &tensor);
    }
    body.push(b'}');
    Ok(())
}

/// The largest `classes` numbers of each row as `value:place`, or `value:place:label` where the model has
/// names for them.
fn largest(
    name: &str,
    tensor: &Tensor,
    classes: usize,
    labels: &[String],
) -> Result<Tensor, ScoreError> {
    let refuse = |problem: &str| ScoreError::bad_request(format!("output {name:?} {problem}"));
    let numbers =
        numbers(tensor.data()).ok_or_else(|| refuse("has no classes: it is no number"))?;
    let (rows, width) = match tensor.shape() {
        [] => (1, 1),
        [width] => (1, *width),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    };
    let classes = classes.min(width);
    let mut texts = Vec::with_capacity(rows * classes);
    for row in numbers.chunks(width.max(1)) {
        let mut places: Vec<usize> = (0..row.len()).collect();
        let value = |place: usize| row.get(place).copied().unwrap_or(f64::NAN);
        // NaN last: `total_cmp` has it above all numbers.
        let key = |place: &usize| {
            let value = value(*place);
            if value.is_nan() {
                f64::NEG_INFINITY
            } else {
                value
            }
        };
        places.sort_by(|a, b| key(b).total_cmp(&key(a)));
        for place in places.into_iter().take(classes) {
            let mut text = format!("{:.6}:{place}", value(place));
            if let Some(label) = labels.get(place) {
                text.push(':');
                text.push_str(label);
            }
            texts.push(text);
        }
    }
    let shape = match tensor.shape() {
        [] | [_] => vec![texts.len()],
        _ => vec![rows, classes],
    };
    Tensor::new(shape, TensorData::String(texts)).map_err(|error| refuse(&error.to_string()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with six decimals, in their order"
)]
fn numbers(data: &TensorData) -> Option<Vec<f64>> {
    fn wide<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
        values.iter().map(|value| (*value).into()).collect()
    }
    Some(match data {
        TensorData::Bool(values) => values
            .iter()
            .map(|value| f64::from(u8::from(*value)))
            .collect(),
        TensorData::U8(values) => wide(values),
        TensorData::U16(values) => wide(values),
        TensorData::U32(values) => wide(values),
        TensorData::U64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::I8(values) => wide(values),
        TensorData::I16(values) => wide(values),
        TensorData::I32(values) => wide(values),
        TensorData::I64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::F32(values) => wide(values),
        TensorData::F64(values) => values.clone(),
        TensorData::String(_) => return None,
    })
}

/// A text as JSON.
fn text(body: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    drop(serde_json::to_writer(body, text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_each_row_are_named() {
        let data = TensorData::F32(vec![0.25, 0.75, f32::NAN, 3.0, 2.0, 1.0]);
        let tensor = Tensor::new(vec![2, 3], data).unwrap();
        let labels = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let classes = largest("y", &tensor, 2, &labels).unwrap();
        assert_eq!(classes.shape(), [2, 2]);
        let expected = [
            "0.750000:1:b",
            "0.250000:0:a",
            "3.000000:0:a",
            "2.000000:1:b",
        ];
        let expected = expected.map(str::to_owned).to_vec();
        assert_eq!(*classes.data(), TensorData::String(expected));
        assert_eq!(largest("y", &tensor, 9, &[]).unwrap().shape(), [2, 3]);
        let texts = Tensor::new(vec![1], TensorData::String(vec!["a".into()])).unwrap();
        assert!(largest("y", &texts, 1, &[]).is_err());
    }
}
