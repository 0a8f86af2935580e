//! Batch: requests that one run of their model answers together.
//!
//! Owns how many of those that wait are taken at once, and the way of a batch: read each body, lay the
//! rows one below the other, run once, give each request its own rows. Only requests of a model whose
//! rows were shown to be independent become a [`Seat`]; what one answers never depends on another. A
//! batch that fails is run again one by one, so that a bad row is its own request's error.
//!
//! Whether a batch pays is the model's own affair: a wide perceptron reads its weights once for sixteen
//! rows, a convolution of large images only falls out of the cache. So it is never assumed: [`Costs`]
//! knows what runs took here, and the size that answers most requests in a second is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgeward_base::clock::Clock;
use edgeward_kernels::tensor::Tensor;

use super::{ComputeError, guarded};
use crate::model::{ScoreError, Scorer};

/// The sizes of batches, in rows. Few, because a model may need a plan of its own for each.
const SIZES: [usize; 4] = [1, 4, 16, 64];

/// A larger size has to answer a request in at most so many hundredths of the time that a smaller one
/// takes: at the same speed a request only waits longer among more others.
const PAYS_PERCENT: u64 = 90;

/// One choice in so many tries a size that did not pay, because a box changes.
const CHOICES_PER_TRIAL: u64 = 1024;

/// How the requests of a lane may be put together.
#[derive(Clone, Debug)]
pub struct Batching {
    /// Rows of a batch at most.
    pub rows: usize,
    /// How long a request may wait for others while threads are idle.
    pub delay: Duration,
    /// What runs of the lane's model took.
    pub costs: Arc<Costs>,
}

/// What runs of a model took, by the size of the batch. Lock-free; counts that race are off by one run.
#[derive(Debug, Default)]
pub struct Costs {
    /// Nanoseconds of a run of so many rows, smoothed; 0 before the first.
    runs: [AtomicU64; SIZES.len()],
    choices: AtomicU64,
}

impl Costs {
    /// Takes note of a run of `rows` rows.
    pub fn record(&self, rows: usize, took: Duration) {
        let known = SIZES.iter().zip(&self.runs);
        let Some((_, run)) = known.into_iter().find(|(size, _)| **size == rows) else {
            return;
        };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = run.load(Ordering::Relaxed);
        let after = if before == 0 {
            took
        } else {
            before - before / 8 + took / 8
        };
        run.store(after.max(1), Ordering::Relaxed);
    }

    /// How many of `waiting` requests to take at once, at most `most`; at least 1.
    #[must_use]
    pub fn choose(&self, waiting: usize, most: usize) -> usize {
        let mut best = (1, self.run(0));
        if waiting < 2 || most < 2 || best.1 == 0 {
            return 1;
        }
        let trial = self.trial();
        for (at, size) in SIZES.into_iter().enumerate().skip(1) {
            if size > most || waiting <= best.0 {
                break;
            }
            let (taken, run) = (waiting.min(size), self.run(at));
            if taken == size && (run == 0 || trial == Some(at)) {
                return size;
            }
            if run != 0 && pays((taken, run), best) {
                best = (taken, run);
            }
        }
        best.0
    }

    /// The size to be tried this time, whatever is known of it: each in its turn.
    fn trial(&self) -> Option<usize> {
        let choice = self.choices.fetch_add(1, Ordering::Relaxed) + 1;
        let turn = usize::try_from(choice / CHOICES_PER_TRIAL).unwrap_or(0);
        let due = choice.is_multiple_of(CHOICES_PER_TRIAL);
        due.then_some(1 + turn % (SIZES.len() - 1))
    }

    fn run(&self, at: usize) -> u64 {
        self.runs
            .get(at)
            .map_or(0, |run| run.load(Ordering::Relaxed))
    }
}

/// Whether requests are answered faster by the one than by the other; each has a number of requests and
/// what its run takes.
fn pays((taken, run): (usize, u64), (before, before_run): (usize, u64)) -> bool {
    let of = |taken: usize| u64::try_from(taken).unwrap_or(u64::MAX);
    let each = run.saturating_mul(of(before)).saturating_mul(100);
    each <= before_run
        .saturating_mul(of(taken))
        .saturating_mul(PAYS_PERCENT)
}

/// What a run gave one request of a batch.
#[derive(Debug)]
pub struct Ran {
    /// Its own rows of each output.
    pub outputs: Vec<Tensor>,
    /// What the run of all of them took.
    pub took: Duration,
    /// Whether it is the first of them: one of each run is.
    pub leads: bool,
}

/// A request that may be computed together with others of its lane.
pub trait Seat: Send {
    /// Whether its caller still waits.
    fn is_wanted(&self) -> bool;

    /// The model that it asks.
    fn scorer(&self) -> Arc<Scorer>;

    /// Reads its body.
    ///
    /// # Errors
    /// [`ScoreError`], which [`Seat::end`] is then given.
    fn read(&mut self) -> Result<Vec<Tensor>, ScoreError>;

    /// Answers its caller. Never panics: that would end the thread.
    fn end(self: Box<Self>, ran: Result<Result<Ran, ScoreError>, ComputeError>);
}

