//! `TfIdfVectorizer`: counts the n-grams of a pool in sequences of words or of integers.
//!
//! The pool has its n-grams by length, shortest first: `ngram_counts[n]` says where those of length
//! `n + 1` begin. `ngram_indexes` says in which column each is counted. A gram may skip up to
//! `max_skip_count` items between its own.

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::{Build, Operator, Port};
use crate::tract::operator::{only, only_tensor};

/// Counts n-grams.
#[derive(Debug)]
pub(super) struct TfIdfVectorizer {
    pool: Pool,
    /// How long grams are.
    lengths: std::ops::RangeInclusive<usize>,
    most_skipped: usize,
    columns: usize,
    /// What a count becomes.
    mode: Mode,
    /// Of each n-gram of the pool.
    weights: Option<Vec<f32>>,
}

/// The columns of the n-grams, with their position in the pool.
#[derive(Debug)]
enum Pool {
    Integers(Grams<i64>),
    Strings(Grams<String>),
}

type Grams<T> = HashMap<Vec<T>, (usize, usize)>;

#[derive(Debug)]
enum Mode {
    Count,
    Weight,
    CountTimesWeight,
}

impl Build for TfIdfVectorizer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let counts: Vec<usize> = node.get_attr_vec("ngram_counts")?;
        let indexes: Vec<usize> = node.get_attr_vec("ngram_indexes")?;
        let integers = node.get_attr_opt_vec::<i64>("pool_int64s")?;
        let strings = node.get_attr_opt_vec::<String>("pool_strings")?;
        let integers = integers.filter(|pool| !pool.is_empty());
        let strings = strings.filter(|pool| !pool.is_empty());
        let pool = match (integers, strings) {
            (Some(pool), None) => Pool::Integers(grams(&pool, &counts, &indexes)?),
            (None, Some(pool)) => Pool::Strings(grams(&pool, &counts, &indexes)?),
            _ => bail!("TfIdfVectorizer needs either pool_int64s or pool_strings"),
        };
        let columns = indexes.iter().max().context("ngram_indexes is empty")? + 1;
        let mode = match node.get_attr::<&str>("mode")? {
            "TF" => Mode::Count,
            "IDF" => Mode::Weight,
            "TFIDF" => Mode::CountTimesWeight,
            other => bail!("mode is {other:?}, not TF, IDF or TFIDF"),
        };
        let weights = node.get_attr_opt_vec::<f32>("weights")?;
        let weights = weights.filter(|weights| !weights.is_empty());
        ensure!(
            weights
                .as_ref()
                .is_none_or(|weights| weights.len() == indexes.len()),
            "TfIdfVectorizer has as many weights as n-grams"
        );
        let shortest: usize = node.get_attr("min_gram_length")?;
        ensure!(shortest > 0, "an n-gram has at least one item");
        Ok(Self {
            pool,
            lengths: shortest..=node.get_attr("max_gram_length")?,
            most_skipped: node.get_attr("max_skip_count")?,
            columns,
            mode,
            weights,
        })
    }
}

/// The n-grams of a pool.
fn grams<T: Clone + Eq + Hash>(
    pool: &[T],
    counts: &[usize],
    indexes: &[usize],
) -> TractResult<Grams<T>> {
    let mut found = Grams::new();
    let mut indexes = indexes.iter();
    let whole = pool.len();
    let ends = counts.iter().skip(1).chain(std::iter::once(&whole));
    for (length, (begin, end)) in (1..).zip(counts.iter().zip(ends)) {
        let of_length = pool.get(*begin..*end);
        let of_length = of_length.context("ngram_counts do not fit the pool")?;
        for gram in of_length.chunks_exact(length) {
            let place = found.len();
            let column = indexes.next().context("an n-gram has no index")?;
            found.insert(gram.to_vec(), (*column, place));
        }
    }
    Ok(found)
}

impl TfIdfVectorizer {
    /// Counts the grams of one sequence.
    fn count<T: Clone + Eq + Hash>(&self, grams: &Grams<T>, sequence: &[T], row: &mut [f32]) {
        for length in self.lengths.clone() {
            // A single item skips nothing.
            let most_skipped = if length == 1 { 0 } else { self.most_skipped };
            for stride in 1..=most_skipped + 1 {
                let span = (length - 1).saturating_mul(stride).saturating_add(1);
                for window in sequence.windows(span) {
                    let gram: Vec<T> = window.iter().step_by(stride).cloned().collect();
                    let Some((column, place)) = grams.get(&gram) else {
                        continue;
                    };
                    let weight = self.weights.as_ref().and_then(|all| all.get(*place));
                    let weight = weight.copied().unwrap_or(1.0);
                    let Some(cell) = row.get_mut(*column) else {
                        continue;
                    };
                    match self.mode {
                        Mode::Count => *cell += 1.0,
                        Mode::Weight => *cell = weight,
                        Mode::CountTimesWeight => *cell += weight,
                    }
                }
            }
        }
    }
}

impl Operator for TfIdfVectorizer {
    const NAME: &'static str = "TfIdfVectorizer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let fits = match self.pool {
            Pool::Integers(_) => datum_type.is_integer(),
            Pool::Strings(_) => *datum_type == DatumType::String,
        };
        ensure!(
            fits,
            "the pool of TfIdfVectorizer does not fit {datum_type:?}"
        );
        let mut shape = shape.clone();
        ensure!(
            matches!(shape.len(), 1 | 2),
            "TfIdfVectorizer takes one sequence or several, got rank {}",
            shape.len()
        );
        if let Some(items) = shape.last_mut() {
            *items = self.columns.to_dim();
        }
        Ok(tvec![(DatumType::F32, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let mut shape: TVec<usize> = input.shape().into();
        let items = shape.last().copied().unwrap_or_default();
        if let Some(columns) = shape.last_mut() {
            *columns = self.columns;
        }
        let mut output = Tensor::zero::<f32>(&shape)?;
        let mut view = output.try_as_plain_ram_mut()?;
        let rows = view.as_slice_mut::<f32>()?.chunks_mut(self.columns);
        // Sequences without items have no chunk, and their rows stay zeros.
        let items = items.max(1);
        match &self.pool {
            Pool::Integers(grams) => {
                let integers = input.cast_to::<i64>()?;
                let integers = integers.try_as_plain_ram()?;
                for (row, sequence) in rows.zip(integers.as_slice::<i64>()?.chunks(items)) {
                    self.count(grams, sequence, row);
                }
            }
            Pool::Strings(grams) => {
                let strings = input.try_as_plain_ram()?;
                for (row, sequence) in rows.zip(strings.as_slice::<String>()?.chunks(items)) {
                    self.count(grams, sequence, row);
                }
            }
        }
        Ok(tvec![output])
    }
}
