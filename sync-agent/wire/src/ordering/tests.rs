use super::*;

fn identity(epoch: u64, generation: u64, body: &[u8]) -> DocumentIdentity {
    DocumentIdentity {
        generation: Generation::new(epoch, generation),
        body: Digest::of(body),
    }
}

#[test]
fn a_newer_generation_is_accepted_an_older_is_stale() {
    let held = identity(1, 5, b"a");
    assert_eq!(decide(None, &held), Decision::Accept);
    assert_eq!(decide(Some(&held), &identity(1, 6, b"b")), Decision::Accept);
    assert_eq!(decide(Some(&held), &identity(1, 4, b"b")), Decision::Stale);
}

#[test]
fn a_new_epoch_wins_over_any_generation() {
    let held = identity(1, 900, b"a");
    assert_eq!(decide(Some(&held), &identity(2, 1, b"b")), Decision::Accept);
    assert_eq!(decide(Some(&identity(2, 1, b"b")), &held), Decision::Stale);
}

#[test]
fn the_same_generation_is_a_duplicate_only_with_the_same_body() {
    let held = identity(1, 5, b"a");
    assert_eq!(decide(Some(&held), &held), Decision::Duplicate);
    assert_eq!(
        decide(Some(&held), &identity(1, 5, b"b")),
        Decision::Conflict
    );
}

#[test]
fn kinds_are_spelled_as_their_topics() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse::<Kind>(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    assert!("limits".parse::<Kind>().is_err());
}
