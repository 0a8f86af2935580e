use super::*;

#[test]
fn both_ceilings_refuse_and_a_dropped_permit_makes_room() {
    let admission = Admission::new(2, ByteCount(100));
    let first = admission.admit(60).unwrap();
    assert_eq!(
        admission.admit(41).unwrap_err(),
        AdmitError::OutOfMemory { ceiling: 100 }
    );
    let second = admission.admit(40).unwrap();
    assert_eq!(
        admission.admit(0).unwrap_err(),
        AdmitError::TooManyRequests { ceiling: 2 }
    );
    assert_eq!((admission.requests(), admission.bytes().0), (2, 100));
    drop((first, second));
    assert_eq!((admission.requests(), admission.bytes().0), (0, 0));
    admission.admit(100).unwrap();
}

#[test]
fn a_permit_grows_up_to_the_ceiling_and_overflow_is_no_way_around_it() {
    let admission = Admission::new(1, ByteCount(10));
    let mut permit = admission.admit(4).unwrap();
    permit.grow(6).unwrap();
    for more in [1, u64::MAX] {
        assert_eq!(
            permit.grow(more).unwrap_err(),
            AdmitError::OutOfMemory { ceiling: 10 }
        );
    }
    drop(permit);
    assert_eq!(admission.bytes().0, 0);
}

#[tokio::test]
async fn drain_refuses_the_new_and_waits_for_the_last() {
    let admission = Admission::new(8, ByteCount(100));
    let permit = admission.admit(1).unwrap();
    admission.begin_drain();
    assert_eq!(admission.admit(1).unwrap_err(), AdmitError::Draining);
    let drained = admission.drained();
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending());
    drop(permit);
    drained.await;
    admission.drained().await;
}
