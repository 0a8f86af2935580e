//! How long a prediction takes while the disk is full, beside one with room, in alternating phases
//! of one run.
//!
//! The state directory lies on a small tmpfs that is filled and emptied. Root only.
//!
//! `EDGEWARD_BIN` names the release build of `edgeward` (default: the one of this workspace).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use edgeward_base::units::ByteCount;
use edgeward_benches::load::{Subject, round, rows};
use edgeward_benches::{median, quantile};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::disk::FullDisk;
use edgeward_harness::{floors, wait};

/// Pairs of phases.
const PHASES: usize = 10;
const CONNECTIONS: usize = 4;
const REQUESTS: u64 = 10_000;
/// What a full disk may cost at the 99th percentile, in a long run.
const MOST: f64 = 1.2;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(disk) = FullDisk::tmpfs("full_disk", ByteCount::mib(256)) else {
        return;
    };
    let mut device = Device::new(&DeviceOptions {
        // What a segment has reserved takes rows on a full disk: small ones are full soon.
        config: "[inference_table]\ncommit_interval = \"200ms\"\nseal_size = \"64KiB\"\n"
            .to_owned(),
        disk: Some(disk.path()),
        ..DeviceOptions::default()
    });
    device.start();
    let subject = Subject::with_rows(&mut device);
    let (mut with_room, mut full) = (Vec::new(), Vec::new());
    let p99 = |subject: &Subject| {
        let mut walls = round(subject, CONNECTIONS, REQUESTS).wall_micros;
        quantile(&mut walls, 0.99)
    };
    p99(&subject);
    for _ in 0..PHASES {
        with_room.push(p99(&subject));
        disk.fill();
        // The log finds the disk full, or the keeper does first and takes no row any more.
        let missing = || rows(&device, "lost") + rows(&device, "refused");
        let before = missing();
        wait::until("rows find no room", || {
            disk.fill();
            drop(round(&subject, CONNECTIONS, REQUESTS / 100));
            (missing() > before).then_some(())
        });
        full.push(p99(&subject));
        disk.empty();
        let committed = rows(&device, "committed");
        wait::until("rows are durable again", || {
            drop(round(&subject, CONNECTIONS, REQUESTS / 100));
            (rows(&device, "committed") > committed).then_some(())
        });
    }
    let (with_room, full) = (median(&mut with_room), median(&mut full));
    let ratio = full / with_room;
    println!(
        "p99 of a prediction, median of {PHASES} phases of {REQUESTS} requests: {with_room:.0} us \
         with room, {full:.0} us with a full disk: {ratio:.3}"
    );
    assert!(
        !floors::is_soak() || ratio <= MOST,
        "a full disk costs more than {MOST}"
    );
    device.stop();
}
