use super::*;

fn presence(online: bool, boot: u64, session: u64) -> Presence {
    Presence {
        online,
        boot: BootId(boot),
        session,
        version: "0".to_owned(),
    }
}

#[test]
fn the_will_of_an_old_connection_changes_nothing() {
    let now = presence(true, 1, 2);
    assert!(!presence(false, 1, 1).replaces(Some(&now)));
    assert!(presence(false, 1, 2).replaces(Some(&now)));
    assert!(!presence(false, 9, 2).replaces(Some(&now)));
}

#[test]
fn a_birth_wins_unless_a_later_one_of_its_boot_is_known() {
    assert!(presence(true, 1, 1).replaces(None));
    assert!(presence(true, 2, 1).replaces(Some(&presence(true, 1, 7))));
    assert!(presence(true, 1, 7).replaces(Some(&presence(false, 1, 7))));
    assert!(!presence(true, 1, 6).replaces(Some(&presence(true, 1, 7))));
}
