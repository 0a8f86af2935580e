//! Random damages to the files of a box that is off: a flipped bit, a lost end, a page of zeros.
//!
//! Each damage is done to a copy of one state directory. The box must start from it, and whatever
//! it then says of itself, its endpoints, tokens, models and rows must be what it was, or it must
//! name what is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use edgeward_harness::floors;
use rand::SeedableRng;
use rand::rngs::StdRng;

mod golden;
mod strike;
mod truth;

use golden::Golden;
use strike::Strike;
use truth::Truth;

const SEED: u64 = 0xF11B;
/// Boxes that are started at the same time.
const WORKERS: usize = 2;

/// What a damage did.
#[derive(Debug)]
enum Outcome {
    /// Everything is as it was, and nothing is said.
    Harmless,
    /// Something is said: it is as it was all the same, or it is said what is not.
    Detected,
    /// Something else is read, or something is gone, without a word.
    Silent(String),
    /// The box does not start, or does not answer.
    Failed(String),
}

#[derive(Debug, Default)]
struct Tally {
    harmless: u64,
    detected: u64,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Harmless => self.harmless += 1,
            Outcome::Detected => self.detected += 1,
            Outcome::Silent(what) => self.wrong.push(format!("SILENT {what}")),
            Outcome::Failed(what) => self.wrong.push(format!("FAILED {what}")),
        }
    }
}

#[test]
fn every_damage_is_detected_or_harmless() {
    let golden = Golden::make();
    let truth = undamaged(&golden);
    let damages = floors::length("process.damage.damages");
    let next = AtomicU64::new(0);
    let worker = || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= damages {
                return tally;
            }
            tally.add(damage(&golden, &truth, number));
        }
    };
    let tallies = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        let tallies = workers.into_iter().map(|worker| worker.join().unwrap());
        tallies.collect::<Vec<_>>()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.harmless += tally.harmless;
        all.detected += tally.detected;
        all.wrong.extend(tally.wrong);
    }
    println!(
        "process.damage: {damages} damages; {} detected, {} harmless, {} wrong",
        all.detected,
        all.harmless,
        all.wrong.len()
    );
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    floors::reached("process.damage.damages", damages);
    floors::reached("process.damage.detected", all.detected);
}

/// What the box says when nothing is damaged: twice, since it must be the same.
fn undamaged(golden: &Golden) -> Truth {
    let read = || {
        let (mut device, _folder) = golden.copy();
        device.start();
        Truth::read(&mut device, &golden.token)
    };
    let truth = read();
    let again = read();
    assert!(!again.differs(&truth), "{again:?} after {truth:?}");
    assert_eq!(again.silent(&truth), [""; 0]);
    truth
}

/// Damages a copy and looks what becomes of it.
fn damage(golden: &Golden, truth: &Truth, number: u64) -> Outcome {
    let mut random = StdRng::seed_from_u64(SEED ^ (number << 32));
    let (mut device, _folder) = golden.copy();
    let strike = Strike::random(&device.state(), &mut random);
    if let Err(said) = device.try_start() {
        return Outcome::Failed(format!("{number} {strike}: {said}"));
    }
    let read = catch_unwind(AssertUnwindSafe(|| Truth::read(&mut device, &golden.token)));
    let Ok(found) = read else {
        let said = device.process().output().join("\n");
        return Outcome::Failed(format!("{number} {strike}: it cannot be read\n{said}"));
    };
    let silent = found.silent(truth);
    if !silent.is_empty() {
        let said = &found.said;
        return Outcome::Silent(format!("{number} {strike}: {silent:?}; it says {said:?}"));
    }
    if found.differs(truth) {
        Outcome::Detected
    } else {
        Outcome::Harmless
    }
}
