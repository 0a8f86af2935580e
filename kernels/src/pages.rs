//! Memory for weights, in large pages where the system gives them to who asks.
//!
//! All weights of a network pass by at each call, one after the other. In pages of 4 KiB the processor
//! looks up a page for every few dozen vectors, which in a virtual machine takes longer than what is
//! computed with them.

/// Bytes of a large page.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 21;

/// An empty list with room for `count` elements. Large pages are asked for what fills some; the advice
/// is the system's to take.
pub(crate) fn list_of<T>(count: usize) -> Vec<T> {
    let list = Vec::with_capacity(count);
    advise(&list);
    list
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "advice on memory is given by its address")]
fn advise<T>(list: &Vec<T>) {
    use rustix::mm::{Advice, madvise};

    let start = list.as_ptr().addr();
    let end = (start + list.capacity() * size_of::<T>()) / LARGE * LARGE;
    let first = start.next_multiple_of(LARGE);
    if first < end {
        let at = list.as_ptr().cast::<u8>().wrapping_add(first - start);
        // SAFETY: the pages lie inside the list's own allocation, and the advice changes nothing that is
        // stored in them.
        let advice = unsafe { madvise(at.cast_mut().cast(), end - first, Advice::LinuxHugepage) };
        if let Err(error) = advice {
            tracing::debug!(%error, "no large pages for weights");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_list: &Vec<T>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_any_other() {
        for count in [0, 1, 1 << 10, 3 << 20] {
            let mut list = list_of::<u32>(count);
            assert!(list.capacity() >= count);
            list.extend((0..count).map(|at| u32::try_from(at).unwrap()));
            assert!(list.iter().enumerate().all(|(at, one)| at == *one as usize));
        }
    }
}
