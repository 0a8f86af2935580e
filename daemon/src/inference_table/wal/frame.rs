//! Frames: how bytes become something that is either good or not there.

use std::io;

use super::segment::WalName;

/// Bytes before a frame's kind.
const PREFIX: usize = 8;
/// The longest frame that is believed: a commit takes what the channel holds and no more.
const LONGEST: usize = 256 << 20;
/// A batch shorter than this is not worth a compressor's start.
const WORTH_COMPRESSING: usize = 512;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    Header = 0,
    Batch = 1,
    CompressedBatch = 2,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Batch, Self::CompressedBatch]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A good frame; the next one starts at `end`.
    Frame {
        kind: FrameKind,
        data: &'a [u8],
        end: usize,
    },
    /// Nothing but zeros up to the end of the file.
    End,
    /// Something that is no frame.
    Bad,
}

fn crc(name: WalName, offset: u64, length: [u8; 4], content: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&name.boot.0.to_le_bytes());
    crc.update(&name.number.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&length);
    for part in content {
        crc.update(part);
    }
    crc.finalize()
}

/// A frame that holds `data`, for this place and no other.
pub(super) fn encode(
    name: WalName,
    offset: u64,
    kind: FrameKind,
    data: &[&[u8]],
) -> io::Result<Vec<u8>> {
    let length = 1 + data.iter().map(|part| part.len()).sum::<usize>();
    let Some(written) = u32::try_from(length).ok().filter(|_| length <= LONGEST) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a batch of over 256 MiB",
        ));
    };
    let (written, kind) = (written.to_le_bytes(), [kind as u8]);
    let content: Vec<&[u8]> = [kind.as_slice()]
        .into_iter()
        .chain(data.iter().copied())
        .collect();
    let mut frame = Vec::with_capacity(PREFIX + length);
    frame.extend_from_slice(&written);
    frame.extend_from_slice(&crc(name, offset, written, &content).to_le_bytes());
    for part in content {
        frame.extend_from_slice(part);
    }
    Ok(frame)
}

/// Reads what stands at `offset` of the segment `bytes`.
pub(super) fn decode(name: WalName, bytes: &[u8], offset: usize) -> Found<'_> {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.iter().take(PREFIX).all(|byte| *byte == 0) {
        return if is_zero(rest) {
            Found::End
        } else {
            Found::Bad
        };
    }
    read(name, rest, offset).unwrap_or(Found::Bad)
}

/// Whether there is nothing else: compared by the page, for most of a segment that was just opened
/// is that.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut pages = bytes.chunks(ZEROS.len());
    pages.all(|page| ZEROS.starts_with(page))
}

fn read(name: WalName, rest: &[u8], offset: usize) -> Option<Found<'_>> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (written, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let (kind, data) = content.split_first()?;
    let good = crc(name, offset as u64, *length, &[content]) == u32::from_le_bytes(*written);
    let kind = FrameKind::of(*kind).filter(|_| good)?;
    Some(Found::Frame {
        kind,
        data,
        end: offset + PREFIX + content.len(),
    })
}

/// Compresses batches, with one context for all of them.
pub(super) struct Compressor(Option<zstd::bulk::Compressor<'static>>);

impl Compressor {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// The size of the batch and the batch compressed, when that is shorter.
    pub(super) fn compress(&mut self, batch: &[u8]) -> io::Result<Option<([u8; 4], Vec<u8>)>> {
        let Some(size) = u32::try_from(batch.len())
            .ok()
            .filter(|_| batch.len() >= WORTH_COMPRESSING)
        else {
            return Ok(None);
        };
        let compressor = match &mut self.0 {
            Some(compressor) => compressor,
            empty => empty.insert(zstd::bulk::Compressor::new(1)?),
        };
        let compressed = compressor.compress(batch)?;
        let shorter = compressed.len() + 4 < batch.len();
        Ok(shorter.then(|| (size.to_le_bytes(), compressed)))
    }
}

/// The batch in the data of a [`FrameKind::CompressedBatch`].
pub(super) fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a compressed batch without size",
        )
    };
    let (size, compressed) = data.split_first_chunk::<4>().ok_or_else(damaged)?;
    let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| damaged())?;
    zstd::bulk::decompress(compressed, size.min(LONGEST))
}
