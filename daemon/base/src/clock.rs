//! The only place that reads time.
//!
//! Everything else asks a [`Clock`], so that a test can set the time and a box that starts in 1970
//! behaves the same in a test as in the field. Wall time orders nothing: a box may have no clock.
//! Monotonic time orders events of one process.

#![expect(
    clippy::disallowed_methods,
    reason = "this module is the one that may read the system's clocks"
)]

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod kernel;

/// A source of wall and monotonic time.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since the Unix epoch, UTC. May jump either way.
    fn wall_micros(&self) -> i64;

    /// Microseconds since the process (or the test) started. Never goes back.
    fn monotonic_micros(&self) -> u64;

    /// Whether the wall clock is known to follow a time source.
    fn quality(&self) -> ClockQuality;

    /// The clock of the machine, which goes on from one process to the next; `None` where there is
    /// none.
    fn machine(&self) -> Option<MachineTime> {
        None
    }

    /// Milliseconds since the Unix epoch, UTC: what the REST objects carry.
    fn wall_millis(&self) -> i64 {
        self.wall_micros().div_euclid(1_000)
    }

    /// Time since the process started, for subtraction.
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_micros())
    }
}

/// A clock that many owners read.
pub type SharedClock = Arc<dyn Clock>;

/// Time that processors have spent on this process since it started.
#[must_use]
pub fn processor_time() -> Duration {
    kernel::processor_time()
}

/// A moment by the clock that starts with the machine and goes on while it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTime {
    /// Which start of the machine: random, new at each.
    pub boot: u128,
    /// Microseconds since then.
    pub micros: u64,
}

/// Whether a wall-clock reading can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockQuality {
    /// The kernel says that its clock is synchronised.
    Ntp,
    /// Nothing disciplines the clock: dates may be wrong.
    Unsynced,
}

impl ClockQuality {
    /// The word written into each row of an inference table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Unsynced => "unsynced",
        }
    }
}

/// A change of the wall clock that is no slewing: whether it follows a time source is then asked
/// again at once.
const STEP_MICROS: u64 = 1_000_000;
/// How often [`SystemClock`] asks the kernel whether its clock is disciplined.
const QUALITY_PERIOD_MICROS: u64 = 10_000_000;

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    /// Bit 0: synchronised. The rest: monotonic microseconds of the reading, shifted by one.
    quality: AtomicU64,
    /// Wall minus monotonic microseconds at that reading: a step of the clock ends its time.
    offset: AtomicI64,
    machine_boot: Option<u128>,
}

impl SystemClock {
    /// Starts the monotonic count at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            quality: AtomicU64::new(u64::from(kernel::is_synchronised())),
            offset: AtomicI64::new(i64::MIN),
            machine_boot: kernel::boot(),
        }
    }

    /// The system's clocks behind the shared pointer that the rest of the code takes.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn machine(&self) -> Option<MachineTime> {
        self.machine_boot.map(|boot| MachineTime {
            boot,
            micros: kernel::micros_since_boot(),
        })
    }

    fn wall_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        }
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn quality(&self) -> ClockQuality {
        let now = self.monotonic_micros();
        let seen = self.quality.load(Ordering::Relaxed);
        let offset = self
            .wall_micros()
            .saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        let has_stepped = offset.abs_diff(self.offset.load(Ordering::Relaxed)) > STEP_MICROS;
        let synced = if now.saturating_sub(seen >> 1) < QUALITY_PERIOD_MICROS && !has_stepped {
            seen & 1 == 1
        } else {
            let synced = kernel::is_synchronised();
            self.quality
                .store((now << 1) | u64::from(synced), Ordering::Relaxed);
            self.offset.store(offset, Ordering::Relaxed);
            synced
        };
        if synced {
            ClockQuality::Ntp
        } else {
            ClockQuality::Unsynced
        }
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct TestClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
    synced: AtomicU64,
    /// 0 for none.
    machine_boot: AtomicU64,
}

impl TestClock {
    /// A clock that shows `wall_micros` and a monotonic count of zero, unsynchronised.
    #[must_use]
    pub fn at(wall_micros: i64) -> Arc<Self> {
        let clock = Self::default();
        clock.wall.store(wall_micros, Ordering::SeqCst);
        Arc::new(clock)
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.monotonic.fetch_add(micros, Ordering::SeqCst);
        self.wall
            .fetch_add(i64::try_from(micros).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as a time service would.
    pub fn set_wall_micros(&self, wall_micros: i64) {
        self.wall.store(wall_micros, Ordering::SeqCst);
    }

    /// Starts the machine anew, as the start of this number; 0 takes its clock away.
    pub fn start_machine(&self, boot: u64) {
        self.machine_boot.store(boot, Ordering::SeqCst);
    }

    /// Sets what [`Clock::quality`] answers.
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(u64::from(synced), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn machine(&self) -> Option<MachineTime> {
        let boot = u128::from(self.machine_boot.load(Ordering::SeqCst));
        (boot > 0).then(|| MachineTime {
            boot,
            micros: self.monotonic_micros(),
        })
    }

    fn wall_micros(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic_micros(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }

    fn quality(&self) -> ClockQuality {
        if self.synced.load(Ordering::SeqCst) == 1 {
            ClockQuality::Ntp
        } else {
            ClockQuality::Unsynced
        }
    }
}
