//! Batch: requests that one run of their model answers together.
//!
//! Owns how many of those that wait are taken at once, and the way of a batch: read each body, lay the
//! rows one below the other, run once, give each request its own rows. Only requests of a model whose
//! rows were shown to be independent become a [`Seat`]; what one answers never depends on another. A
//! batch that fails is run again one by one, so that a bad row is its own request's error.
//!
//! Whether a batch pays is the model's own affair: a wide perceptron reads its weights once for sixteen
//! rows, a convolution of large images only falls out of the cache. So it is never assumed: [`Costs`]
//! knows what turns took here, and as many are taken as are answered fastest.

use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::Clock;
use edgeward_kernels::tensor::Tensor;

use super::costs::Costs;
use super::{ComputeError, guarded};
use crate::model::{ScoreError, Scorer};

/// The most rows of a run that several requests share.
const MOST_ROWS: usize = 64;

/// How the requests of a lane may be put together.
#[derive(Clone, Debug)]
pub struct Batching {
    /// Requests that are taken at once at most.
    pub requests: usize,
    /// How long a request may wait for others while threads are idle.
    pub delay: Duration,
    /// What turns of the lane's model took.
    pub costs: Arc<Costs>,
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
    /// What the run of it alone takes, as far as that is known of a run that others shared.
    pub alone: Option<Duration>,
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

/// Answers them all, in as few runs as they allow, and takes note of what that took.
pub(super) fn run(seats: Vec<Box<dyn Seat>>, batching: &Batching, clock: &dyn Clock) {
    let (taken, started) = (seats.len(), clock.monotonic());
    let mut waiting: Vec<Reader> = seats.into_iter().filter_map(read).collect();
    let all = waiting.len() == taken;
    while !waiting.is_empty() {
        let mut group: Vec<Reader> = Vec::with_capacity(waiting.len());
        let mut rows = 0;
        waiting = waiting
            .into_iter()
            .filter(|reader| reader.seat.is_wanted())
            .filter_map(|reader| {
                let joins = match (group.first(), reader.rows) {
                    (None, _) => true,
                    (Some(first), Some(more)) => {
                        rows + more <= MOST_ROWS && together(first, &reader)
                    }
                    (Some(_), None) => false,
                };
                if !joins {
                    return Some(reader);
                }
                rows += reader.rows.unwrap_or(MOST_ROWS);
                group.push(reader);
                None
            })
            .collect();
        run_group(group, &batching.costs, clock);
    }
    if all {
        let took = clock.monotonic().saturating_sub(started);
        batching.costs.record(taken, batching.requests, took);
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

fn run_group(group: Vec<Reader>, costs: &Costs, clock: &dyn Clock) {
    if group.len() > 1
        && let Ok(Some((outputs, took))) = guarded(|| run_together(&group, clock))
    {
        let alone = Some(costs.alone());
        for (at, (reader, outputs)) in group.into_iter().zip(outputs).enumerate() {
            let leads = at == 0;
            reader.seat.end(Ok(Ok(Ran {
                outputs,
                took,
                leads,
                alone,
            })));
        }
        return;
    }
    for reader in group {
        let ran = guarded(|| run_timed(&reader.scorer, &reader.inputs, clock));
        let ran = ran.map(|ran| {
            ran.map(|(outputs, took)| Ran {
                outputs,
                took,
                leads: true,
                alone: None,
            })
        });
        reader.seat.end(ran);
    }
}

/// The outputs of each, and what the run took; `None` when they have to be run one by one.
fn run_together(group: &[Reader], clock: &dyn Clock) -> Option<(Vec<Vec<Tensor>>, Duration)> {
    let first = group.first()?;
    let inputs = (0..first.inputs.len()).map(|at| {
        let parts: Option<Vec<&Tensor>> =
            group.iter().map(|reader| reader.inputs.get(at)).collect();
        Tensor::concat_rows(&parts?)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Option<_>>()?;
    let rows = rows_of(&inputs)?;
    let (outputs, took) = run_timed(&first.scorer, &inputs, clock).ok()?;
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
    clock: &dyn Clock,
) -> Result<(Vec<Tensor>, Duration), ScoreError> {
    let started = clock.monotonic();
    let outputs = scorer.run(inputs)?;
    Ok((outputs, clock.monotonic().saturating_sub(started)))
}

#[cfg(test)]
mod tests;
