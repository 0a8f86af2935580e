//! The export: all committed records as one checksummed file.
//!
//! It is the copy that the box is rebuilt from when sled fails. Two generations are kept in
//! `{state}/export/`, named `state-{generation, 20 digits}.export`:
//!
//! ```text
//! magic "EDGEWARD" | layout u16 le (0 or 1) | postcard{generation: u64, records: [(name, envelope)]} | BLAKE3 of all before
//! ```
//!
//! The generation before those is not removed: it becomes `spare.tmp`, over which the next export is
//! written before it takes its own name. Giving the blocks of a synced file back costs a file system
//! more than all syncs of a change together (ext4: 2 ms for the removal, 0.5 ms for three syncs), and
//! writing over them wears no flash for the map of free blocks.
//!
//! ```text
//! write over spare -> fsync -> rename to state-N -> rename state-(N-2) to spare -> fsync directory
//! ```
//!
//! Both names are durable before the spare is written again, so a power cut never finds new bytes
//! under an old name: the two newest exports are whole at every moment.

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_base::durable::{DurableFile, DurableFs};
use serde::{Deserialize, Serialize};

use super::database::has_prefix;
use super::shelf::Stored;

const MAGIC: &[u8; 8] = b"EDGEWARD";
/// The layout of the file. Layout 0 has the same fields; what is older than layout 1 knows no
/// numbered databases.
pub(super) const LAYOUT: u16 = 1;
const DIGEST_BYTES: usize = 32;
/// The newest and the one before it.
const KEPT: usize = 2;
/// What the name of an export begins with; others in the directory are kept for a way back.
const PREFIX: &str = "state-";
/// The file that the next export is written to.
pub(super) const SPARE: &str = "spare.tmp";

/// All committed records of one generation.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Export {
    pub(super) generation: u64,
    pub(super) records: Vec<Stored>,
}

/// The exports found in a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) newest: Option<Export>,
    /// Where that lies, and its layout.
    pub(super) newest_path: Option<PathBuf>,
    pub(super) layout: u16,
    pub(super) damaged: Vec<PathBuf>,
    /// The layout of a file that a newer binary wrote.
    pub(super) newer_layout: Option<u16>,
}

impl Found {
    /// The generation of the newest sound export.
    pub(super) fn generation(&self) -> Option<u64> {
        self.newest.as_ref().map(|export| export.generation)
    }
}

