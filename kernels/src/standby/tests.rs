use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tensor::TensorData;

/// Answers its number, or fails as it is told.
#[derive(Debug, Default)]
struct Numbered {
    number: f32,
    fails: Option<RunModelError>,
    asked: AtomicUsize,
}

impl Session for Numbered {
    fn inputs(&self) -> &[TensorSpec] {
        &[]
    }

    fn outputs(&self) -> &[TensorSpec] {
        &[]
    }

    fn run(&self, _: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = || Tensor::new(vec![1], TensorData::F32(vec![self.number])).unwrap();
        self.fails.clone().map_or_else(|| Ok(vec![answer()]), Err)
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Independent
    }

    fn resident(&self) -> ByteCount {
        ByteCount(1)
    }
}

fn answer(session: &Standby) -> f32 {
    let outputs = session.run(&[]).unwrap();
    match outputs[0].data() {
        TensorData::F32(values) => values[0],
        other => panic!("{other:?}"),
    }
}

fn standby(fails: Option<RunModelError>) -> (Standby, Arc<Numbered>) {
    let first = Arc::new(Numbered {
        number: 1.0,
        fails,
        ..Numbered::default()
    });
    let other = Numbered {
        number: 2.0,
        ..Numbered::default()
    };
    let session = Standby::new(Arc::clone(&first) as _, Arc::new(other), "tract");
    (session, first)
}

#[test]
fn the_first_answers_while_it_can() {
    let (session, _) = standby(None);
    assert_eq!([answer(&session), answer(&session)], [1.0, 1.0]);
    assert_eq!(session.takeover(), None);
}

#[test]
fn one_failure_costs_no_request_and_is_the_last() {
    let reason = "the device failed".to_owned();
    let (session, first) = standby(Some(RunModelError::Engine { reason }));
    assert_eq!([answer(&session), answer(&session)], [2.0, 2.0]);
    assert_eq!(first.asked.load(Ordering::Relaxed), 1);
    let takeover = session.takeover().unwrap();
    assert_eq!(takeover.engine, "tract");
    assert!(takeover.reason.contains("the device failed"));
}

#[test]
fn a_mistake_of_the_caller_is_answered_once() {
    let mistake = RunModelError::InputCount {
        expected: 1,
        got: 0,
    };
    let (session, _) = standby(Some(mistake.clone()));
    assert_eq!(session.run(&[]).unwrap_err(), mistake);
    assert_eq!(session.takeover(), None);
}