/// One that was read.
struct Reader {
    seat: Box<dyn Seat>,
    scorer: Arc<Scorer>,
    inputs: Vec<Tensor>,
    /// Of each input; `None` where they differ, or where it is a scalar.
    rows: Option<usize>,
}

/// Answers them all, in as few runs as `most` rows a run allow.
pub(super) fn run(seats: Vec<Box<dyn Seat>>, batching: &Batching, clock: &dyn Clock) {
    let mut waiting: Vec<Reader> = seats.into_iter().filter_map(read).collect();
    while !waiting.is_empty() {
        let mut group: Vec<Reader> = Vec::with_capacity(waiting.len());
        let mut rows = 0;
        waiting = waiting
            .into_iter()
            .filter_map(|reader| {
                let joins = match (group.first(), reader.rows) {
                    (None, _) => true,
                    (Some(first), Some(more)) => {
                        rows + more <= batching.rows && together(first, &reader)
                    }
                    (Some(_), None) => false,
                };
                if !joins {
                    return Some(reader);
                }
                rows += reader.rows.unwrap_or(batching.rows);
                group.push(reader);
                None
            })
            .collect();
        run_group(group, batching, clock);
    }
}

/// Reads a body; one that cannot be read is answered at once, and one that nobody waits for not at all.
fn read(mut seat: Box<dyn Seat>) -> Option<Reader> {
    if !seat.is_wanted() {
        return None;
    }
    match guarded(|| seat.read()) {
        Ok(Ok(inputs)) => {
            let scorer = seat.scorer();
            let rows = rows_of(&inputs);
            Some(Reader {
                seat,
                scorer,
                inputs,
                rows,
            })
        }
        Ok(Err(refused)) => {
            seat.end(Ok(Err(refused)));
            None
        }
        Err(panicked) => {
            seat.end(Err(panicked));
            None
        }
    }
}

/// The rows that all of them have, at least one.
fn rows_of(inputs: &[Tensor]) -> Option<usize> {
    let (first, rest) = inputs.split_first()?;
    let rows = first.rows().filter(|rows| *rows > 0)?;
    rest.iter()
        .all(|input| input.rows() == Some(rows))
        .then_some(rows)
}

/// Whether both can stand one below the other.
fn together(a: &Reader, b: &Reader) -> bool {
    let fits = |(a, b): (&Tensor, &Tensor)| {
        a.data_type() == b.data_type() && a.shape().get(1..) == b.shape().get(1..)
    };
    a.rows.is_some()
        && Arc::ptr_eq(&a.scorer, &b.scorer)
        && a.inputs.len() == b.inputs.len()
        && a.inputs.iter().zip(&b.inputs).all(fits)
}

fn run_group(group: Vec<Reader>, batching: &Batching, clock: &dyn Clock) {
    if group.len() > 1
        && let Ok(Some((outputs, took))) = guarded(|| run_together(&group, batching, clock))
    {
        for (at, (reader, outputs)) in group.into_iter().zip(outputs).enumerate() {
            let leads = at == 0;
            reader.seat.end(Ok(Ok(Ran {
                outputs,
                took,
                leads,
            })));
        }
        return;
    }
    for reader in group {
        let ran = guarded(|| run_timed(&reader.scorer, &reader.inputs, batching, clock));
        let ran = ran.map(|ran| {
            ran.map(|(outputs, took)| Ran {
                outputs,
                took,
                leads: true,
            })
        });
        reader.seat.end(ran);
    }
}

/// The outputs of each, and what the run took; `None` when they have to be run one by one.
fn run_together(
    group: &[Reader],
    batching: &Batching,
    clock: &dyn Clock,
) -> Option<(Vec<Vec<Tensor>>, Duration)> {
    let first = group.first()?;
    let inputs = (0..first.inputs.len()).map(|at| {
        let parts: Option<Vec<&Tensor>> =
            group.iter().map(|reader| reader.inputs.get(at)).collect();
        Tensor::concat_rows(&parts?)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Option<_>>()?;
    let rows = rows_of(&inputs)?;
    let (outputs, took) = run_timed(&first.scorer, &inputs, batching, clock).ok()?;
    if outputs.iter().any(|output| output.rows() != Some(rows)) {
        return None;
    }
    let mut from = 0;
    let of_each = group.iter().map(|reader| {
        let own = from..from + reader.rows?;
        from = own.end;
        let own = outputs.iter().map(|output| output.slice_rows(own.clone()));
        own.collect::<Option<Vec<Tensor>>>()
    });
    Some((of_each.collect::<Option<_>>()?, took))
}

fn run_timed(
    scorer: &Scorer,
    inputs: &[Tensor],
    batching: &Batching,
    clock: &dyn Clock,
) -> Result<(Vec<Tensor>, Duration), ScoreError> {
    let started = clock.monotonic();
    let outputs = scorer.run(inputs)?;
    let took = clock.monotonic().saturating_sub(started);
    if let Some(rows) = rows_of(inputs) {
        batching.costs.record(rows, took);
    }
    Ok((outputs, took))
}

#[cfg(test)]
mod tests;
