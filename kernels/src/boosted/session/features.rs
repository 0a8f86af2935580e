//! From input tensors to one matrix of features, categories as their numbers.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::boosted::categories::Categories;
use crate::boosted::model::{Features, Precision, Unseen};
use crate::engine::RunModelError;
use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};

/// How many rows the example has.
const EXAMPLE_ROWS: usize = 16;

impl Features {
    /// The inputs of a session.
    pub(super) fn specs(&self) -> Vec<TensorSpec> {
        if !self.in_words() {
            return vec![TensorSpec {
                name: "features".to_owned(),
                data_type: DataType::F64,
                shape: vec![None, Some(self.width)],
            }];
        }
        (0..self.width)
            .map(|feature| TensorSpec {
                name: self.name(feature),
                data_type: match self.categories(feature) {
                    Some(Categories::Words(_)) => DataType::String,
                    _ => DataType::F64,
                },
                shape: vec![None, Some(1)],
            })
            .collect()
    }

    /// Whether some feature has texts as categories: then each feature is an input of its own.
    pub(super) fn in_words(&self) -> bool {
        let words =
            |categories: &Option<Categories>| matches!(categories, Some(Categories::Words(_)));
        self.categories.iter().any(words)
    }

    /// Whether a row can be refused for what stands in it.
    pub(super) fn refuses(&self) -> bool {
        self.unseen == Unseen::Refused && self.categories.iter().any(Option::is_some)
    }

    fn name(&self, feature: usize) -> String {
        let name = self.names.get(feature).cloned();
        name.unwrap_or_else(|| feature.to_string())
    }

    fn categories(&self, feature: usize) -> Option<&Categories> {
        self.categories.get(feature)?.as_ref()
    }

