//! Memory that the process can give back to the kernel without losing anything.

use std::fs;
use std::io;
use std::ptr;

use rustix::mm::{Advice, madvise};

use crate::units::ByteCount;

#[cfg(test)]
mod tests;

/// Unmaps every page of machine code; those that are still run come back, a few microseconds each,
/// from the page cache. Most code of a program runs once, when it starts. Returns how many bytes of
/// address space were given back.
///
/// # Errors
/// When the kernel does not say where the code lies, or refuses.
pub fn release_code() -> io::Result<ByteCount> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut released = 0;
    for (start, end) in maps.lines().filter_map(code) {
        release(start, end - start)?;
        released += end - start;
    }
    Ok(ByteCount(released as u64))
}

/// The addresses of a line of `/proc/self/maps`, if it maps code of a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if rights != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (start < end).then_some((start, end))
}

#[expect(unsafe_code, reason = "no safe crate unmaps pages of a file")]
fn release(start: usize, length: usize) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: the range is a private mapping of a file that nobody can write through: no page of
    // it differs from the file, and an access after this reads the same bytes again.
    Ok(unsafe { madvise(start, length, Advice::LinuxDontNeed) }?)
}
