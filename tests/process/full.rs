//! A disk that fills up under a running box, and has room again later.
//!
//! The state directory lies on a small tmpfs. Predictions go on; rows that the disk does not take
//! are counted; a box that starts while its disk is full serves; with room again everything lands.
//! What lands makes room itself: on a disk without a free byte, and on one of which rows have their
//! whole budget.

use std::collections::BTreeSet;

use edgeward_base::units::ByteCount;
use edgeward_harness::disk::FullDisk;
use edgeward_harness::http::Client;
use edgeward_harness::{floors, wait};
use serde_json::{Value, json};

use crate::fleet::{Disks, Fleet, QUICK_ROWS, RECONNECTED};
use crate::landing::Landing;
use crate::rounds::all_landed;
use crate::samples::Golden;

const NAME: &str = "process.full";
const ROOM: ByteCount = ByteCount::mib(64);
/// Requests in each phase.
const REQUESTS: usize = 300;
/// Words of noise in a request that takes room.
const NOISE_WORDS: u64 = 128;
/// Segments so small that some hundred rows take their whole budget.
const SMALL: &str = "[inference_table]\ncommit_interval = \"50ms\"\nseal_after = \"1s\"\n\
                     seal_size = \"64KiB\"\nfree_floor = \"256KiB\"\n";

