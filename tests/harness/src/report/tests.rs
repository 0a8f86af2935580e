use super::*;

fn below(report: &str) -> Vec<String> {
    let floors = [("process.kill.rounds", 50), ("suite.traffic.seeds", 3)];
    let floors = floors.map(|(name, floor)| (name.to_owned(), floor));
    Report::parse(report).unwrap().below(&floors)
}

const SEEDS: &str = "suite.traffic.seeds: 3 (floor 3)\n";

#[test]
fn floors_that_were_reached_are_no_finding() {
    assert!(below(&format!("{SEEDS}process.kill.rounds: 51 (floor 50)\n")).is_empty());
}

#[test]
fn a_floor_without_a_record_is_a_finding() {
    assert_eq!(
        below(SEEDS),
        ["process.kill.rounds: did not run, the floor is 50"]
    );
}

#[test]
fn one_run_below_the_floor_is_a_finding_though_another_reached_it() {
    let rounds = "process.kill.rounds: 50 (floor 50)\nprocess.kill.rounds: 49 (floor 49)\n";
    assert_eq!(
        below(&format!("{SEEDS}{rounds}")),
        ["process.kill.rounds: 49 cases ran, the floor is 50"]
    );
}

#[test]
fn a_skipped_case_answers_for_its_own_floors_alone() {
    let skipped = |case: &str| below(&format!("{SEEDS}SKIPPED {case}: there is none\n"));
    for its_own in ["process.kill.rounds", "process.kill", "process"] {
        assert!(skipped(its_own).is_empty(), "{its_own}");
    }
    for another in ["process.kil", "process.kill.rounds.more", "suite", "kill"] {
        assert_eq!(skipped(another).len(), 1, "{another}");
    }
}

#[test]
fn what_is_no_record_is_refused() {
    for line in ["", "SKIPPED", "a: b", "a: x (floor 3)"] {
        assert!(
            Report::parse(&format!("{line}\n{SEEDS}")).is_err(),
            "{line}"
        );
    }
}
