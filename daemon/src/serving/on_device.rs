//! On a device: a work whose body is read before it takes its seat, and whose answer is written after
//! it has left, so that the device's one thread never waits for either.

use std::sync::Arc;

use edgeward_kernels::tensor::Tensor;
use tokio::sync::oneshot;

use super::call::Call;
use super::compute::{ComputeError, Ran, Seat};
use super::work::{Done, Work};
use crate::model::{ScoreError, Scorer};

/// A work whose body was read.
pub(super) struct Ready<C> {
    work: Work<C>,
    inputs: Vec<Tensor>,
}

/// A work that the device has computed.
pub(super) struct Computed<C> {
    work: Work<C>,
    ran: Result<Ran, ScoreError>,
}

impl<C: Call> Ready<C> {
    /// Reads the body; one that cannot be read is over.
    pub(super) fn read(mut work: Work<C>) -> Result<Self, Box<Done<C>>> {
        match work.read() {
            Ok(inputs) => Ok(Self { work, inputs }),
            Err(error) => Err(Box::new(work.refuse(error))),
        }
    }

    /// Its seat, which answers by `answer`.
    pub(super) fn seat(
        self,
        answer: oneshot::Sender<Result<Computed<C>, ComputeError>>,
    ) -> Box<dyn Seat> {
        let Self { work, inputs } = self;
        Box::new(Seated {
            work,
            inputs,
            answer,
        })
    }
}

impl<C: Call> Computed<C> {
    /// How many numbers the answer has.
    pub(super) fn numbers(&self) -> usize {
        let outputs = self.ran.iter().flat_map(|ran| &ran.outputs);
        let numbers = |output: &Tensor| output.shape().iter().product::<usize>();
        outputs.map(numbers).sum()
    }

    /// Writes the answer.
    pub(super) fn write(self) -> Done<C> {
        self.work.end(self.ran)
    }
}

/// A work that waits for the device.
struct Seated<C> {
    work: Work<C>,
    inputs: Vec<Tensor>,
    answer: oneshot::Sender<Result<Computed<C>, ComputeError>>,
}

impl<C: Call> Seat for Seated<C> {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn scorer(&self) -> Arc<Scorer> {
        Arc::clone(&self.work.entity.scorer)
    }

    fn read(&mut self) -> Result<Vec<Tensor>, ScoreError> {
        Ok(std::mem::take(&mut self.inputs))
    }

    fn end(self: Box<Self>, ran: Result<Result<Ran, ScoreError>, ComputeError>) {
        let Self {
            mut work, answer, ..
        } = *self;
        let computed = ran.map(|ran| {
            if let Ok(ran) = &ran {
                work.ran(ran);
            }
            Computed { work, ran }
        });
        // The caller may have left while the batch ran.
        drop(answer.send(computed));
    }
}
