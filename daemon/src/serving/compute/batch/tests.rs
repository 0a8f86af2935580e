use std::sync::Mutex;

use edgeward_base::clock::{SystemClock, TestClock};
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, TensorData, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};
use tokio::sync::oneshot;

use super::super::{Compute, Lane};
use super::*;
use crate::model::Signature;
use crate::tasks::Tasks;

const MILLI: Duration = Duration::from_millis(1);
/// How long something may take that happens at once.
const LONG: Duration = Duration::from_secs(180);
/// A value that no run takes.
const BAD: f64 = -1.0;
/// A value that ends a run by a panic.
const BROKEN: f64 = -2.0;

/// A model `y = 2 x` that notes the rows of its runs.
#[derive(Debug)]
struct Doubling {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    runs: Arc<Mutex<Vec<usize>>>,
}

impl Session for Doubling {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        self.runs.lock().unwrap().push(inputs[0].rows().unwrap());
        let TensorData::F64(values) = inputs[0].data() else {
            unreachable!()
        };
        assert!(!values.contains(&BROKEN), "broken");
        if values.contains(&BAD) {
            let reason = "a bad row".to_owned();
            return Err(RunModelError::Engine { reason });
        }
        let doubled = values.iter().map(|value| value * 2.0).collect();
        let shape = inputs[0].shape().to_vec();
        Ok(vec![Tensor::new(shape, TensorData::F64(doubled)).unwrap()])
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Independent
    }

    fn resident(&self) -> ByteCount {
        ByteCount(1)
    }
}

/// A loaded model, and the rows of each of its runs.
fn doubling() -> (Arc<Scorer>, Arc<Mutex<Vec<usize>>>) {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        data_type: DataType::F64,
        shape: vec![None, None],
    };
    let runs = Arc::default();
    let session = Doubling {
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
        runs: Arc::clone(&runs),
    };
    let signature = Signature::derive(&session.inputs, &session.outputs);
    let verdict = Verdict {
        verified: Verified::Framework,
        rows: Rows::Independent,
    };
    let model = "main.default.doubling/1".parse().unwrap();
    let scorer = Scorer::bind(model, "test", verdict, signature, Arc::new(session)).unwrap();
    (Arc::new(scorer), runs)
}

type Answer = Result<Result<Ran, ScoreError>, ComputeError>;

/// A request of rows of one number.
struct Asking {
    scorer: Arc<Scorer>,
    values: Vec<Vec<f64>>,
    answer: oneshot::Sender<Answer>,
}

impl Seat for Asking {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn scorer(&self) -> Arc<Scorer> {
        Arc::clone(&self.scorer)
    }

    fn read(&mut self) -> Result<Vec<Tensor>, ScoreError> {
        let shape = vec![self.values.len(), self.values[0].len()];
        let data = TensorData::F64(self.values.concat());
        Ok(vec![Tensor::new(shape, data).unwrap()])
    }

    fn end(self: Box<Self>, ran: Answer) {
        drop(self.answer.send(ran));
    }
}

fn ask(scorer: &Arc<Scorer>, values: &[&[f64]]) -> (Box<dyn Seat>, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    let asking = Asking {
        scorer: Arc::clone(scorer),
        values: values.iter().map(|row| row.to_vec()).collect(),
        answer,
    };
    (Box::new(asking), answered)
}

fn batching(rows: usize, delay: Duration) -> Batching {
    let costs = Arc::default();
    Batching { rows, delay, costs }
}

fn outputs(answer: Answer) -> Vec<f64> {
    let ran = answer.unwrap().unwrap();
    let TensorData::F64(values) = ran.outputs[0].data() else {
        unreachable!()
    };
    values.clone()
}

#[test]
fn each_gets_its_own_rows_of_one_run() {
    let (scorer, runs) = doubling();
    let (a, mut for_a) = ask(&scorer, &[&[1.0]]);
    let (gone, dropped) = ask(&scorer, &[&[9.0]]);
    let (b, mut for_b) = ask(&scorer, &[&[2.0], &[3.0]]);
    let (wide, mut for_wide) = ask(&scorer, &[&[4.0, 5.0]]);
    let (c, mut for_c) = ask(&scorer, &[&[6.0]]);
    drop(dropped);
    run(
        vec![a, gone, b, wide, c],
        &batching(4, Duration::ZERO),
        &SystemClock::new(),
    );
    assert_eq!(outputs(for_a.try_recv().unwrap()), [2.0]);
    assert_eq!(outputs(for_b.try_recv().unwrap()), [4.0, 6.0]);
    assert_eq!(outputs(for_c.try_recv().unwrap()), [12.0]);
    // Another width is another run, and nobody runs for a caller who left.
    assert_eq!(outputs(for_wide.try_recv().unwrap()), [8.0, 10.0]);
    assert_eq!(*runs.lock().unwrap(), [4, 1]);
}

