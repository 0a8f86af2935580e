use super::*;
use proptest::prelude::*;

fn caller(name: &str, kind: PrincipalKind, groups: &[&str]) -> Caller {
    Caller {
        principal: name.parse().unwrap(),
        kind,
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
    }
}

fn user(name: &str) -> Caller {
    caller(name, PrincipalKind::User, &[])
}

fn limits(limits: &[(LimitKey, Option<u64>, Option<u64>)]) -> Limits {
    let limits: Vec<RateLimit> = limits
        .iter()
        .map(|(key, calls, tokens)| RateLimit {
            key: key.clone(),
            calls: *calls,
            tokens: *tokens,
        })
        .collect();
    Limits::renewed(&limits, None)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many of ten calls are let through.
fn passed(limits: &Limits, caller: &Caller, now: Duration) -> usize {
    (0..10).filter(|_| limits.take(caller, now).is_ok()).count()
}

#[test]
fn a_minute_takes_as_many_calls_as_allowed_and_the_next_begins_anew() {
    let limits = limits(&[(LimitKey::Endpoint, Some(3), None)]);
    assert_eq!(passed(&limits, &user("ann"), at(61)), 3);
    let over = limits.take(&user("bob"), at(80)).unwrap_err();
    assert_eq!((over.most, over.what, over.after_seconds), (3, "calls", 40));
    assert_eq!(passed(&limits, &user("ann"), at(120)), 3);
    assert_eq!(
        limits
            .take(&user("ann"), at(179))
            .unwrap_err()
            .after_seconds,
        1
    );
}

#[test]
fn each_caller_has_a_count_of_its_own() {
    let limits = limits(&[
        (LimitKey::EachUser, Some(3), None),
        (LimitKey::Endpoint, Some(5), None),
    ]);
    assert_eq!(passed(&limits, &user("ann"), at(0)), 3);
    assert_eq!(
        passed(&limits, &user("bob"), at(0)),
        2,
        "the endpoint's own is reached"
    );
    assert_eq!(passed(&limits, &user("bob"), at(60)), 3);
}

#[test]
fn the_most_particular_limit_decides() {
    let name = |text: &str| text.parse::<Principal>().unwrap();
    let limits = limits(&[
        (LimitKey::EachUser, Some(1), None),
        (LimitKey::User(name("ann")), Some(4), None),
        (LimitKey::ServicePrincipal(name("bot")), Some(2), None),
        (LimitKey::Group(name("one")), Some(3), None),
        (LimitKey::Group(name("two")), Some(5), None),
    ]);
    use PrincipalKind::{ServicePrincipal, User};
    for (caller, calls) in [
        (caller("ann", User, &["one"]), 4),
        (caller("bot", ServicePrincipal, &[]), 2),
        (caller("bot", User, &[]), 1),
        (caller("eve", User, &[]), 1),
        (caller("guy", User, &["one", "two"]), 8),
        (caller("sue", User, &["one"]), 0),
    ] {
        assert_eq!(passed(&limits, &caller, at(0)), calls, "{caller:?}");
    }
}

#[test]
fn the_call_that_crosses_a_limit_of_tokens_is_the_last() {
    let limits = limits(&[(LimitKey::Endpoint, None, Some(100))]);
    let ann = user("ann");
    for _ in 0..2 {
        limits.take(&ann, at(0)).unwrap();
        limits.spend(&ann, 60, at(0));
    }
    assert_eq!(limits.take(&ann, at(1)).unwrap_err().what, "tokens");
    limits.take(&ann, at(60)).unwrap();
}

#[test]
fn tokens_are_those_of_one_group_that_has_room() {
    let group = |text: &str| LimitKey::Group(text.parse().unwrap());
    let limits = limits(&[
        (group("one"), None, Some(10)),
        (group("two"), None, Some(10)),
    ]);
    let both = caller("guy", PrincipalKind::User, &["one", "two"]);
    let second = caller("sue", PrincipalKind::User, &["two"]);
    limits.take(&both, at(0)).unwrap();
    limits.spend(&both, 10, at(0));
    limits.take(&second, at(0)).unwrap();
    limits.take(&both, at(0)).unwrap();
    limits.spend(&both, 10, at(0));
    assert!(limits.take(&both, at(0)).is_err());
    assert!(limits.take(&second, at(0)).is_err());
}

#[test]
fn changed_limits_keep_what_was_counted() {
    let before = limits(&[
        (LimitKey::Endpoint, Some(5), None),
        (LimitKey::EachUser, Some(5), None),
    ]);
    assert_eq!(passed(&before, &user("ann"), at(0)), 5);
    let wider = [RateLimit {
        key: LimitKey::Endpoint,
        calls: Some(7),
        tokens: None,
    }];
    let after = Limits::renewed(&wider, Some(&before));
    assert_eq!(passed(&after, &user("ann"), at(1)), 2);
}

proptest! {
    #[test]
    fn no_minute_lets_more_through_than_allowed(
        most in 0_u64..20,
        calls in prop::collection::vec(0_u64..180, 0..200),
    ) {
        let mut calls = calls;
        calls.sort_unstable();
        let limits = limits(&[(LimitKey::Endpoint, Some(most), None)]);
        let mut passed = HashMap::<u64, u64>::new();
        let mut asked = HashMap::<u64, u64>::new();
        for second in calls {
            *asked.entry(second / 60).or_default() += 1;
            if limits.take(&user("ann"), at(second)).is_ok() {
                *passed.entry(second / 60).or_default() += 1;
            }
        }
        for (minute, asked) in asked {
            let passed = passed.get(&minute).copied().unwrap_or(0);
            prop_assert_eq!(passed, asked.min(most));
        }
    }
}
