//! What the kernel knows of its clocks.
//!
//! Whether the wall clock follows a time source is the kernel's own flag, `STA_UNSYNC`: chrony,
//! ntpd and systemd-timesyncd clear it, and the kernel sets it again when they have been silent
//! until the error may be 16 s. Where the question is not allowed, the marker file counts that
//! systemd-timesyncd makes once it has set the clock. That a time service runs is no proof.

use std::fs;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What systemd-timesyncd makes when it has set the clock.
const MARKER: &str = "/run/systemd/timesync/synchronized";
/// A random number in the form of a UUID, new at each start of the kernel.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the wall clock follows a time source.
pub(super) fn is_synchronised() -> bool {
    match flags() {
        Some(flags) => flags & libc::STA_UNSYNC == 0,
        None => fs::metadata(MARKER).is_ok(),
    }
}

/// The flags of the kernel's clock; `None` where it may not be asked.
#[expect(unsafe_code, reason = "no safe crate offers adjtimex")]
fn flags() -> Option<libc::c_int> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the kernel writes no more than a `timex`, and reads `modes`, whose zero asks it to
    // change nothing.
    let answer = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    // SAFETY: `timex` is plain numbers, for which zeros are valid, and so is what was written.
    let timex = unsafe { timex.assume_init() };
    (answer >= 0).then_some(timex.status)
}

/// Which start of the machine this is.
pub(super) fn boot() -> Option<u128> {
    let text = fs::read_to_string(BOOT).ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// Time since the machine started, sleep included.
pub(super) fn micros_since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec / 1_000).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}

/// Time that processors have spent on this process.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
