//! `kill -9` of `edgeward serve` at random moments, under load.

use edgeward_harness::floors;

use crate::fleet::Fleet;
use crate::rounds::{End, ROWS, Rounds};

const NAME: &str = "process.kill";
const SEED: u64 = 0xED9E;

#[test]
fn nothing_acknowledged_is_lost_and_no_row_is_doubled() {
    let Some(fleet) = Fleet::start(NAME, ROWS) else {
        return;
    };
    let mut rounds = Rounds::new(NAME, fleet, SEED);
    for _ in 0..floors::length("process.kill.rounds") {
        let end = End::of_the_process();
        rounds.round(&end, |fleet, _| {
            end.begin();
            fleet.device.kill();
        });
    }
    rounds.settle();
}
