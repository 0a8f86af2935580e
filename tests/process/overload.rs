//! Four times as many requests as the box can answer.
//!
//! What a box answers in a second is measured first, by as many callers as it has threads. Then requests
//! come at four times that pace, whether or not earlier ones were answered. Each is answered or refused
//! with 429 and a `Retry-After`; memory stays below the ceiling of the profile, and when it is over the
//! box answers as before.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use edgeward_base::clock::{Clock as _, SystemClock};
use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::http::{Client, Reply};
use edgeward_harness::{floors, wait};
use serde_json::{Value, json};

use crate::samples::{Golden, serve_digits};

const NAME: &str = "process.overload";
const ENDPOINT: &str = "/serving-endpoints/digits/invocations";
/// How many times the capacity comes.
const TIMES: f64 = 4.0;
/// Callers besides one for each thread: more than the box lets wait, so that the pace holds meanwhile.
const CALLERS: usize = 384;
/// The profile's.
const CEILING: u64 = 256 << 20;
const PROFILE: &str = "name = \"small\"\ncommit_interval = \"1s\"\nrow_budget = \"256MB\"\n\
                       memory_ceiling = \"256MiB\"\nscale_to_zero_after = \"30m\"\n\
                       engines = [\"tract\", \"trees\"]\n\
                       [workload_sizes]\nsmall = 25\nmedium = 50\nlarge = 100\n";
/// Rows of a request: some milliseconds of computing.
const ROWS: usize = 128;
/// How long the capacity is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// A device that serves the convolutional network of the samples.
fn device() -> Device {
    let options = DeviceOptions {
        config: "[profile]\nname = \"./small.toml\"\n".to_owned(),
        ..DeviceOptions::default()
    };
    let mut device = Device::new(&options);
    fs::write(device.folder().join("small.toml"), PROFILE).unwrap();
    device.start();
    serve_digits(&mut device);
    device
}

/// The golden rows, over and over.
fn body(golden: &Golden) -> Vec<u8> {
    let split = &golden.body["dataframe_split"];
    let rows = split["data"].as_array().unwrap();
    let rows: Vec<&Value> = rows.iter().cycle().take(ROWS).collect();
    let split = json!({"columns": split["columns"], "data": rows});
    json!({ "dataframe_split": split }).to_string().into_bytes()
}

/// Sends the same request whenever it is told to.
struct Caller<'a> {
    client: Client,
    body: &'a [u8],
}

impl Caller<'_> {
    fn ask(&mut self) -> Reply {
        let kind = [("Content-Type", "application/json")];
        self.client
            .try_send("POST", ENDPOINT, &kind, self.body)
            .unwrap_or_else(|error| panic!("a request got no answer: {error}"))
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Requests answered in a second, asked by as many callers as there are threads.
fn capacity(caller: &(impl Fn() -> Caller<'static> + Sync), clock: &SystemClock) -> f64 {
    let over = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let started = clock.monotonic();
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let mut caller = caller();
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(caller.ask().status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait::pass(MEASURED);
        over.store(true, Ordering::SeqCst);
    });
    let took = clock.monotonic() - started;
    u32::try_from(answered.load(Ordering::SeqCst)).map_or(0.0, f64::from) / took.as_secs_f64()
}

/// What came of the requests, by status.
type Outcomes = BTreeMap<u16, u64>;

/// Lets requests come `pace` times a second for `lasting`.
fn flood(
    caller: &(impl Fn() -> Caller<'static> + Sync),
    clock: &SystemClock,
    pace: f64,
    lasting: Duration,
) -> Outcomes {
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Outcomes::new());
    let started = clock.monotonic();
    thread::scope(|scope| {
        for _ in 0..CALLERS + threads() {
            scope.spawn(|| {
                let mut caller = caller();
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let number = u32::try_from(number).map_or(f64::MAX, f64::from);
                    let due = Duration::from_secs_f64(number / pace);
                    if due > lasting {
                        return;
                    }
                    wait::pass(due.saturating_sub(clock.monotonic() - started));
                    let reply = caller.ask();
                    let status = reply.status;
                    if status == 429 {
                        let after = reply
                            .header("retry-after")
                            .and_then(|text| text.parse().ok());
                        assert!(after.is_some_and(|after: u32| after >= 1), "{reply:?}");
                    }
                    *outcomes.lock().unwrap().entry(status).or_default() += 1;
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// The most memory that a process has held, in bytes.
fn most_resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kilobytes.unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn four_times_the_capacity_is_answered_or_refused_and_takes_no_more_memory() {
    let mut device = device();
    let golden = Golden::of("digits", 1);
    let body: &'static [u8] = Vec::leak(body(&golden));
    let (url, token) = (device.url(), device.token());
    let caller = move || Caller {
        client: Client::tcp(&url).with_token(&token),
        body,
    };
    let clock = SystemClock::new();
    let lasting = Duration::from_secs(floors::length(&format!("{NAME}.seconds")));
    let capacity = capacity(&caller, &clock);
    let outcomes = flood(&caller, &clock, capacity * TIMES, lasting);
    let most = most_resident(device.process().id());
    let count = |status: u16| outcomes.get(&status).copied().unwrap_or_default();
    println!(
        "{NAME}: capacity {capacity:.0} requests a second; {TIMES} times that for {} s: {outcomes:?}; at most {} of {} \
         bytes",
        lasting.as_secs(),
        most,
        CEILING
    );
    assert_eq!(
        outcomes.keys().copied().collect::<Vec<u16>>(),
        [200, 429],
        "{outcomes:?}"
    );
    assert!(most < CEILING, "{most} bytes");
    floors::reached(&format!("{NAME}.seconds"), lasting.as_secs());
    floors::reached(&format!("{NAME}.answered"), count(200));
    floors::reached(&format!("{NAME}.refused"), count(429));
    // As before.
    golden.assert_answers(&device.client().post(ENDPOINT, &golden.body));
    device.stop();
}
