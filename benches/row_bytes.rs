//! What one row costs the disk: bytes written to the block device, by rate and commit interval.
//!
//! Each case is a box on an ext4 disk of its own, on a loop device, whose written sectors the
//! kernel counts: the log, the file system's journal, Parquet files, accounts. One request is one
//! row. With `EDGEWARD_SOAK=1` every rate is measured, otherwise the highest alone. Root only.
//!
//! `EDGEWARD_BIN` names the release build of `edgeward` (default: the one of this workspace).

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints, and ends when it cannot measure"
)]

use std::path::Path;
use std::time::Duration;

use edgeward_base::clock::SystemClock;
use edgeward_base::units::ByteCount;
use edgeward_benches::load::{Subject, rows};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::disk::LoopDisk;
use edgeward_harness::process::run;
use edgeward_harness::{floors, wait};

/// Rows in a second, in every run.
const RATE: u64 = 1_000;
/// Rows in a second, in a long run.
const RATES: [u64; 3] = [1, 50, RATE];
const INTERVALS: [&str; 3] = ["200ms", "1s", "5s"];
/// How long each case takes.
const SECONDS: u64 = 60;

/// What a case found.
struct Measured {
    rows: u64,
    written: u64,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rates = if floors::is_soak() {
        RATES.as_slice()
    } else {
        &[RATE]
    };
    println!("bytes written to the block device for each row, {SECONDS} s each:");
    println!("| rows/s | commit after {} |", INTERVALS.join(" | "));
    for rate in rates {
        // Each case waits most of its time: those of one rate run side by side.
        let cases = std::thread::scope(|scope| {
            let cases = INTERVALS.map(|interval| scope.spawn(move || measure(*rate, interval)));
            cases.map(|case| {
                case.join()
                    .unwrap_or_else(|_| panic!("{rate} rows/s failed"))
            })
        });
        let cells = cases.iter().map(|case| match case {
            Some(Measured { rows, written }) => format!("{} ({rows} rows)", written / rows),
            None => "not measured".to_owned(),
        });
        println!("| {rate} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

/// Runs a box at this rate; `None` where there is no disk to be had.
fn measure(rate: u64, interval: &str) -> Option<Measured> {
    let disk = LoopDisk::ext4("row_bytes", ByteCount::mib(512))?;
    let mut device = Device::new(&DeviceOptions {
        config: format!("[inference_table]\ncommit_interval = \"{interval}\"\n"),
        disk: Some(disk.path()),
        ..DeviceOptions::default()
    });
    device.start();
    let subject = Subject::with_rows(&mut device);
    let mut client = device.client();
    let mut ask = || subject.ask(&mut client);
    ask();
    wait_until_committed(&device, 1);
    let before = written(&disk);
    let clock = SystemClock::shared();
    let start = clock.monotonic();
    let asked = rate * SECONDS;
    for row in 0..asked {
        let due = start + Duration::from_micros(row * 1_000_000 / rate);
        wait::pass(due.saturating_sub(clock.monotonic()));
        ask();
    }
    wait_until_committed(&device, asked + 1);
    let written = written(&disk) - before;
    device.stop();
    Some(Measured {
        rows: asked,
        written,
    })
}

fn wait_until_committed(device: &Device, wanted: u64) {
    wait::until("every row is durable", || {
        (rows(device, "committed") >= wanted).then_some(())
    });
}

/// Bytes written so far, with nothing left in memory.
fn written(disk: &LoopDisk) -> u64 {
    let path = disk.path();
    run(
        Path::new("sync"),
        &["--file-system".as_ref(), path.as_os_str()],
    )
    .success();
    disk.written()
}
