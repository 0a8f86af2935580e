//! The binary: everything is in the library, but for the allocator.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// A request allocates on its own thread and its row is freed on the writer's, and tract asks for
/// many small aligned tensors: the C library's allocator is slow at both. Without huge pages, which
/// would more than double the memory of an idle process (`ARCHITECTURE.md`, decision 16).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What mimalloc calls `mi_option_purge_delay`.
const PURGE_DELAY: c_int = 15;

/// For so many milliseconds memory that was freed stays with the process. The tensors of a call are
/// those of the next one: to give them back after 10 ms, as mimalloc does, and to be given zeroed pages
/// for them again took a third of the time of `MobileNetV2` (`ARCHITECTURE.md`, decision 43).
const PURGED_AFTER: c_long = 1000;

#[expect(unsafe_code, reason = "the crate has no name for this function")]
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: it stores a number among the allocator's options, and no thread has been started.
    unsafe {
        mi_option_set(PURGE_DELAY, PURGED_AFTER);
    }
    edgeward::cli::main()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "the crate has no name for this function")]
    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[expect(unsafe_code, reason = "functions of C")]
    fn purged_after() -> c_long {
        // SAFETY: it reads a number.
        unsafe { mi_option_get(PURGE_DELAY) }
    }

    /// The options are numbered: this one is the one with that default.
    #[test]
    #[expect(unsafe_code, reason = "a function of C")]
    fn the_option_is_the_one_that_is_10_by_default() {
        assert_eq!(purged_after(), 10);
        // SAFETY: as in `main`.
        unsafe { mi_option_set(PURGE_DELAY, PURGED_AFTER) };
        assert_eq!(purged_after(), PURGED_AFTER);
    }
}
