use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_valid_traceparent_keeps_its_trace() {
    let random = Randomness::seeded(1);
    for version in [
        "00-{}-00f067aa0ba902b7-01",
        "cc-{}-00f067aa0ba902b7-01-more",
    ] {
        let header = version.replace("{}", TRACE);
        assert_eq!(random.trace_id(Some(&header)), TRACE, "{header}");
    }
}

#[test]
fn anything_else_starts_a_trace_of_its_own() {
    let random = Randomness::seeded(1);
    let zero = "0".repeat(32);
    for header in [
        "",
        "00",
        &format!("00-{TRACE}-00f067aa0ba902b7"),
        &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
        &format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
        &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
        &format!("00-{zero}-00f067aa0ba902b7-01"),
        &format!("00-{TRACE}-0000000000000000-01"),
        &format!("00-{TRACE}é-00f067aa0ba902b7-01"),
    ] {
        let trace = random.trace_id(Some(header));
        assert_eq!(trace.len(), 32, "{header}");
        assert!(trace != TRACE && trace != zero, "{header}");
    }
}

#[test]
fn request_ids_are_version_seven_and_sort_by_arrival() {
    let random = Randomness::seeded(7);
    let ids: Vec<Uuid> = [0, 1, 2, 1_900_000_000_000]
        .into_iter()
        .map(|millis| random.request_id(millis))
        .collect();
    assert!(ids.is_sorted());
    assert!(ids.iter().all(|id| id.get_version_num() == 7));
    assert_eq!(Randomness::seeded(7).request_id(0), ids[0]);
}