    /// The matrix of the inputs, row-major, and how many rows it has.
    pub(super) fn read<'t>(
        &self,
        specs: &[TensorSpec],
        inputs: &'t [Tensor],
        precision: Precision,
    ) -> Result<(Cow<'t, [f64]>, usize), RunModelError> {
        let count = check(specs, inputs)?;
        let mut rows = match inputs {
            [matrix] if !self.in_words() => match matrix.data() {
                TensorData::F64(values) => Cow::Borrowed(values.as_slice()),
                _ => Cow::Borrowed([].as_slice()),
            },
            columns => Cow::Owned(self.interleave(columns, count)?),
        };
        if !self.in_words() && self.categories.iter().any(Option::is_some) {
            let width = self.width.max(1);
            for (at, x) in rows.to_mut().iter_mut().enumerate() {
                if let Some(categories) = self.categories(at % width) {
                    let found = categories.of_number(*x);
                    *x = self.seen(found, (at / width, at % width), x)?;
                }
            }
        }
        if precision == Precision::Single {
            self.refuse_overflow(&rows)?;
        }
        Ok((rows, count))
    }

    /// One matrix of one tensor per feature.
    fn interleave(&self, columns: &[Tensor], count: usize) -> Result<Vec<f64>, RunModelError> {
        let mut rows = vec![f64::NAN; count * self.width];
        for (feature, column) in columns.iter().enumerate() {
            let places = rows.iter_mut().skip(feature).step_by(self.width.max(1));
            let categories = self.categories(feature);
            match column.data() {
                TensorData::F64(values) => {
                    for ((row, place), x) in places.enumerate().zip(values) {
                        *place = match categories {
                            Some(known) => self.seen(known.of_number(*x), (row, feature), x)?,
                            None => *x,
                        };
                    }
                }
                TensorData::String(values) => {
                    for ((row, place), word) in places.enumerate().zip(values) {
                        let found = categories.and_then(|known| known.of_word(word));
                        *place = self.seen(found, (row, feature), word)?;
                    }
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The number of a category, or what the framework makes of one that it has not seen.
    fn seen(
        &self,
        found: Option<f64>,
        (row, feature): (usize, usize),
        cell: &impl std::fmt::Debug,
    ) -> Result<f64, RunModelError> {
        match (found, self.unseen) {
            (Some(number), _) => Ok(number),
            (None, Unseen::Missing) => Ok(f64::NAN),
            (None, Unseen::Refused) => Err(RunModelError::InputValue {
                name: self.name(feature),
                row,
                reason: format!("{cell:?} is a category that the training data did not have"),
            }),
        }
    }

    /// A number beyond `f32` would become infinite, which `XGBoost` refuses.
    fn refuse_overflow(&self, rows: &[f64]) -> Result<(), RunModelError> {
        let over = |x: &f64| x.abs() > f64::from(f32::MAX);
        match rows.iter().position(over) {
            Some(at) => Err(RunModelError::InputValue {
                name: self.name(at % self.width.max(1)),
                row: at / self.width.max(1),
                reason: "the number is beyond the range of float32".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Rows with values at which the trees decide, with known categories, and with gaps.
    pub(super) fn example(
        &self,
        specs: &[TensorSpec],
        telling: &HashMap<usize, Vec<f64>>,
    ) -> Option<Vec<Tensor>> {
        let number = |row: usize, feature: usize| {
            let known = self.categories(feature).and_then(Categories::in_numbers);
            let mut values = known.unwrap_or_else(|| {
                let decided = telling.get(&feature).cloned().unwrap_or_default();
                [decided, vec![0.0, 1.0, 2.0, -0.5]].concat()
            });
            values.push(f64::NAN);
            pick(&values, row, feature).copied().unwrap_or(f64::NAN)
        };
        let word = |row: usize, feature: usize| {
            let words = self.categories(feature)?.in_words()?;
            // One more, for the missing cell.
            Some(
                pick(&[words, vec![""]].concat(), row, feature)
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        let rows = 0..EXAMPLE_ROWS;
        let tensor = |(feature, spec): (usize, &TensorSpec)| {
            let width = spec.shape.last().copied().flatten()?;
            let data = if spec.data_type == DataType::String {
                let words = rows.clone().map(|row| word(row, feature));
                TensorData::String(words.collect::<Option<_>>()?)
            } else {
                let cells = rows
                    .clone()
                    .flat_map(|row| (0..width).map(move |column| (row, feature + column)));
                TensorData::F64(cells.map(|(row, feature)| number(row, feature)).collect())
            };
            Tensor::new(vec![EXAMPLE_ROWS, width], data).ok()
        };
        specs.iter().enumerate().map(tensor).collect()
    }
}

/// Spreads a list over rows, differently for each feature.
fn pick<T>(values: &[T], row: usize, feature: usize) -> Option<&T> {
    let at = (row * (2 * (feature % 5) + 1) + feature).checked_rem(values.len())?;
    values.get(at)
}

/// Holds inputs against their specs, and answers how many rows they have.
fn check(specs: &[TensorSpec], inputs: &[Tensor]) -> Result<usize, RunModelError> {
    if specs.len() != inputs.len() {
        return Err(RunModelError::InputCount {
            expected: specs.len(),
            got: inputs.len(),
        });
    }
    let rows = inputs.first().and_then(Tensor::rows).unwrap_or_default();
    for (spec, input) in specs.iter().zip(inputs) {
        if spec.data_type != input.data_type() {
            return Err(RunModelError::InputType {
                name: spec.name.clone(),
                expected: spec.data_type,
                got: input.data_type(),
            });
        }
        if !spec.admits(input.shape()) || input.rows() != Some(rows) {
            let mut expected = spec.shape.clone();
            if spec.admits(input.shape())
                && let Some(first) = expected.first_mut()
            {
                *first = Some(rows);
            }
            return Err(RunModelError::InputShape {
                name: spec.name.clone(),
                expected,
                got: input.shape().to_vec(),
            });
        }
    }
    Ok(rows)
}
