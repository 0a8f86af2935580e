use super::*;

const TEXT: &str = "# why\n[clients]\nmlflow = 17\n\n[process.kill]\nrounds = 50\nchanges = 200\n\
                    [soak.process.kill]\nrounds = 500\n[soak.week]\nrows = 7\n";

fn floors(text: &str) -> Vec<(String, u64)> {
    let mut floors = parse(text).unwrap();
    floors.sort();
    floors
}

#[test]
fn a_floor_is_named_by_its_section_and_key() {
    let found = floors(TEXT);
    assert!(found.contains(&("clients.mlflow".to_owned(), 17)));
    assert!(found.contains(&("soak.process.kill.rounds".to_owned(), 500)));
    assert_eq!(found.len(), 5);
}

#[test]
fn a_long_run_has_its_own_floors_and_those_of_every_run() {
    let (short, long) = floors(TEXT)
        .into_iter()
        .partition(|(name, _)| !name.starts_with(LONG_RUN));
    let found = in_a_long_run(short, long);
    for (name, count) in [
        ("process.kill.rounds", 500),
        ("process.kill.changes", 200),
        ("week.rows", 7),
    ] {
        assert!(found.contains(&(name.to_owned(), count)), "{found:?}");
    }
    assert_eq!(found.len(), 4);
}

#[test]
fn what_is_no_whole_number_is_refused() {
    assert_eq!(parse("[a]\nb = many\n"), Err("b = many"));
}
