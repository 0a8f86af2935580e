//! Segment files: their names, their start, and reading them up to the first damage.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use edgeward_base::names::{BootId, DeviceId};
use serde::{Deserialize, Serialize};

use super::frame::{self, Found, FrameKind};

/// First bytes of every segment. The digit is the version of the format.
pub(super) const MAGIC: &[u8; 16] = b"EDGEWARD ROWS 0\n";

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

/// The header of a segment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header<'a> {
    pub(super) device: &'a str,
    pub(super) opened_us: i64,
}

/// The start of a segment: magic and header.
pub(super) fn start(
    name: WalName,
    device: &DeviceId,
    opened_us: i64,
) -> Result<Vec<u8>, std::io::Error> {
    let header = postcard::to_stdvec(&Header {
        device: device.as_str(),
        opened_us,
    })
    .map_err(std::io::Error::other)?;
    let offset = MAGIC.len() as u64;
    let frame = frame::encode(name, offset, FrameKind::Header, &[&header])?;
    Ok([MAGIC.as_slice(), &frame].concat())
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
/// A segment without a good start is all bad tail.
pub(in super::super) fn read_frames(name: WalName, bytes: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut at = start_of_batches(name, bytes);
    let mut bad_start = at.is_none() && bytes.iter().any(|byte| *byte != 0);
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

/// Where the first batch stands, when magic and header are good.
fn start_of_batches(name: WalName, bytes: &[u8]) -> Option<usize> {
    bytes.strip_prefix(MAGIC.as_slice())?;
    match frame::decode(name, bytes, MAGIC.len()) {
        Found::Frame {
            kind: FrameKind::Header,
            data,
            end,
        } => postcard::from_bytes::<Header<'_>>(data).ok().map(|_| end),
        _ => None,
    }
}
