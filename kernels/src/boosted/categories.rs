//! Categories that a model knows by name: from a cell to the number that its trees ask for.

use std::collections::HashMap;

use serde_json::Value;

/// The categories of one feature.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Categories {
    /// Texts, each with its number.
    Words(HashMap<String, u32>),
    /// Numbers, by their bits, each with its own.
    Numbers(HashMap<u64, u32>),
}

/// A category that is neither text nor number, or texts beside numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("categories are neither all texts nor all numbers: {found}")]
pub(super) struct MixedCategoriesError {
    found: String,
}

impl Categories {
    /// The texts, numbered in their order.
    pub(super) fn words(words: impl IntoIterator<Item = String>) -> Self {
        Self::Words(words.into_iter().zip(0..).collect())
    }

    /// The numbers, numbered in their order.
    pub(super) fn numbers(numbers: impl IntoIterator<Item = f64>) -> Self {
        Self::Numbers(numbers.into_iter().map(bits).zip(0..).collect())
    }

    /// A list in JSON; true and false are 1 and 0, as they are in a table.
    pub(super) fn of_json(list: &[Value]) -> Result<Self, MixedCategoriesError> {
        let words: Option<Vec<String>> = list
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect();
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            return Ok(Self::words(words));
        }
        let number = |value: &Value| {
            let truth = value.as_bool().map(|truth| f64::from(u8::from(truth)));
            value.as_f64().or(truth)
        };
        let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
        numbers
            .map(Self::numbers)
            .ok_or_else(|| MixedCategoriesError {
                found: Value::from(list).to_string().chars().take(80).collect(),
            })
    }

    /// The number of a text; NaN for the empty one, which stands for a missing cell, unless it is a
    /// category.
    pub(super) fn of_word(&self, word: &str) -> Option<f64> {
        let known = match self {
            Self::Words(words) => words.get(word).copied().map(f64::from),
            Self::Numbers(_) => None,
        };
        known.or_else(|| word.is_empty().then_some(f64::NAN))
    }

    /// The number of a number; NaN stays.
    pub(super) fn of_number(&self, number: f64) -> Option<f64> {
        let known = match self {
            Self::Words(_) => None,
            Self::Numbers(numbers) => numbers.get(&bits(number)).copied().map(f64::from),
        };
        known.or_else(|| number.is_nan().then_some(f64::NAN))
    }

    /// The categories as texts in their order, where they are that.
    pub(super) fn in_words(&self) -> Option<Vec<&str>> {
        let Self::Words(words) = self else {
            return None;
        };
        let mut sorted: Vec<(&str, u32)> = words.iter().map(|(word, at)| (&**word, *at)).collect();
        sorted.sort_by_key(|(_, at)| *at);
        Some(sorted.into_iter().map(|(word, _)| word).collect())
    }

    /// The categories as numbers in their order, where they are that.
    pub(super) fn in_numbers(&self) -> Option<Vec<f64>> {
        let Self::Numbers(numbers) = self else {
            return None;
        };
        let mut sorted: Vec<(u64, u32)> = numbers.iter().map(|(bits, at)| (*bits, *at)).collect();
        sorted.sort_by_key(|(_, at)| *at);
        Some(
            sorted
                .into_iter()
                .map(|(bits, _)| f64::from_bits(bits))
                .collect(),
        )
    }
}

/// Equal numbers have equal bits, but for 0 and -0.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}
