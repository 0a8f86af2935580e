//! Segment files: their names, their start, and reading them up to the first damage.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use edgeward_base::clock::Clock;
use edgeward_base::names::{BootId, DeviceId, TableName};
use serde::{Deserialize, Serialize};

use super::frame::{self, Found, FrameKind};

/// First bytes of every segment. The digit is the version of the format.
pub(super) const MAGIC: &[u8; 16] = b"EDGEWARD ROWS 1\n";
/// That of version 0.
pub(super) const MAGIC_0: &[u8; 16] = b"EDGEWARD ROWS 0\n";
/// What all versions start with.
const FAMILY: &[u8] = b"EDGEWARD ROWS ";
/// The version that is written.
const VERSION: u8 = 1;

/// Which segment of the log. Orders as the log was written, within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct WalName {
    pub(in super::super) boot: BootId,
    /// From 1.
    pub(in super::super) number: u32,
}

impl WalName {
    /// The segment's file in `wal`, the folder of the log.
    pub(in super::super) fn path(self, wal: &Path) -> PathBuf {
        wal.join(self.to_string())
    }

    /// The segment whose file this is.
    pub(in super::super) fn of_path(path: &Path) -> Option<Self> {
        path.file_name()?.to_str()?.parse().ok()
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:08}.wal", self.boot, self.number)
    }
}

/// A file name that is no segment's.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct ParseWalNameError;

impl FromStr for WalName {
    type Err = ParseWalNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (boot, number) = text
            .strip_suffix(".wal")
            .and_then(|text| text.split_once('-'))
            .ok_or(ParseWalNameError)?;
        let name = Self {
            boot: boot.parse().map_err(|_| ParseWalNameError)?,
            number: number.parse().map_err(|_| ParseWalNameError)?,
        };
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(ParseWalNameError)
        }
    }
}

/// A segment that takes no more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct WalSegment {
    pub(in super::super) name: WalName,
    /// Where its last commit ends, when that is known: what follows was never acknowledged.
    pub(in super::super) committed: Option<u64>,
}

/// The header of version 0.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header0<'a> {
    pub(super) device: &'a str,
    pub(super) opened_us: i64,
}

/// The header of a segment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header<'a> {
    /// Again, under the CRC: a flipped bit of the magic makes no other version.
    version: u8,
    #[serde(borrow)]
    opening: Opening<'a>,
}

/// What was known when a segment was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Opening<'a> {
    pub(in super::super) device: &'a str,
    /// Wall clock, microseconds since the Unix epoch.
    pub(in super::super) opened_us: i64,
    /// Which boot of this box it is; 0 while that is not known.
    pub(in super::super) ordinal: u32,
    /// Which start of the machine, and how many microseconds after it the monotonic time of the
    /// process was zero.
    pub(in super::super) machine: Option<(u128, u64)>,
    /// The sequence that each table's next row takes: what an earlier segment lost shows here.
    #[serde(borrow)]
    pub(in super::super) tables: Vec<(&'a str, u64)>,
}

/// The start of a segment: magic and header.
pub(super) fn start(name: WalName, opening: Opening<'_>) -> Result<Vec<u8>, std::io::Error> {
    let version = VERSION;
    let header =
        postcard::to_stdvec(&Header { version, opening }).map_err(std::io::Error::other)?;
    let offset = MAGIC.len() as u64;
    let frame = frame::encode(name, offset, FrameKind::Header, &[&header])?;
    Ok([MAGIC.as_slice(), &frame].concat())
}

/// What stands at the start of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Start<'a> {
    /// A good header; the first batch stands at `batches`.
    Good {
        opening: Opening<'a>,
        batches: usize,
    },
    /// Nothing was ever written.
    Empty,
    /// A later version of this program wrote it, and is to read it again.
    Newer,
    /// Anything else.
    Damaged,
}

