//! What can be seen of the box from outside while it runs: its memory and its disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What POSIX counts blocks in.
const BLOCK: u64 = 512;

/// What was seen at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The mark that the box was at, per cent.
    pub(crate) mark: Option<u64>,
    /// Its memory, kB: pages of its own, without those of its binary.
    pub(crate) memory: u64,
    /// Blocks of all of its files, bytes.
    pub(crate) disk: u64,
}

/// The memory that a process has of its own, kB, while it is there.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss_Anon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What all files below a folder take of the disk, but for the ballast, which is of one size. Files
/// may come and go meanwhile.
pub(crate) fn disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        _ if entry.file_name() == "ballast" => 0,
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK,
        Err(_) => 0,
    });
    sizes.sum()
}

/// The median of the memory at a mark, of at least `looks`.
pub(crate) fn median_memory(seen: &[Seen], mark: u64, looks: usize) -> u64 {
    let near = seen.iter().filter(|seen| seen.mark == Some(mark));
    let mut memory: Vec<_> = near.map(|seen| seen.memory).collect();
    memory.sort_unstable();
    assert!(memory.len() >= looks, "{} at {mark} %", memory.len());
    memory[memory.len() / 2]
}
