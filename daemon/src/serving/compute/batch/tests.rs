use std::sync::Mutex;

use edgeward_base::clock::{ClockQuality, SystemClock, TestClock};
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

fn batching(requests: usize, delay: Duration) -> Batching {
    Batching {
        requests,
        delay,
        costs: Arc::default(),
    }
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
    let rows: Vec<&[f64]> = vec![&[1.0]; 25];
    let asked = (0..5).map(|_| ask(&scorer, &rows));
    let (seats, mut answers): (Vec<_>, Vec<_>) = asked.unzip();
    run(seats, &batching(16, Duration::ZERO), &SystemClock::new());
    for answer in &mut answers {
        assert_eq!(outputs(answer.try_recv().unwrap()), [2.0; 25]);
    }
    assert_eq!(*runs.lock().unwrap(), [50, 50, 25]);
}

#[test]
fn what_keeps_requests_apart_counts_against_taking_them_together() {
    let (scorer, _) = doubling();
    let clock = TestClock::at(0);
    let taken = batching(4, Duration::ZERO);
    taken.costs.record(1, 4, MILLI);
    taken.costs.record(1, 4, MILLI);
    for _ in 0..2 {
        assert_eq!(taken.costs.choose(4, 4), 4, "it is tried");
        // No two are of the same width, so each has a run of its own.
        let widths: [&[f64]; 4] = [&[1.0], &[1.0; 2], &[1.0; 3], &[1.0; 4]];
        let asked = widths.map(|width| ask(&scorer, &[width]));
        let (seats, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        clock.advance(MILLI);
        run(seats, &taken, &Ticking(Arc::clone(&clock)));
        drop(answers);
    }
    assert_eq!(taken.costs.choose(4, 4), 1);
}

/// A clock by which each look takes a millisecond.
#[derive(Debug)]
struct Ticking(Arc<TestClock>);

impl Clock for Ticking {
    fn wall_micros(&self) -> i64 {
        self.0.wall_micros()
    }

    fn monotonic_micros(&self) -> u64 {
        self.0.advance(MILLI);
        self.0.monotonic_micros()
    }

    fn quality(&self) -> ClockQuality {
        self.0.quality()
    }
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
    let compute = Compute::start(&tasks, clock.clone(), "compute", 2, 64).unwrap();
    let (scorer, runs) = doubling();
    let waits = batching(4, MILLI);
    for _ in 0..2 {
        waits.costs.record(1, 4, MILLI);
        waits.costs.record(4, 4, MILLI);
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
