use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    entries: 4,
    bytes: 100,
};

fn get(recent: &Recent<String, u64>, key: &str, bytes: u64) -> u64 {
    let built = || Ok::<_, Infallible>((bytes, bytes));
    recent.get(key, built).unwrap().value
}

fn keys(recent: &Recent<String, u64>) -> Vec<String> {
    let entries = recent.entries();
    entries.iter().map(|entry| entry.key.clone()).collect()
}

#[test]
fn what_was_used_least_recently_gives_way_to_bytes() {
    let recent = Recent::new(BOUNDS);
    get(&recent, "a", 40);
    get(&recent, "b", 40);
    get(&recent, "a", 0);
    get(&recent, "c", 40);
    assert_eq!(keys(&recent), ["a", "c"]);
    assert_eq!(recent.bytes(), 80);
    get(&recent, "whole", 1000);
    assert_eq!(keys(&recent), ["whole"]);
    get(&recent, "d", 1);
    assert_eq!(keys(&recent), ["d"]);
}

#[test]
fn what_could_not_be_built_changes_nothing() {
    let recent = Recent::<String, u64>::new(BOUNDS);
    get(&recent, "a", 1);
    recent
        .get("b", || Err::<(u64, u64), _>("broken"))
        .unwrap_err();
    assert_eq!(keys(&recent), ["a"]);
}

proptest! {
    #[test]
    fn a_list_stays_within_its_bounds(wanted in proptest::collection::vec((0_u8..9, 0_u64..70), 1..60)) {
        let recent = Recent::new(BOUNDS);
        for (key, bytes) in wanted {
            let key = key.to_string();
            let held = recent.entries().iter().find(|entry| entry.key == key).map(|entry| entry.value);
            let value = get(&recent, &key, bytes);
            prop_assert_eq!(value, held.unwrap_or(bytes));
            prop_assert!(keys(&recent).len() <= BOUNDS.entries);
            prop_assert!(recent.bytes() <= BOUNDS.bytes);
            prop_assert!(keys(&recent).contains(&key));
        }
    }
}
