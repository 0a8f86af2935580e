use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use edgeward_base::clock::TestClock;
use edgeward_base::names::ModelRef;

use super::*;
use crate::model::tests::fake::FakeSession;

/// A session of doubled numbers, and how often it was loaded again.
fn on_demand() -> (Arc<OnDemand>, Arc<AtomicUsize>) {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let load = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let session: Arc<dyn Session> = FakeSession::row_sum(Some(2));
        Ok(session)
    });
    let first = FakeSession::row_sum(Some(2));
    first.permit_rows(Rows::Independent);
    let clock: SharedClock = TestClock::at(0);
    (Arc::new(OnDemand::new(first, clock, load)), loads)
}

fn run(session: &OnDemand) -> Vec<f32> {
    use edgeward_kernels::tensor::TensorData;
    let input = Tensor::new(vec![1, 2], TensorData::F32(vec![1.5, 2.0])).unwrap();
    let TensorData::F32(sums) = session.run(&[input]).unwrap().remove(0).data().clone() else {
        unreachable!("row_sum is float32")
    };
    sums
}

#[test]
fn a_session_that_was_let_go_is_loaded_once_by_all_who_ask() {
    let (session, loads) = on_demand();
    assert_eq!(run(&session), [3.5]);
    assert_eq!(loads.load(Ordering::SeqCst), 0);
    assert!(session.let_go());
    assert!(session.is_at_zero());
    assert!(!session.let_go());
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(run(&session), [3.5]);
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(!session.is_at_zero());
}

#[test]
fn at_zero_it_is_known_and_counted_as_before() {
    let (session, _) = on_demand();
    let (inputs, held) = (session.inputs().to_vec(), session.resident());
    assert!(held.0 > 0);
    session.let_go();
    assert_eq!((session.inputs(), session.resident()), (&inputs[..], held));
    assert_eq!(session.rows(), Rows::Independent);
    let awake = session.wake().unwrap();
    assert_eq!(awake.rows(), Rows::Independent, "what was found out holds");
}

#[test]
fn a_load_that_failed_is_not_tried_again_by_each_who_waits() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let model: ModelRef = "main.default.sum/1".parse().unwrap();
    let load = Box::new(move || {
        let fails = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let session: Arc<dyn Session> = FakeSession::row_sum(Some(2));
        let model = model.clone();
        (!fails)
            .then_some(session)
            .ok_or(LoadModelVersionError::Unknown { model })
    });
    let clock = TestClock::at(0);
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    let session = OnDemand::new(FakeSession::row_sum(Some(2)), shared, load);
    session.let_go();
    for _ in 0..3 {
        let reason = session.wake().unwrap_err();
        assert!(reason.contains("not in the catalogue"), "{reason}");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    clock.advance(PAUSE);
    assert_eq!(run(&session), [3.5]);
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}
