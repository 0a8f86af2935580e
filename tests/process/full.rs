//! A disk that fills up under a running box, and has room again later.
//!
//! The state directory lies on a small tmpfs. Predictions go on; rows that the disk does not take
//! are counted; a box that starts while its disk is full serves; with room again everything lands.

use std::collections::BTreeSet;

use edgeward_base::units::ByteCount;
use edgeward_harness::disk::FullDisk;
use edgeward_harness::http::Client;
use edgeward_harness::{floors, wait};
use serde_json::json;

use crate::fleet::{Disks, Fleet, QUICK_ROWS};
use crate::rounds::all_landed;
use crate::samples::Golden;

const NAME: &str = "process.full";
const ROOM: ByteCount = ByteCount::mib(64);
/// Requests in each phase.
const REQUESTS: usize = 300;

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
    wait::until("the rows are durable", || {
        (rows(&fleet, "committed") >= REQUESTS.try_into().unwrap()).then_some(())
    });
    // What lands makes room: without a broker nothing does.
    fleet.broker.kill();
    disk.fill();
    let mut unsure = ask(&mut fleet);
    wait::until("rows find no room", || {
        disk.fill();
        unsure.extend(ask(&mut fleet));
        (rows(&fleet, "lost") > 0).then_some(())
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
    owed.extend(ask(&mut fleet));
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