/// Reads the start of the segment `bytes`.
pub(in super::super) fn read_start(name: WalName, bytes: &[u8]) -> Start<'_> {
    let Some(magic) = bytes.first_chunk::<16>() else {
        let empty = frame::is_zero(bytes);
        return if empty { Start::Empty } else { Start::Damaged };
    };
    let header = match frame::decode(name, bytes, MAGIC.len()) {
        Found::Frame {
            kind: FrameKind::Header,
            data,
            end,
        } => Some((data, end)),
        _ => None,
    };
    if magic == MAGIC_0 {
        return header
            .and_then(|(data, end)| Some((postcard::from_bytes::<Header0<'_>>(data).ok()?, end)))
            .map_or(Start::Damaged, |(header, batches)| Start::Good {
                opening: Opening {
                    device: header.device,
                    opened_us: header.opened_us,
                    ..Opening::default()
                },
                batches,
            });
    }
    let ours = header
        .and_then(|(data, end)| Some((postcard::from_bytes::<Header<'_>>(data).ok()?, end)))
        .filter(|(header, _)| header.version == VERSION);
    match (ours, magic) {
        (Some((header, batches)), MAGIC) => Start::Good {
            opening: header.opening,
            batches,
        },
        (None, magic) if is_later(magic) => Start::Newer,
        _ if frame::is_zero(bytes) => Start::Empty,
        _ => Start::Damaged,
    }
}

/// Whether this magic names a version after ours.
fn is_later(magic: &[u8; 16]) -> bool {
    matches!(
        magic.strip_prefix(FAMILY),
        Some([version @ b'0'..=b'9', b'\n']) if *version > b'0' + VERSION
    )
}

/// The tables that an opening names, with the sequence of the next row of each.
pub(in super::super) fn tables_of(opening: &Opening<'_>) -> Vec<(TableName, u64)> {
    let known = opening.tables.iter();
    known
        .filter_map(|(name, next)| Some((name.parse().ok()?, *next)))
        .collect()
}

/// The start of a segment that this boot opens now.
pub(super) fn opening<'a>(
    device: &'a DeviceId,
    ordinal: u32,
    clock: &dyn Clock,
    next: impl Iterator<Item = (&'a TableName, &'a u64)>,
) -> Opening<'a> {
    let since_zero = clock.monotonic_micros();
    let machine = clock.machine();
    Opening {
        device: device.as_str(),
        opened_us: clock.wall_micros(),
        ordinal,
        machine: machine.map(|now| (now.boot, now.micros.saturating_sub(since_zero))),
        tables: next.map(|(table, next)| (table.as_str(), *next)).collect(),
    }
}

/// Where the last frame of the segment `bytes` ends, when that is good and nothing but zeros
/// follows: they were reserved and never written. `None` of what is damaged, or of a later version.
pub(in super::super) fn end_of_frames(name: WalName, bytes: &[u8]) -> Option<usize> {
    let mut end = match read_start(name, bytes) {
        Start::Good { batches, .. } => batches,
        Start::Empty => 0,
        Start::Newer | Start::Damaged => return None,
    };
    loop {
        match frame::decode(name, bytes, end) {
            Found::Frame {
                kind: FrameKind::Batch | FrameKind::CompressedBatch,
                end: next,
                ..
            } => end = next,
            Found::End => return Some(end),
            Found::Frame { .. } | Found::Bad => return None,
        }
    }
}

/// One step through a segment.
#[derive(Debug)]
pub(in super::super) enum Step<'a> {
    /// A group commit.
    Batch {
        /// Where its frame starts.
        offset: usize,
        /// Its entries.
        batch: Cow<'a, [u8]>,
    },
    /// Nothing good from this offset to the end of the file. Always the last step.
    BadTail(usize),
}

/// The batches of the segment `bytes`, in order, up to its end or the first damage.
///
/// A segment without a good start is all bad tail; one of a later version has no batch for us.
pub(in super::super) fn read_frames(name: WalName, bytes: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let start = read_start(name, bytes);
    let mut bad_start = start == Start::Damaged;
    let mut at = match start {
        Start::Good { batches, .. } => Some(batches),
        _ => None,
    };
    std::iter::from_fn(move || {
        if std::mem::take(&mut bad_start) {
            return Some(Step::BadTail(0));
        }
        let offset = at?;
        let batch = match frame::decode(name, bytes, offset) {
            Found::Frame {
                kind: FrameKind::Batch,
                data,
                end,
            } => Some((Cow::Borrowed(data), end)),
            Found::Frame {
                kind: FrameKind::CompressedBatch,
                data,
                end,
            } => frame::decompress(data)
                .ok()
                .map(|batch| (Cow::Owned(batch), end)),
            Found::Frame {
                kind: FrameKind::Header,
                ..
            }
            | Found::Bad => None,
            Found::End => {
                at = None;
                return None;
            }
        };
        at = batch.as_ref().map(|(_, end)| *end);
        Some(
            batch.map_or(Step::BadTail(offset), |(batch, _)| Step::Batch {
                offset,
                batch,
            }),
        )
    })
}
