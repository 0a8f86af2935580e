//! One damage to one file of a state directory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

/// What a drive writes at once, and so loses at once.
const PAGE: usize = 4096;

/// A damage that was done.
#[derive(Debug)]
pub(super) struct Strike {
    /// Relative to the state directory.
    path: PathBuf,
    what: String,
}

impl fmt::Display for Strike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.what)
    }
}

impl Strike {
    /// Damages one file below `state`: each folder is hit as often as any other, however many
    /// files it has.
    pub(super) fn random(state: &Path, random: &mut StdRng) -> Self {
        let files = files(state);
        let mut kinds: Vec<PathBuf> = files.iter().map(|file| kind(file)).collect();
        kinds.dedup();
        let kind_hit = &kinds[random.random_range(0..kinds.len())];
        let files: Vec<_> = files
            .into_iter()
            .filter(|file| kind(file) == *kind_hit)
            .collect();
        let path = files[random.random_range(0..files.len())].clone();
        let mut bytes = fs::read(state.join(&path)).unwrap();
        // Most of a preallocated file are zeros that nobody looks at.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let at = random.random_range(0..used.max(1));
        let what = match random.random_range(0..3_u8) {
            0 if used > 0 => {
                let bit = random.random_range(0..8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} is flipped")
            }
            1 if used > 0 => {
                let at = at - at % PAGE;
                let end = bytes.len().min(at + PAGE);
                bytes[at..end].fill(0);
                format!("the page from byte {at} on is zero")
            }
            _ => {
                bytes.truncate(at);
                format!("it ends after {at} bytes")
            }
        };
        fs::write(state.join(&path), bytes).unwrap();
        Self { path, what }
    }
}

/// What a file belongs to: `rows/wal`, `db`, ...
fn kind(path: &Path) -> PathBuf {
    let depth = if path.starts_with("rows") { 2 } else { 1 };
    path.iter().take(depth).collect()
}

/// Every file below `state`, relative to it, in order; not the lock, which holds nothing.
fn files(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() != "lock" {
                found.push(entry.path().strip_prefix(state).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
