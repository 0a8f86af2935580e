//! The allocator of tensors, and how long it keeps what they gave back.
//!
//! A network frees every layer's output as soon as the next layer has read it, and allocates the same
//! sizes again at the next call. mimalloc hands free memory back to the system after a second, so that
//! each second all of it has to be mapped and zeroed once more: a third of the processor time of a
//! network with tensors of megabytes. A process that computes keeps free memory for [`KEPT`] instead,
//! and gives everything back with [`give_back`] once it has nothing to do.
//!
//! Works on the process that has [`Allocator`] as its global allocator, and must never be called for
//! each tensor.

use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

/// The allocator of the binary and of what is measured in its place.
pub use mimalloc::MiMalloc as Allocator;

/// How long free memory stays mapped while the process works: long beside a call of any network, short
/// beside the time for which another process would miss it.
pub const KEPT: Duration = Duration::from_secs(30);

/// `mi_option_purge_delay` of `mimalloc.h`, which the crate does not name: milliseconds.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps free memory for [`KEPT`] from now on. `MIMALLOC_PURGE_DELAY` in the environment has no effect after.
#[expect(unsafe_code, reason = "the allocator has a C interface")]
pub fn keep() {
    let milliseconds = KEPT.as_secs().saturating_mul(1_000);
    // SAFETY: the option exists in the version that is linked, and may be set at any time.
    unsafe { mi_option_set(PURGE_DELAY, milliseconds.try_into().unwrap_or(-1)) };
}

/// Gives all free memory back to the system. What threads keep for themselves follows when they end.
#[expect(unsafe_code, reason = "the allocator has a C interface")]
pub fn give_back() {
    // SAFETY: touches no memory that is in use, and may be called on any thread.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// Far more than other tests of this process use at once.
    const BYTES: usize = 96 << 20;

    /// How often this thread had to wait for a page to be mapped, so far.
    fn faults() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The name of the thread, in brackets, may hold spaces; the tenth field is the eighth after it.
        let mut fields = text.rsplit(')').next().unwrap().split_ascii_whitespace();
        fields.nth(7).unwrap().parse().unwrap()
    }

    /// Page faults of writing to new memory.
    fn touched() -> u64 {
        let before = faults();
        let mut bytes = Vec::<u8>::with_capacity(BYTES);
        bytes.resize(BYTES, 1);
        black_box(&mut bytes);
        faults() - before
    }

    #[test]
    fn free_memory_is_kept_until_it_is_given_back() {
        keep();
        let pages = (BYTES / 4096) as u64;
        touched();
        let kept = touched();
        assert!(
            kept < pages / 10,
            "{kept} of {pages} pages were mapped again"
        );
        give_back();
        let given = touched();
        assert!(
            given > pages / 2,
            "{given} of {pages} pages were mapped again"
        );
    }
}
