//! Memory for sums on their way to what leaves: each thread keeps some.

use std::cell::RefCell;

thread_local! {
    /// As long as the longest block was that this thread had.
    static KEPT: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `fill` with room for `count` sums, which hold anything.
pub fn with_sums<R>(count: usize, fill: impl FnOnce(&mut [i32]) -> R) -> R {
    let mut sums = KEPT.take();
    if sums.len() < count {
        sums.resize(count, 0);
    }
    let result = fill(sums.get_mut(..count).unwrap_or_default());
    KEPT.set(sums);
    result
}
