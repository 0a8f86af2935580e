use super::*;

const TEXT: &str = "# why\n[clients]\nmlflow = 17\n\n[process.kill]\nrounds = 50\nchanges = 200\n\
                    [soak.process.kill]\nrounds = 500\n[soak.week]\nrows = 7\n";

fn floors(text: &str) -> Vec<(String, u64)> {
    let entries = parse(text).unwrap().into_iter();
    let mut floors: Vec<_> = entries.map(|entry| (entry.name, entry.count)).collect();
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
fn a_list_of_names_is_as_high_a_floor_as_it_is_long() {
    let text = "[nodes]\ncases = 3\n[nodes.tract]\npassing = [\n    \"test_abs\",\n    \"test_add\",\n]\n[z]\na = 1\n";
    let found = parse(text).unwrap();
    let names = Some(vec!["test_abs".to_owned(), "test_add".to_owned()]);
    assert_eq!(found.len(), 3);
    let name = "nodes.tract.passing".to_owned();
    assert!(
        found.contains(&Entry {
            name,
            count: 2,
            names
        }),
        "{found:?}"
    );
    assert_eq!(parse("[a]\nb = [\nbare,\n]\n"), Err("bare,"));
}

#[test]
fn what_is_no_whole_number_is_refused() {
    assert_eq!(parse("[a]\nb = many\n"), Err("b = many"));
}