/// An export that was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteExportError {
    #[error("cannot serialise the export")]
    Serialise(#[source] postcard::Error),
    #[error("cannot write the export")]
    Write(#[source] io::Error),
}

/// Writes an export, durably, and keeps one that it makes superfluous as the spare file.
pub(super) fn write(
    fs: &dyn DurableFs,
    directory: &Path,
    export: &Export,
) -> Result<(), WriteExportError> {
    let bytes = serialise(LAYOUT, export)?;
    replace_spare(fs, directory, export.generation, &bytes).map_err(WriteExportError::Write)
}

/// The bytes of an export file of this layout.
pub(super) fn serialise(layout: u16, export: &Export) -> Result<Vec<u8>, WriteExportError> {
    let mut bytes = [MAGIC.as_slice(), &layout.to_le_bytes()].concat();
    bytes = postcard::to_extend(export, bytes).map_err(WriteExportError::Serialise)?;
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    Ok(bytes)
}

/// The name of the export of a generation.
pub(super) fn file_name(generation: u64) -> String {
    format!("{PREFIX}{generation:020}.export")
}

/// Writes `bytes` over the spare file and gives it the name of its generation.
fn replace_spare(
    fs: &dyn DurableFs,
    directory: &Path,
    generation: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let spare = directory.join(SPARE);
    let mut file = open_or_create(fs, &spare)?;
    file.write_at(0, bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    drop(file);
    fs.rename(&spare, &directory.join(file_name(generation)))?;
    // What is superfluous harms nothing: a failure to move it must not fail the change.
    if let Err(error) = spare_superfluous(fs, directory) {
        tracing::warn!(%error, "cannot move superfluous exports out of the way");
    }
    fs.sync_dir(directory)
}

fn open_or_create(fs: &dyn DurableFs, path: &Path) -> io::Result<Box<dyn DurableFile>> {
    match fs.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs.create_new(path),
        opened => opened,
    }
}

/// The newest superfluous export becomes the spare file; more of them are what an earlier failure
/// left, and go.
fn spare_superfluous(fs: &dyn DurableFs, directory: &Path) -> io::Result<()> {
    let paths = newest_first(fs, directory)?;
    let mut superfluous = paths.iter().skip(KEPT);
    if let Some(path) = superfluous.next() {
        fs.rename(path, &directory.join(SPARE))?;
    }
    superfluous.try_for_each(|path| fs.remove(path))
}

/// Looks for the newest sound export.
pub(super) fn find(fs: &dyn DurableFs, directory: &Path) -> io::Result<Found> {
    find_up_to(fs, directory, u64::MAX)
}

/// Looks for the newest sound export that is no newer than `generation`. A file that cannot be read
/// counts as damaged.
pub(super) fn find_up_to(
    fs: &dyn DurableFs,
    directory: &Path,
    generation: u64,
) -> io::Result<Found> {
    let mut found = Found::default();
    for path in newest_first(fs, directory)? {
        match read(fs, &path) {
            Parsed::Sound(export, layout) => {
                if found.newest.is_none() && export.generation <= generation {
                    found.layout = layout;
                    found.newest_path = Some(path);
                    found.newest = Some(export);
                }
            }
            Parsed::Damaged => found.damaged.push(path),
            Parsed::Newer(layout) => found.newer_layout = Some(layout),
        }
    }
    Ok(found)
}

/// The highest generation that the name of a file tells, whether the file is sound or not.
pub(super) fn highest(fs: &dyn DurableFs, directory: &Path) -> io::Result<u64> {
    let paths = newest_first(fs, directory)?;
    Ok(paths
        .iter()
        .filter_map(|path| named(path))
        .max()
        .unwrap_or(0))
}

/// Reads a file in the directory of exports. One that tells another generation than its name does
/// is damaged.
pub(super) fn read(fs: &dyn DurableFs, path: &Path) -> Parsed {
    let parsed = match fs.read(path) {
        Ok(bytes) => parse(&bytes),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read an export of the state");
            Parsed::Damaged
        }
    };
    match parsed {
        Parsed::Sound(export, _) if named(path) != Some(export.generation) => Parsed::Damaged,
        parsed => parsed,
    }
}

/// The generation in an export's name.
pub(super) fn named(path: &Path) -> Option<u64> {
    let name = path.file_stem()?.to_str()?;
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The export files; a name has its generation in 20 digits, so names sort as generations do.
pub(super) fn newest_first(fs: &dyn DurableFs, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs.list(directory)?;
    paths.retain(|path| {
        let exported = path
            .extension()
            .is_some_and(|extension| extension == "export");
        exported && has_prefix(path, PREFIX)
    });
    paths.reverse();
    Ok(paths)
}

/// What a file says.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A whole export, and its layout.
    Sound(Export, u16),
    Damaged,
    /// The layout of a newer binary.
    Newer(u16),
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some((content, digest)) = bytes.split_last_chunk::<DIGEST_BYTES>() else {
        return Parsed::Damaged;
    };
    if Digest::of(content).as_bytes() != digest {
        return Parsed::Damaged;
    }
    let Some((layout, body)) = content
        .strip_prefix(MAGIC)
        .and_then(<[u8]>::split_first_chunk::<2>)
    else {
        return Parsed::Damaged;
    };
    let layout = u16::from_le_bytes(*layout);
    if layout > LAYOUT {
        return Parsed::Newer(layout);
    }
    postcard::from_bytes(body).map_or(Parsed::Damaged, |export| Parsed::Sound(export, layout))
}