/// Asks so often; every request is answered with a prediction. Answers their ids.
fn ask(fleet: &mut Fleet) -> BTreeSet<String> {
    let body = Golden::of("fraud", 3).first_row();
    let mut client = fleet.device.client();
    let asked = (0..REQUESTS).map(|_| {
        let reply = client.post("/serving-endpoints/fraud-detection/invocations", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header("x-request-id").unwrap().to_owned()
    });
    asked.collect()
}

/// Like [`ask`], with bodies that take room: no two are alike. `from` counts them.
fn ask_at_length(fleet: &mut Fleet, from: &mut u64) -> usize {
    let mut body = Golden::of("fraud", 3).first_row();
    let mut client = fleet.device.client();
    for _ in 0..REQUESTS {
        *from += 1;
        let noise = (0..NOISE_WORDS).map(|word| {
            let mixed = (*from * NOISE_WORDS + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{:016x}", mixed ^ (mixed >> 31))
        });
        body["client_request_id"] = json!(noise.collect::<String>());
        let reply = client.post("/serving-endpoints/fraud-detection/invocations", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    REQUESTS
}

/// Whether each of these requests has a row in the landing folder.
fn have_landed(fleet: &Fleet, owed: &BTreeSet<String>) -> bool {
    let landed = Landing::read(&fleet.registry.landing()).request_ids();
    owed.is_subset(&landed)
}

/// Whether no table samples, stops or gives rows up, nor would a new one.
fn every_rung_is_normal(rows: &Value) -> bool {
    let rungs = rows["rungs"].as_object().unwrap().values();
    rungs.chain([&rows["rung"]]).all(|rung| rung == "normal")
}

/// Asks once the keeper has seen that there is room, until when rows are refused or given up.
/// Answers the ids of requests whose rows are all taken.
fn ask_with_room(fleet: &mut Fleet) -> BTreeSet<String> {
    wait::until("the ladder keeps every row", || {
        let status = fleet.device.status();
        let rows = &status["rows"];
        let roomy = rows["free_bytes"].as_u64() > rows["free_floor"].as_u64();
        (roomy && every_rung_is_normal(rows)).then_some(())
    });
    let before = left_out(fleet);
    let asked = ask(fleet);
    assert_eq!(left_out(fleet), before, "every row is taken");
    asked
}

/// Rows that were not taken since the start: sampled, refused, dropped, lost.
fn left_out(fleet: &Fleet) -> u64 {
    let status = fleet.device.status();
    let counters = ["sampled", "refused", "dropped", "lost"];
    let counts = counters.map(|counter| status["rows"][counter].as_u64().unwrap());
    counts.iter().sum()
}

fn rows(fleet: &Fleet, counter: &str) -> u64 {
    fleet.device.status()["rows"][counter].as_u64().unwrap()
}

#[test]
fn a_full_disk_costs_rows_that_are_counted_and_nothing_else() {
    let Some(disk) = FullDisk::tmpfs(NAME, ROOM) else {
        return;
    };
    let path = disk.path();
    let disks = Disks {
        device: Some(&path),
        registry: None,
    };
    let Some(mut fleet) = Fleet::start_on(NAME, QUICK_ROWS, disks) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(50);
    let mut owed = ask(&mut fleet);
    // A full disk may cost rows that are sealed: those that are owed are out of its reach.
    wait::until("the first rows have landed", || {
        have_landed(&fleet, &owed).then_some(())
    });
    // What lands makes room: without a broker nothing does.
    fleet.broker.kill();
    disk.fill();
    let mut unsure = ask(&mut fleet);
    wait::until("rows find no room", || {
        disk.fill();
        unsure.extend(ask(&mut fleet));
        // The log finds the disk full, or the keeper does first and takes no row any more.
        (rows(&fleet, "lost") + rows(&fleet, "refused") > 0).then_some(())
    });
    // A change may have room or not; what matters is that it says which.
    let admin = fleet.device.state().join("admin.sock");
    let change =
        Client::unix(&admin).post("/api/edgeward/v1/tokens", &json!({ "principal": "full" }));
    assert!(
        change.status == 200 || change.json()["error_code"].is_string(),
        "{}",
        change.text()
    );

    disk.fill();
    fleet.device.kill();
    fleet.device.start();
    disk.fill();
    unsure.extend(ask(&mut fleet));

    disk.empty();
    fleet.broker.restart();
    let committed = rows(&fleet, "committed");
    wait::until("rows are durable again", || {
        unsure.extend(ask(&mut fleet));
        (rows(&fleet, "committed") > committed).then_some(())
    });
    owed.extend(ask_with_room(&mut fleet));
    // No start in between: what could not be recovered for want of room is recovered now.
    wait::within(RECONNECTED, "rows with room enough have landed", || {
        let recovered = fleet.device.status()["rows"]["recovery_errors"] == json!([]);
        (recovered && have_landed(&fleet, &owed)).then_some(())
    });
    fleet.device.stop();
    fleet.device.start();
    let (landing, gaps) = all_landed(&fleet, 1);
    let landed = landing.request_ids();
    assert!(owed.is_subset(&landed), "rows with room enough are gone");
    assert!(gaps > 0, "what found no room is counted");
    let unsure = unsure.len();
    println!(
        "process.full: {} requests, all answered; {unsure} of them while the disk was full; {} \
         rows landed, {gaps} sequences in gaps",
        owed.len() + unsure,
        landing.rows()
    );
    floors::reached("process.full.requests", unsure.try_into().unwrap());
    fleet.device.stop();
    fleet.registry.stop();
}

#[test]
fn what_lands_makes_room_on_a_disk_without_a_free_byte() {
    let Some(disk) = FullDisk::tmpfs(NAME, ROOM) else {
        return;
    };
    let path = disk.path();
    let disks = Disks {
        device: Some(&path),
        registry: None,
    };
    // No row may go to make room: what is deleted has landed.
    let stop = "[[inference_table.retention]]\nendpoint = \"fraud-detection\"\nretain = \"stop\"\n";
    let Some(mut fleet) = Fleet::start_on(NAME, &format!("{SMALL}{stop}"), disks) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(50);
    fleet.wait_until_applied();
    fleet.broker.kill();
    let mut from = 0;
    let mut asked = 0;
    wait::until("rows wait for the upload", || {
        asked += ask_at_length(&mut fleet, &mut from);
        (rows(&fleet, "disk_bytes") > 2 << 20).then_some(())
    });
    disk.fill();
    wait::until("no row is taken any more", || {
        disk.fill();
        asked += ask_at_length(&mut fleet, &mut from);
        (rows(&fleet, "refused") > 0).then_some(())
    });
    disk.fill();
    assert_eq!(
        rows(&fleet, "evicted"),
        0,
        "rows of a table that stops went"
    );

    // Nobody empties the disk.
    fleet.broker.restart();
    let committed = rows(&fleet, "committed");
    wait::within(RECONNECTED, "rows are logged again", || {
        asked += ask_at_length(&mut fleet, &mut from);
        (rows(&fleet, "committed") > committed).then_some(())
    });
    assert_eq!(
        rows(&fleet, "evicted"),
        0,
        "rows of a table that stops went"
    );
    fleet.device.stop();
    fleet.device.start();
    accounted_for(&mut fleet, asked);
}

#[test]
fn what_lands_makes_room_in_a_budget_that_is_full() {
    let config = format!("{SMALL}budget = \"1MiB\"\n");
    let Some(mut fleet) = Fleet::start(NAME, &config) else {
        return;
    };
    fleet.publish_models(None);
    fleet.publish_endpoint(50);
    fleet.wait_until_applied();
    fleet.broker.kill();
    let (mut from, mut asked) = (0, 0);
    wait::until("old rows go", || {
        asked += ask_at_length(&mut fleet, &mut from);
        (rows(&fleet, "evicted") > 0 && rows(&fleet, "sampled") > 0).then_some(())
    });
    fleet.broker.restart();
    wait::within(RECONNECTED, "every row is kept again", || {
        let status = fleet.device.status();
        let rows = &status["rows"];
        // The rung is left while the rest still lands: what follows must not climb it again.
        let taken = rows["disk_bytes"].as_u64().unwrap();
        let roomy = taken * 2 < rows["budget"].as_u64().unwrap();
        (every_rung_is_normal(rows) && roomy).then_some(())
    });
    let (committed, sampled) = (rows(&fleet, "committed"), rows(&fleet, "sampled"));
    asked += ask(&mut fleet).len();
    wait::until("rows are logged again", || {
        (rows(&fleet, "committed") == committed + REQUESTS as u64).then_some(())
    });
    assert_eq!(rows(&fleet, "sampled"), sampled);
    fleet.device.stop();
    fleet.device.start();
    accounted_for(&mut fleet, asked);
}

/// Each request that was made is a row or in a gap, in the landing folder.
fn accounted_for(fleet: &mut Fleet, asked: usize) {
    let (landing, gaps) = all_landed(fleet, 1);
    let rows = landing.rows();
    println!("process.full: {asked} requests, {rows} rows landed, {gaps} sequences in gaps");
    assert!(gaps > 0, "what found no room is counted");
    assert_eq!(rows + usize::try_from(gaps).unwrap(), asked);
    floors::reached("process.full.accounted", asked.try_into().unwrap());
    fleet.device.stop();
    fleet.registry.stop();
}