#[test]
fn no_run_has_more_rows_than_allowed() {
    let (scorer, runs) = doubling();
    let asked = (0..5).map(|_| ask(&scorer, &[&[1.0], &[1.0]]));
    let (seats, mut answers): (Vec<_>, Vec<_>) = asked.unzip();
    run(seats, &batching(4, Duration::ZERO), &SystemClock::new());
    for answer in &mut answers {
        assert_eq!(outputs(answer.try_recv().unwrap()), [2.0, 2.0]);
    }
    assert_eq!(*runs.lock().unwrap(), [4, 4, 2]);
}

#[test]
fn a_bad_row_is_its_own_requests_error() {
    for (bad, message) in [(BAD, "a bad row"), (BROKEN, "broken")] {
        let (scorer, runs) = doubling();
        let (a, mut for_a) = ask(&scorer, &[&[1.0]]);
        let (b, mut for_b) = ask(&scorer, &[&[bad]]);
        let (c, mut for_c) = ask(&scorer, &[&[3.0]]);
        run(
            vec![a, b, c],
            &batching(16, Duration::ZERO),
            &SystemClock::new(),
        );
        assert_eq!(outputs(for_a.try_recv().unwrap()), [2.0]);
        assert_eq!(outputs(for_c.try_recv().unwrap()), [6.0]);
        let failed = format!("{:?}", for_b.try_recv().unwrap());
        assert!(failed.contains(message), "{failed}");
        assert_eq!(*runs.lock().unwrap(), [3, 1, 1, 1]);
    }
}

#[test]
fn a_size_is_taken_where_it_answers_more_in_a_second() {
    let costs = Costs::default();
    // Nothing is known, so nothing is put together.
    assert_eq!(costs.choose(64, 64), 1);
    costs.record(1, MILLI);
    // Four were never tried: they are, when there are four.
    assert_eq!(costs.choose(3, 64), 1);
    assert_eq!(costs.choose(64, 64), 4);
    // Reading the weights is most of it.
    costs.record(4, MILLI);
    assert_eq!(costs.choose(64, 64), 16);
    costs.record(16, MILLI * 2);
    costs.record(64, MILLI * 8);
    assert_eq!(costs.choose(64, 64), 16);
    assert_eq!(costs.choose(64, 4), 4);
    // Padding twelve to sixteen is better than three runs of four, padding five is not.
    assert_eq!(costs.choose(12, 64), 12);
    assert_eq!(costs.choose(5, 64), 4);
    assert_eq!(costs.choose(3, 64), 3);
    assert_eq!(costs.choose(1, 64), 1);
}

#[test]
fn a_size_that_does_not_pay_is_left_and_tried_again() {
    let costs = Costs::default();
    for (rows, factor) in [(1, 1), (4, 4), (16, 15), (64, 60)] {
        costs.record(rows, MILLI * factor);
    }
    let chosen: Vec<usize> = (0..CHOICES_PER_TRIAL * 3)
        .map(|_| costs.choose(64, 64))
        .collect();
    let tried: Vec<&usize> = chosen.iter().filter(|taken| **taken != 1).collect();
    assert_eq!(tried, [&16, &64, &4]);
    // It pays by now.
    (0..64).for_each(|_| costs.record(4, MILLI));
    assert_eq!(costs.choose(8, 4), 4);
}

fn lane(id: &str) -> Lane {
    Lane {
        id: id.into(),
        threads: 1,
    }
}

#[tokio::test]
async fn a_request_waits_for_others_no_longer_than_its_delay() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let clock = TestClock::at(0);
    let compute = Compute::start(&tasks, clock.clone(), 2, 64).unwrap();
    let (scorer, runs) = doubling();
    let waits = batching(4, MILLI);
    for _ in 0..8 {
        waits.costs.record(1, MILLI);
        waits.costs.record(4, MILLI);
    }
    let seat = || {
        let (seat, answer) = ask(&scorer, &[&[1.0]]);
        let batching = waits.clone();
        Box::pin(compute.seat(&lane("a"), batching, seat, answer).unwrap())
    };
    // The fourth is the one that the others waited for.
    let four: Vec<_> = (0..4).map(|_| seat()).collect();
    for answer in four {
        assert_eq!(outputs(answered_in_time(answer).await), [2.0]);
    }
    assert_eq!(*runs.lock().unwrap(), [4]);
    // Three wait, and a thread is free for others meanwhile.
    let three: Vec<_> = (0..3).map(|_| seat()).collect();
    let other = compute.submit(&lane("b"), || 7).unwrap();
    assert_eq!(tokio::time::timeout(LONG, other).await.unwrap(), Ok(7));
    assert_eq!((compute.waiting(), runs.lock().unwrap().len()), (3, 1));
    clock.advance(MILLI);
    for answer in three {
        assert_eq!(outputs(answered_in_time(answer).await), [2.0]);
    }
    assert_eq!(*runs.lock().unwrap(), [4, 3]);
    // Nobody waits at the end.
    let last = seat();
    tasks.begin_shutdown();
    assert_eq!(outputs(answered_in_time(last).await), [2.0]);
    tasks.join_all(LONG).await.unwrap();
}

async fn answered_in_time(
    answer: impl Future<Output = Result<Result<Ran, ScoreError>, ComputeError>>,
) -> Answer {
    tokio::time::timeout(LONG, answer).await.unwrap()
}
