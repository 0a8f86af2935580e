//! Work: what a thread makes of one invocation, alone or together with others.
//!
//! Owns the steps of an invocation that take long, what each of them took, and what is counted of them.
//! Where it runs is the exchange's choice: on the request's thread, on a compute thread, or as a
//! [`Seat`] of a batch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgeward_kernels::tensor::Tensor;
use tokio::sync::oneshot;

use super::Core;
use super::admission::Permit;
use super::call::{Call, Noted};
use super::compute::{ComputeError, Ran, Seat, guarded};
use super::measured::Measured;
use super::statistics::Parts;
use crate::endpoint::{RoutedEndpoint, RoutedEntity};
use crate::gateway::Caller;
use crate::model::{ScoreError, Scorer};

/// One invocation, whole.
#[derive(Debug)]
pub(super) struct Work<C> {
    pub(super) core: Arc<Core>,
    pub(super) entity: Arc<RoutedEntity>,
    pub(super) measured: Arc<Measured>,
    /// Who asks what: tokens are counted for them.
    pub(super) asking: Option<(Caller, Arc<RoutedEndpoint>)>,
    pub(super) body: Bytes,
    /// Counts the body for as long as it is held, whether or not its caller still waits.
    pub(super) permit: Option<Permit>,
    pub(super) call: C,
    pub(super) outcome: Outcome,
}

/// What came of it so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) noted: Noted,
    pub(super) parts: Parts,
    /// None before the body was read.
    pub(super) rows: u64,
    /// When the last step ended; when the invocation was asked for, before the first. Microseconds of the
    /// clock.
    pub(super) until: u64,
}

/// A work that is over, and the body of its answer.
pub(super) type Done<C> = (Work<C>, Result<Bytes, ScoreError>);

impl<C: Call> Work<C> {
    /// All steps, here and now.
    pub(super) fn alone(mut self) -> Done<C> {
        let answer = self.steps();
        let alone = self.outcome.parts.computing();
        self.over(answer, alone)
    }

    fn steps(&mut self) -> Result<Bytes, ScoreError> {
        let inputs = self.read()?;
        let outputs = self.entity.scorer.run(&inputs);
        self.outcome.parts.infer = self.step();
        if outputs.is_ok() {
            self.measured.statistics.executed();
        }
        self.write(&outputs?)
    }

    /// Microseconds since the last step ended, which this one now does.
    fn step(&mut self) -> u64 {
        let now = self.core.clock.monotonic_micros();
        let took = now.saturating_sub(self.outcome.until);
        self.outcome.until = now;
        took
    }

    pub(super) fn read(&mut self) -> Result<Vec<Tensor>, ScoreError> {
        let scorer = Arc::clone(&self.entity.scorer);
        // A model that comes back from zero is waited for.
        let woken = scorer.wake();
        self.outcome.parts.queue = self.step();
        woken?;
        let noted = &mut self.outcome.noted;
        let inputs = self.call.read(&self.body, &scorer, noted);
        let inputs = inputs.and_then(|inputs| self.spend(&scorer, &inputs).map(|()| inputs));
        self.outcome.parts.input = self.step();
        let inputs = inputs?;
        let rows = inputs.first().and_then(Tensor::rows).unwrap_or(1);
        self.outcome.rows = u64::try_from(rows).unwrap_or(u64::MAX);
        Ok(inputs)
    }

    /// Takes note of a run that it was part of. Waiting for the others of the batch is waiting.
    pub(super) fn ran(&mut self, ran: &Ran) {
        let took = micros(ran.took);
        let since = self.step();
        let parts = &mut self.outcome.parts;
        parts.infer = took;
        parts.queue += since.saturating_sub(took);
        if ran.leads {
            self.measured.statistics.executed();
        }
    }

    /// Writes the answer of a run, and ends.
    pub(super) fn end(mut self, ran: Result<Ran, ScoreError>) -> Done<C> {
        let alone = ran.as_ref().ok().and_then(|ran| ran.alone).map(micros);
        let body = ran.and_then(|ran| self.write(&ran.outputs));
        let alone = alone.unwrap_or_else(|| self.outcome.parts.computing());
        self.over(body, alone)
    }

    /// Ends without having asked the model.
    pub(super) fn refuse(self, error: ScoreError) -> Done<C> {
        let alone = self.outcome.parts.computing();
        self.over(Err(error), alone)
    }

    fn write(&mut self, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        let answer = self.call.write(&self.entity.scorer, outputs);
        self.outcome.parts.output = self.step();
        answer
    }

    /// Counts the tokens of the call under the endpoint's limits, before they are computed: whoever goes
    /// away has used them all the same.
    fn spend(&mut self, scorer: &Scorer, inputs: &[Tensor]) -> Result<(), ScoreError> {
        let noted = &mut self.outcome.noted;
        if noted.input_tokens.is_none() {
            noted.input_tokens = scorer.count_tokens(inputs)?;
        }
        if let (Some(tokens), Some((caller, endpoint))) = (noted.input_tokens, &self.asking) {
            let policy = self.core.policies.of(endpoint.id.as_str());
            let now = self.core.clock.monotonic();
            policy.limits.spend(caller, tokens, now);
        }
        Ok(())
    }

    /// Counts it; `alone` is how many microseconds it takes, or would take, with no other in its run.
    fn over(self, answer: Result<Bytes, ScoreError>, alone: u64) -> Done<C> {
        let Outcome { parts, rows, .. } = &self.outcome;
        self.measured.pace.record(alone);
        let statistics = &self.measured.statistics;
        match &answer {
            Ok(_) => statistics.answered(parts, *rows, self.core.clock.wall_millis()),
            Err(_) => statistics.failed(parts),
        }
        (self, answer)
    }
}

/// A work that waits to be computed together with others.
pub(super) struct Seated<C> {
    pub(super) work: Work<C>,
    pub(super) answer: oneshot::Sender<Result<Done<C>, ComputeError>>,
}

impl<C: Call> Seat for Seated<C> {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn scorer(&self) -> Arc<Scorer> {
        Arc::clone(&self.work.entity.scorer)
    }

    fn read(&mut self) -> Result<Vec<Tensor>, ScoreError> {
        self.work.read()
    }

    fn end(self: Box<Self>, ran: Result<Result<Ran, ScoreError>, ComputeError>) {
        let Self { mut work, answer } = *self;
        let done = ran.and_then(|ran| {
            guarded(move || {
                if let Ok(ran) = &ran {
                    work.ran(ran);
                }
                work.end(ran)
            })
        });
        // The caller may have left while the batch ran.
        drop(answer.send(done));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
