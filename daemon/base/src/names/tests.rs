use proptest::prelude::*;

use super::*;

#[test]
fn endpoint_names_follow_the_url_rule() {
    for good in ["a", "fraud-detection", "A_1", &"x".repeat(63)] {
        assert_eq!(good.parse::<EndpointName>().unwrap().as_str(), good);
    }
    for wrong in ["", "a b", "a/b", "é", "a.b", &"x".repeat(64)] {
        assert!(wrong.parse::<EndpointName>().is_err(), "{wrong}");
    }
}

#[test]
fn an_error_names_the_kind_and_what_is_allowed() {
    let error = "a/b".parse::<EndpointName>().unwrap_err().to_string();
    assert_eq!(
        error,
        "endpoint name \"a/b\" is not valid: use 1 to 63 letters, digits, '_' or '-'"
    );
}

#[test]
fn model_versions_are_canonical_numbers() {
    assert_eq!("3".parse::<ModelVersion>().unwrap().get(), 3);
    for wrong in [
        "",
        "0",
        "03",
        "+3",
        "-1",
        "3.0",
        "v3",
        "99999999999999999999",
    ] {
        assert!(wrong.parse::<ModelVersion>().is_err(), "{wrong}");
    }
}

#[test]
fn a_model_name_has_three_parts() {
    let name: ModelName = "main.default.fraud".parse().unwrap();
    assert_eq!(name.short(), "fraud");
    for wrong in ["fraud", "a.b", "a.b.c.d", "a..c", "a.b."] {
        assert!(wrong.parse::<ModelName>().is_err(), "{wrong}");
    }
}

#[test]
fn the_unmatched_table_is_a_valid_table() {
    let table = TableName::unmatched();
    assert_eq!(table.as_str().parse(), Ok(table.clone()));
    assert_eq!(table.parts(), ("edgeward", "system", "_unmatched"));
}

proptest! {
    #[test]
    fn boot_ids_round_trip(bits: u64) {
        let boot = BootId(bits);
        prop_assert_eq!(boot.to_string().parse(), Ok(boot));
    }

    #[test]
    fn whatever_parses_prints_the_same(text in "[a-zA-Z0-9_.@/ -]{0,70}") {
        if let Ok(name) = text.parse::<ModelRef>() {
            prop_assert_eq!(name.to_string(), text.clone());
        }
        if let Ok(name) = text.parse::<Principal>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }
}
